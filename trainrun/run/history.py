"""The curves of a stored run, by the names that TensorBoard shows, read from its records without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Curve = list[tuple[int, float]]  # (step, value), the steps rising
Curves = dict[str, Curve]  # "train/loss", "val/accuracy", "lr", "speed/samples_per_s"

_NOT_DRAWN = {"event", "step", "epoch", "split", "weights", "nonfinite", "time"}
_SPEED = ("samples_per_s", "data_wait")


def curves_of(run_dir: Path) -> Curves:
    """Every number that the run recorded more than in passing, as it stands after rollbacks and resumes.

    What is no finite number is left out; so are lines that cannot be read.
    """
    computed: Curves = {}
    for record in records(run_dir / "metrics.jsonl"):
        if record["event"] == "rollback":
            _cut(computed, record.get("to"))
        elif record["event"] == "train":
            for name, value in _numbers(record):
                _add(computed, name if name.split("/")[0] == "lr" else f"train/{name}", record, value)
        elif record["event"] == "eval":
            for name, value in _numbers(record):
                _add(computed, f"{record.get('split')}/{name}", record, value)
    happened: Curves = {}
    for record in records(run_dir / "timing.jsonl"):
        if record["event"] == "started":
            _cut(happened, record.get("step"))
        elif record["event"] == "train":
            for name, value in _numbers(record):
                if name in _SPEED:
                    _add(happened, f"speed/{name}", record, value)
    return computed | happened


def epochs_of(run_dir: Path) -> float | None:
    """How many epochs the run has come to by its last logged step; None where none is told."""
    found = [r.get("epoch") for r in records(run_dir / "metrics.jsonl") if r["event"] == "train"]
    last = found[-1] if found else None
    return float(last) if isinstance(last, (int, float)) else None


def unread_in(file: Path) -> int:
    """How many lines of a file that stands there are no records; the last may have been cut off by a copy."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    except OSError:
        return 0
    return len(lines) - sum(1 for _ in records(file))


def records(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of lines that name their event and, but for a rollback, their step."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    except OSError:
        return
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("event"), str):
            yield record


def _numbers(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Names and values; those of a part, such as the learning rates by group, as `lr/group`.

    Where the learning rate differs by group, `lr` is the largest.
    """
    for name, value in record.items():
        if name in _NOT_DRAWN:
            continue
        if isinstance(value, Mapping):
            parts = {str(part): float(one) for part, one in value.items() if is_number(one)}
            yield from ((f"{name}/{part}", one) for part, one in parts.items())
            if name == "lr" and parts:
                yield name, max(parts.values())
        elif is_number(value):
            yield name, float(value)


def _add(curves: Curves, name: str, record: Mapping[str, Any], value: float) -> None:
    step = record.get("step")
    if isinstance(step, int) and not isinstance(step, bool):
        curves.setdefault(name, []).append((step, value))


def _cut(curves: Curves, step: Any) -> None:
    """Forget what came after a step, which is computed again."""
    if isinstance(step, int):
        for curve in curves.values():
            while curve and curve[-1][0] > step:
                curve.pop()


def is_number(value: Any) -> bool:
    """Whether it is finite and can be reckoned with, whoever wrote it."""
    is_one = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_one and abs(value) < 1e300
