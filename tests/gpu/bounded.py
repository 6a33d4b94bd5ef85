"""Parts of a check, each in a process group of its own for so many seconds; what they found, as a table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

LAST_LINES = 12  # of a part that failed


@dataclass(frozen=True)
class Row:
    """One finding. `passed` None: a figure, or what was skipped and why."""

    part: str
    name: str
    figure: str
    must: str = ""  # in words, such as "at most 1"
    passed: bool | None = None
    note: str = ""


def write(file: Path, row: Row) -> None:
    """Add a row to a part's file at once, so that it is there whatever comes after."""
    with file.open("a", encoding="utf-8") as rows:
        rows.write(json.dumps(asdict(row)) + "\n")


def read(file: Path) -> list[Row]:
    """The rows of a part's file; the last line may be half a line."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    return [Row(**json.loads(line)) for line in lines if line.endswith("\n")]


def limits(shares: Mapping[str, int], name: str, left_s: float) -> float:
    """The seconds of part `name`: its share of what is left, with all that come after it."""
    names = list(shares)
    later = names[names.index(name) :]
    return max(0.1, left_s * shares[name] / sum(map(shares.__getitem__, later)))


def run_part(name: str, command: Sequence[str], file: Path, seconds: float) -> list[Row]:
    """The rows that `command` wrote into `file`; a failure, or too long a time, is a row as well.

    Whatever it started ends with it, also where this process is interrupted.
    """
    log = file.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    fault = ""
    try:
        if code := process.wait(seconds):
            fault = f"ended with {_in_words(code)}"
    except subprocess.TimeoutExpired:
        fault = f"not done after {seconds:.0f} s"
    finally:
        _end(process)
    rows = read(file)
    return [*rows, Row(name, "the whole part", fault, "done", False, _end_of(log))] if fault else rows


def table(rows: Sequence[Row]) -> str:
    """A line for each row, with what it must be and whether it is; below it the errors."""
    widths = [max([len(getattr(row, field)) for row in rows] or [0]) for field in ("name", "figure", "must")]
    lines, part = [], ""
    for row in rows:
        if row.part != part:
            lines += ["", part := row.part]
        outcome = {None: "", True: "ok", False: "FAILED"}[row.passed]
        note = row.note if "\n" not in row.note else "see below"
        cells = [
            text.ljust(width) for text, width in zip((row.name, row.figure, row.must), widths, strict=True)
        ]
        lines.append(f"  {'  '.join(cells)}  {outcome:6}  {note}".rstrip())
    for row in rows:
        if "\n" in row.note:
            lines += [
                "",
                f"{row.part}, {row.name}: {row.figure}",
                *(f"  {line}" for line in row.note.splitlines()),
            ]
    return "\n".join(lines)


def verdict(rows: Sequence[Row], missing: Sequence[str]) -> str:
    """`12 of 14 rows with a bar passed`, and which parts are not done."""
    judged = [row.passed for row in rows if row.passed is not None]
    text = f"{sum(judged)} of {len(judged)} rows with a bar passed"
    return f"{text}; not done: {', '.join(missing)}" if missing else text


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process's group, and wait until the process is gone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _in_words(code: int) -> str:
    return f"exit code {code}" if code > 0 else signal.Signals(-code).name


def _end_of(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(["", *lines[-LAST_LINES:]])
