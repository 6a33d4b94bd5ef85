"""Restore a run's state from its newest valid checkpoint, and refuse one that its records contradict."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainrun.assembly.build import Parts
from trainrun.assembly.schedule import LRPreview
from trainrun.augment.pictures import unaugmented
from trainrun.checkpoint.fetch import load_state
from trainrun.checkpoint.reader import run_id_of, steps_in
from trainrun.checkpoint.store import load_newest
from trainrun.data.order import position_after
from trainrun.run.history import records, saved_step, unread_lines
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ResumeError

if TYPE_CHECKING:
    from trainrun.session.session import RunOptions


@dataclass(frozen=True)
class StoredState:
    """A folder's content to resume from: the run's id, and the parts of its newest valid checkpoint."""

    run_id: str | None
    parts: dict[str, Any] | None
    metrics_bytes: int  # of metrics.jsonl when they were stored


NOTHING = StoredState(None, None, 0)  # of a new run


def stored_state(run_dir: Path) -> StoredState:
    """Read the newest valid checkpoint, and change nothing.

    Says which checkpoints are damaged or gone, and that there is none yet. Raises ResumeError where
    the folder holds less than its records say.
    """
    run_id, folder = run_id_of(run_dir), run_dir / "checkpoints"
    parts = load_newest(folder, run_id or "", say)
    recorded = saved_step(run_dir)
    if parts is None:
        if recorded is not None:
            text = f"the records tell of a checkpoint of step {recorded}, and {folder} holds none"
            raise ResumeError(f"checkpoint: {text}; bring that folder back, or start a new run")
        say(f"{run_dir} has no checkpoint yet: training begins at step 0")
        return StoredState(run_id, None, 0)
    metrics_bytes: int = parts.pop("metrics_bytes")
    _require_metrics(run_dir / "metrics.jsonl", metrics_bytes)
    events = (record["event"] for record in records(run_dir / "metrics.jsonl"))
    if recorded is not None and recorded > steps_in(folder)[-1] and "rollback" not in events:
        say(f"checkpoint: that of step {recorded} is gone; going on from step {parts['counters']['step']}")
    return StoredState(run_id, parts, metrics_bytes)


def _require_metrics(file: Path, num_bytes: int) -> None:
    size = file.stat().st_size if file.is_file() else 0
    if size < num_bytes:
        raise ResumeError(f"{file} has {size} bytes, {num_bytes} were saved; restore it")
    if unread := unread_lines(file, num_bytes):
        lines = "1 line" if unread == 1 else f"{unread} lines"
        say(f"{file}: {lines} cannot be read and will be missing in curves; the weights are not affected")


def restore(parts: Parts, stored: dict[str, Any] | None, options: RunOptions) -> int | None:
    """Load what the main process found stored; returns its step, None where there is nothing.

    Prints the learning rates ahead beside those planned so far, where the options change them.
    """
    state = parts.state
    total = state.total_steps
    stored = load_state(state, stored)
    if stored is None:
        return None
    _require_position(parts)
    if options.changes:
        state.stop_reason = None  # whether the run has ended is decided again
    else:
        _require_stop_reason(parts)
    previous = options.previous_rates
    before = previous.course(state, stored["schedule"]) if previous else []
    if parts.budget is None:
        state.total_steps, state.planned_s = total, 0.0
    else:
        parts.budget.restore(state)
    parts.data.restore(state.fitted)
    if previous:
        say(*lr_table(before, lr_preview(parts)))
    return state.step


def _refuse_state(parts: Parts, text: str) -> ResumeError:
    advice = "move its folder away to go on from the one before"
    return ResumeError(f"checkpoint: the state of step {parts.state.step} {text}; {advice}")


def _require_position(parts: Parts) -> None:
    """Raise ResumeError for a position in the data that the run's steps do not lead to."""
    state, size = parts.state, parts.info.sizes["train"]
    if size is None:  # a stream has a cursor of its own
        getattr(unaugmented(parts.data), "require_position", lambda position: None)(state.position)
        return
    expected, position = position_after(state.step, size, parts.batch_spec.window), state.position
    if position != expected:
        places = [f"sample {place.offset} of epoch {place.epoch}" for place in (position, expected)]
        lead = f"where its steps of {parts.samples_per_step} samples lead to {places[1]}"
        raise _refuse_state(parts, f"stands at {places[0]} of the data, {lead}")


def _require_stop_reason(parts: Parts) -> None:
    """Raise ResumeError where the state was ended by something that the run does not have."""
    state = parts.state
    possible = [state.stopper.name] if state.stopper else []
    possible += ["stop_at"] if parts.settings["loop"]["stop_at"] is not None else []
    if state.stop_reason is not None and state.stop_reason not in possible:
        raise _refuse_state(parts, f"was ended by {state.stop_reason}, which the run does not have")


def lr_preview(parts: Parts) -> LRPreview:
    """The learning rates ahead; none where the pace of a budget by the clock is not measured yet."""
    is_planned = parts.budget is None or parts.state.planned_s
    return parts.rates.course(parts.state, parts.state.state_dict()["schedule"]) if is_planned else []


def lr_table(before: LRPreview, after: LRPreview) -> list[str]:
    """The learning rate over what remains, as it was planned and as it is now, in lines for people."""
    columns = [[f"step {step}: {lr:.3g}" for step, lr in preview] for preview in (before, after)]
    shares = ["0 %", "25 %", "50 %", "75 %", "100 %"][: max(map(len, columns))]
    rows = [("of what remains", "before", "now"), *zip_longest(shares, *columns, fillvalue="")]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "   ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
