"""The curves of a stored run, by the names that TensorBoard shows, read from its records without torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Curve = list[tuple[int, float]]  # (step, value), the steps rising
Curves = dict[str, Curve]  # "train/loss", "val/accuracy", "lr", "speed/samples_per_s"
_Points = dict[str, dict[int, float]]  # the same while they are read: step -> value

_NOT_DRAWN = {"event", "step", "epoch", "split", "weights", "nonfinite", "time"}
_TAIL_BYTES = 1 << 16  # more than the last line of any record
_SPEED = ("samples_per_s", "data_wait")


def curves_of(run_dir: Path) -> Curves:
    """Every number that the run recorded more than in passing, as it stands after rollbacks and resumes.

    What is no finite number is left out; so are lines that cannot be read. Of lines that tell of one
    step twice the later counts, in whatever order they stand.
    """
    points = _computed(run_dir / "metrics.jsonl") | _speeds(run_dir / "timing.jsonl")
    return {name: sorted(by_step.items()) for name, by_step in points.items()}


def _computed(file: Path) -> _Points:
    computed: _Points = {}
    for record in records(file):
        if record["event"] == "rollback":
            _cut(computed, record.get("to"))
        elif record["event"] in ("train", "eval"):
            split = "train" if record["event"] == "train" else record.get("split")
            for name, value in _numbers(record):
                is_rate = record["event"] == "train" and name.split("/")[0] == "lr"
                _add(computed, name if is_rate else f"{split}/{name}", record, value)
    return computed


def _speeds(file: Path) -> _Points:
    happened: _Points = {}
    for record in records(file):
        if record["event"] == "started":
            _cut(happened, record.get("step"))
        elif record["event"] == "train":
            for name, value in _numbers(record):
                if name in _SPEED:
                    _add(happened, f"speed/{name}", record, value)
    return happened


def epochs_of(run_dir: Path) -> float | None:
    """How many epochs the run has come to by its last logged step; None where none is told."""
    epochs = [r.get("epoch") for r in records(run_dir / "metrics.jsonl") if r["event"] == "train"]
    last = epochs[-1] if epochs else None
    return float(last) if isinstance(last, (int, float)) else None


def end_of(run_dir: Path) -> dict[str, Any] | None:
    """The record by which a run came to its end; None where its last record is another, or there is none."""
    lines = _lines(run_dir / "metrics.jsonl", _TAIL_BYTES)
    last = next(filter(None, map(_record, reversed(lines))), None)
    return last if last is not None and last["event"] == "finished" and step_of(last) is not None else None


def is_contradicted(run_dir: Path) -> bool:
    """Whether records tell that a run is not complete, whatever its status says."""
    file = run_dir / "metrics.jsonl"
    return file.is_file() and file.stat().st_size > 0 and end_of(run_dir) is None


def saved_step(run_dir: Path) -> int | None:
    """The step of the checkpoint that was written last, by the records; None where they tell of none."""
    if (end := end_of(run_dir)) is not None:
        return step_of(end)
    steps = [step_of(record) for record in records(run_dir / "timing.jsonl") if record["event"] == "saved"]
    return next((step for step in reversed(steps) if step is not None), None)


def last_evaluations(run_dir: Path, best_step: int | None) -> dict[str, Any]:
    """`metric` and `best` as status.json has them, read from metrics.jsonl."""
    latest: dict[str, Any] = {"metric": None, "best": None}
    for record in records(run_dir / "metrics.jsonl"):
        if record["event"] == "eval" and record.get("split") == "val":
            metrics = {name: value for name, value in record.items() if name not in _NOT_DRAWN}
            latest["metric"] = metrics
            if best_step is not None and step_of(record) == best_step:
                latest["best"] = {"step": best_step, "metrics": metrics}
    return latest


def unread_lines(file: Path, num_bytes: int | None = None) -> int:
    """How many lines of a file, or of its first bytes, are no records; a copy may have cut off the last."""
    lines = _lines(file) if num_bytes is None else _decoded(file.read_bytes()[:num_bytes])
    return sum(_record(line) is None for line in lines)


def records(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of lines that name their event and, but for a rollback, their step."""
    yield from filter(None, map(_record, _lines(file)))


def _lines(file: Path, tail_bytes: int | None = None) -> list[str]:
    """The lines of a file, or of its last bytes; none of what cannot be read, or is a pipe."""
    try:
        if not file.is_file():
            return []
        with file.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(0 if tail_bytes is None else max(0, size - tail_bytes))
            return _decoded(opened.read())
    except OSError:
        return []


def _decoded(content: bytes) -> list[str]:
    return content.decode(errors="replace").splitlines()


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("event"), str) else None


def _numbers(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Names and values; those of a part, such as the learning rates by group, as `lr/group`.

    Where the learning rate differs by group, `lr` is the largest.
    """
    for name, value in record.items():
        if name in _NOT_DRAWN:
            continue
        if isinstance(value, Mapping):
            parts = {str(part): float(number) for part, number in value.items() if is_number(number)}
            yield from ((f"{name}/{part}", number) for part, number in parts.items())
            if name == "lr" and parts:
                yield name, max(parts.values())
        elif is_number(value):
            yield name, float(value)


def _add(curves: _Points, name: str, record: Mapping[str, Any], value: float) -> None:
    if (step := step_of(record)) is not None:
        curves.setdefault(name, {})[step] = value


def _cut(curves: _Points, step: Any) -> None:
    """Forget what came after a step, which is computed again."""
    if isinstance(step, int):
        for points in curves.values():
            for later in [point for point in points if point > step]:
                del points[later]


def step_of(record: Mapping[str, Any], key: str = "step") -> int | None:
    """A record's step; None for what no run can have written."""
    step = record.get(key)
    return step if isinstance(step, int) and step is not True and 0 <= step < 1 << 60 else None


def is_number(value: Any) -> bool:
    """Whether it is finite and can be reckoned with, whoever wrote it."""
    is_one = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_one and abs(value) < 1e300
