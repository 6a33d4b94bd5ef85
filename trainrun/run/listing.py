"""What the folders below outputs/ say of their runs, read without torch and without a full YAML parse."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainrun.run.directory import ROOT, runs, short
from trainrun.run.files import object_in, read_json
from trainrun.run.history import end_of, is_contradicted, is_number, records, step_of
from trainrun.run.lock import is_held
from trainrun.terminal.visible import visible

STATES = ("running", "completed", "interrupted", "failed", "died")
STARTING_S = 3600.0  # longer than building data takes before the first record


@dataclass(frozen=True)
class ListedRun:
    """One stored run. What its files do not tell is None or empty."""

    path: Path
    run: str  # what to type as RUN: its name where that means this run, else its path
    name: str | None  # as given by name=
    sweep: str | None  # the folder of the sweep it is a job of
    state: str  # one of STATES; "died" where it was running and no process owns the folder any more
    reason: str | None  # why it ended
    exit_code: int | None
    data: str
    model: str
    monitor: str  # the metric that decides: "val/accuracy"
    best: float | None  # its best value
    best_step: int | None
    step: int
    total_steps: int | None
    started: float | None  # seconds since 1970
    num_bytes: int  # of everything in the folder
    has_checkpoint: bool


def entries() -> list[ListedRun]:
    """Every run below outputs/, the newest last."""
    names = runs()
    newest = {str(path.relative_to(ROOT)): path for path in names} | {names[path]: path for path in names}
    return [_entry(path, _run(path, name, newest)) for path, name in names.items()]


def is_starting(folder: Path) -> bool:
    """Whether a run may be about to come to be there: without a record, and not for long.

    Until then no process owns it, and a sweep's job may build its data for long.
    """
    has_record = any((folder / name).exists() for name in ("status.json", "checkpoints"))
    return not has_record and time.time() - folder.stat().st_mtime < STARTING_S


def state_of(status: Mapping[str, Any], held: bool) -> str:
    """One of STATES. `held`: a process owns the folder, whatever the status says."""
    if held:
        return "running"
    state = status.get("state")
    return str(state) if state in ("completed", "interrupted", "failed") else "died"


def state_in(run_dir: Path, status: Mapping[str, Any]) -> str:
    """One of STATES, by the lock and the records where the status is lost or contradicts them."""
    state = state_of(status, is_held(run_dir) or is_starting(run_dir))
    if state == "completed" and is_contradicted(run_dir) and _is_ahead(run_dir, status):
        return "died"
    is_lost = state == "died" and not isinstance(status.get("state"), str)
    return "completed" if is_lost and end_of(run_dir) is not None else state


def _is_ahead(run_dir: Path, status: Mapping[str, Any]) -> bool:
    """Whether a status tells of a step that no record has come to."""
    steps = (step_of(record) or 0 for record in records(run_dir / "metrics.jsonl"))
    return (_whole(status.get("step")) or 0) > max(steps, default=0)


def has_checkpoint(run_dir: Path) -> bool:
    """Whether a checkpoint was committed there, valid or not."""
    return any((run_dir / "checkpoints").glob("step-*"))


def _run(path: Path, name: str, newest: dict[str, Path]) -> str:
    """The shortest word that finds the run."""
    if name != path.name and name not in ("", "last") and newest[name] == path:
        return name
    word = short(path)
    return word if word != "last" and newest.get(word, path) == path else str(path)


def printable(value: object) -> str:
    """One printable line: these files may come from anywhere, and a terminal obeys control characters."""
    return visible(str(value if value is not None else "").partition("\n")[0])


def _entry(path: Path, run: str) -> ListedRun:
    status = read_json(path / "status.json")
    monitor, best = printable(status.get("monitor")), object_in(status, "best")
    value = object_in(best, "metrics").get(monitor.partition("/")[2])
    name = printable(status.get("name"))
    is_job = path.parent.parent == ROOT / "multirun" or (path.parent / "multirun.yaml").is_file()
    return ListedRun(
        path=path,
        run=printable(run),
        name=name if name and name != path.name else None,
        sweep=path.parent.name if is_job else None,
        state=state_in(path, status),
        reason=printable(status.get("reason")) or None,
        exit_code=_whole(status.get("exit_code")),
        data=_data(path),
        model=_model(path),
        monitor=monitor,
        best=_number(value),
        best_step=_whole(best.get("step")),
        step=_whole(status.get("step")) or 0,
        total_steps=_whole(status.get("total_steps")),
        started=_number(status.get("started")),
        num_bytes=num_bytes(path),
        has_checkpoint=has_checkpoint(path),
    )


def _data(path: Path) -> str:
    """The data set's own name, as environment.json has it; that file may hold a long diff, so no parse."""
    return printable(_text_of(path / "environment.json", r'^ "data": \{\n  "name": "([^"\\]*)"'))


def _model(path: Path) -> str:
    """The model's `name`, where its settings have one, else the last word of its `_target_`."""
    block = _text_of(path / "config.yaml", r"^model:\n((?:  .*\n)+)")
    settings = dict(re.findall(r"^  (name|_target_): ([\w.]+)$", block, re.M))
    return str(settings.get("name") or settings.get("_target_", "")).rpartition(".")[2]


def num_bytes(folder: Path) -> int:
    """Of all files in a folder; links count as links. What vanishes meanwhile counts nothing."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as scan:
        for entry in scan:
            is_folder = entry.is_dir(follow_symlinks=False)
            total += num_bytes(Path(entry.path)) if is_folder else entry.stat(follow_symlinks=False).st_size
    return total


def _text_of(file: Path, pattern: str) -> str:
    """What a group of a pattern is in a file; empty where it is not there."""
    with contextlib.suppress(OSError):
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        return match[1] if (match := re.search(pattern, text, re.M)) else ""
    return ""


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def _whole(value: Any) -> int | None:
    return int(value) if is_number(value) else None
