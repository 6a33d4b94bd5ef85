"""The curves of a stored run, by the names that TensorBoard shows, read from its records without torch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from trainrun.vocabulary.errors import ConfigError

Curve = list[tuple[int, float]]  # (step, value), the steps rising
Curves = dict[str, Curve]  # "train/loss", "val/accuracy", "lr", "speed/samples_per_s"
_Name = Callable[[Mapping[str, Any], str], str]  # the curve of a record's number

_NOT_DRAWN = {"event", "step", "epoch", "split", "weights", "nonfinite", "time"}
_LINES_AT_ONCE = 256  # beyond which parsing more together saves nothing
_TAIL_BYTES = 1 << 16  # more than the last line of any record


def curves_of(run_dir: Path, left_out: Collection[str] = ()) -> Curves:
    """Every number that the run recorded more than in passing, as it stands after rollbacks and resumes.

    What is no finite number is left out; so are lines that cannot be read, and figures that `left_out`
    names. Of lines that tell of one step twice the later counts, in whatever order they stand.
    """
    names = {*_NOT_DRAWN, *left_out}
    computed = _curves(run_dir / "metrics.jsonl", "rollback", "to", _metric, names)
    return computed | _curves(run_dir / "timing.jsonl", "started", "step", _speed, names)


def history_of(run_dir: Path, frame: bool) -> Any:
    """The curves; with `frame` as a pandas.DataFrame, a row for each step and a column for each curve."""
    curves = curves_of(run_dir)
    if not frame:
        return curves
    try:
        from pandas import DataFrame
    except ImportError:
        text = "a table needs pandas, which is not installed; pip install pandas, or leave frame out"
        raise ConfigError.of("frame", text) from None
    table = DataFrame({name: dict(points) for name, points in curves.items()})
    return table.sort_index().rename_axis("step")


def _curves(file: Path, back: str, to: str, curve_of: _Name, left_out: Collection[str]) -> Curves:
    """The curves of a file, named by `curve_of`; what follows the step `to` of an event `back` is redone."""
    curves: dict[str, dict[int, float]] = {}
    kinds: dict[str, dict[str, dict[int, float]]] = {}  # where numbers go, by kind of record and name
    for record in records(file):
        step = step_of(record)
        if record["event"] == back and isinstance(first := record.get(to), int):
            for points in curves.values():
                for later in [point for point in points if point > first]:
                    del points[later]
        elif record["event"] in ("train", "eval", "probe") and step is not None:
            places = kinds.setdefault(f"{record['event']}/{record.get('split')}", {})
            for name, value in _numbers(record, left_out):
                if name not in places:
                    places[name] = curves.setdefault(curve_of(record, name), {})
                places[name][step] = value
    return {name: sorted(points.items()) for name, points in curves.items() if name}


def _metric(record: Mapping[str, Any], name: str) -> str:
    is_rate = record["event"] == "train" and name.split("/")[0] == "lr"
    split = record["event"] if record["event"] in ("train", "probe") else record.get("split")
    return name if is_rate else f"{split}/{name}"


def _speed(record: Mapping[str, Any], name: str) -> str:
    is_drawn = record["event"] == "train" and name in ("samples_per_s", "data_wait")
    return f"speed/{name}" if is_drawn else ""


def epochs_of(run_dir: Path) -> float | None:
    """How many epochs the run has come to by its last logged step; None where none is told."""
    file = run_dir / "metrics.jsonl"
    near_end = (record for line in _lines(file, _TAIL_BYTES) for record in _records([line]) if record)
    logged = [record for record in near_end if record["event"] == "train"]
    logged = logged or [record for record in records(file) if record["event"] == "train"]
    last = logged[-1].get("epoch") if logged else None
    return float(last) if isinstance(last, (int, float)) else None


def end_of(run_dir: Path) -> dict[str, Any] | None:
    """The record by which a run came to its end; None where its last record is another, or there is none."""
    lines = [*_lines(run_dir / "metrics.jsonl", _TAIL_BYTES)]
    last = next((record for line in reversed(lines) for record in _records([line]) if record), None)
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


def unread_lines(file: Path, num_bytes: int) -> int:
    """How many lines of a file's first bytes are no records; a copy may have cut off the last."""
    text = file.read_bytes()[:num_bytes].decode(errors="replace")
    return sum(_records([line]) == [None] for line in text.splitlines())


def records(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of lines that name their event and, but for a rollback, their step."""
    yield from filter(None, records_or_none(file))


def records_or_none(file: Path) -> Iterator[dict[str, Any] | None]:
    """The same, and None for each line that is no record."""
    lines = _lines(file)
    while together := list(islice(lines, _LINES_AT_ONCE)):
        yield from _records(together)


def _lines(file: Path, num_last_bytes: int | None = None) -> Iterator[str]:
    """The lines of a file, or in its last bytes, one at a time: it may be large.

    Those in the last bytes may begin with a part of one. None of what cannot be read, or is a pipe.
    """
    with contextlib.suppress(OSError):
        if file.is_file():
            with file.open("rb") as opened:
                if num_last_bytes is not None:
                    opened.seek(max(0, file.stat().st_size - num_last_bytes))
                for line in opened:
                    yield line.decode(errors="replace")


def _records(lines: Sequence[str]) -> list[dict[str, Any] | None]:
    """The record of each line, None where it is none. Parsed as one, they share the strings of their keys."""
    try:
        values = json.loads(f"[{','.join(lines)}]")
    except (ValueError, RecursionError):
        values = []
    if len(values) != len(lines):  # of which line is asked one by one
        return [_records([line])[0] for line in lines] if len(lines) > 1 else [None]
    return [
        value if isinstance(value, dict) and isinstance(value.get("event"), str) else None for value in values
    ]


def _numbers(record: Mapping[str, Any], left_out: Collection[str]) -> Iterator[tuple[str, float]]:
    """Names and values; those of a part, such as the learning rates by group, as `lr/group`.

    Where the learning rate differs by group, `lr` is the largest.
    """
    for name, value in record.items():
        if name in left_out:
            continue
        if isinstance(value, dict):
            parts = {str(part): float(number) for part, number in value.items() if is_number(number)}
            yield from ((f"{name}/{part}", number) for part, number in parts.items())
            if name == "lr" and parts:
                yield name, max(parts.values())
        elif is_number(value):
            yield name, float(value)


def step_of(record: Mapping[str, Any], key: str = "step") -> int | None:
    """A record's step; None for what no run can have written."""
    step = record.get(key)
    return step if isinstance(step, int) and step is not True and 0 <= step < 1 << 60 else None


def is_number(value: Any) -> bool:
    """Whether it is finite and can be reckoned with, whoever wrote it."""
    is_one = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_one and abs(value) < 1e300
