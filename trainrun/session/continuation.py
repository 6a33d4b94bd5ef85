"""Where a run goes on from, judged as a whole before anything in its folder is changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainrun import ranks
from trainrun.assembly.build import Parts
from trainrun.assembly.schedule import LRPreview
from trainrun.checkpoint.reader import run_id_of, steps_in
from trainrun.checkpoint.store import load_newest
from trainrun.data.order import position_after
from trainrun.protocols import Position
from trainrun.run.history import records, saved_step, unread_lines
from trainrun.session.changes import RunOptions, table
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import CannotResume


@dataclass(frozen=True)
class StoredState:
    """What a folder holds to go on from: its run's id, and the parts of the newest valid checkpoint."""

    run_id: str | None
    parts: dict[str, Any] | None
    metrics_bytes: int  # of metrics.jsonl, as it was when they were stored


NOTHING = StoredState(None, None, 0)  # of a new run


def stored_state(run_dir: Path) -> StoredState:
    """Read it, and change nothing. Raises CannotResume where less is there than the records tell of.

    Says which checkpoints are damaged or gone, and that there is none yet.
    """
    run_id, folder = run_id_of(run_dir), run_dir / "checkpoints"
    parts = load_newest(folder, run_id or "", say)
    recorded = saved_step(run_dir)
    if parts is None:
        if recorded is not None:
            text = f"the records tell of a checkpoint of step {recorded}, and {folder} holds none"
            advice = "bring that folder back, or start a new run"
            raise CannotResume(f"checkpoint: {text}; {advice}")
        say(f"{run_dir} has no checkpoint yet: training begins at step 0")
        return StoredState(run_id, None, 0)
    metrics_bytes: int = parts.pop("metrics_bytes")
    _require_metrics(run_dir / "metrics.jsonl", metrics_bytes)
    newest = steps_in(folder)[-1]
    if recorded is not None and recorded > newest and not _rolled_back(run_dir):
        say(f"checkpoint: that of step {recorded} is gone; going on from step {parts['counters']['step']}")
    return StoredState(run_id, parts, metrics_bytes)


def _require_metrics(file: Path, num_bytes: int) -> None:
    size = file.stat().st_size if file.is_file() else 0
    if size < num_bytes:
        raise CannotResume(f"{file} has {size} bytes, {num_bytes} were saved; restore it")
    if unread := unread_lines(file, num_bytes):
        lines = "1 line" if unread == 1 else f"{unread} lines"
        say(f"{file}: {lines} cannot be read and will be missing in curves; the weights are not concerned")


def _rolled_back(run_dir: Path) -> bool:
    return any(record["event"] == "rollback" for record in records(run_dir / "metrics.jsonl"))


def restore(parts: Parts, stored: dict[str, Any] | None, process: RunOptions) -> int | None:
    """Go on from what the first rank found stored; returns its step, None where there is nothing.

    Prints the learning rates ahead beside what they were, where the process changes them.
    """
    stored, state = ranks.broadcast_object(stored), parts.state
    if stored is None:
        return None
    total = state.total_steps
    state.load_state_dict(stored)
    _require_position(parts)
    if not process.changes:
        _require_reason(parts)
    before = process.was.course(state, stored["schedule"]) if process.was else []
    if parts.budget is None:
        state.total_steps, state.planned_s = total, 0.0
    else:
        parts.budget.restore(state)
    if process.changes:
        state.stop_reason = None  # what ended the run is judged anew
    parts.data.restore(state.fitted)
    if process.was:
        say(*table(before, course(parts)).split("\n"))
    return state.step


def _require_position(parts: Parts) -> None:
    """Raises CannotResume for a place in the data that the run's steps do not lead to."""
    state, size = parts.state, parts.info.sizes["train"]
    if size is None:
        return  # a stream's own cursor
    expected, there = position_after(state.step, size, parts.batch_spec.window), state.position
    if there != expected:
        text = f"the state of step {state.step} stands at {_told(there)} of the data"
        text += f", where its steps of {parts.samples_per_step} samples lead to {_told(expected)}"
        raise CannotResume(f"checkpoint: {text}; move its folder away to go on from the one before")


def _require_reason(parts: Parts) -> None:
    """Raises CannotResume where the state was ended by what the run does not have."""
    state = parts.state
    possible = [state.stopper.name] if state.stopper else []
    possible += ["stop_at"] if parts.settings["loop"]["stop_at"] is not None else []
    if state.stop_reason is not None and state.stop_reason not in possible:
        text = f"the state of step {state.step} was ended by {state.stop_reason}, which the run does not have"
        raise CannotResume(f"checkpoint: {text}; move its folder away to go on from the one before")


def _told(position: Position) -> str:
    return f"sample {position.offset} of epoch {position.epoch}"


def course(parts: Parts) -> LRPreview:
    """The learning rates ahead; none where the clock's pace is not known yet."""
    is_known = parts.budget is None or parts.state.planned_s
    return parts.rates.course(parts.state, parts.state.state_dict()["schedule"]) if is_known else []
