"""The outcome of a job, read from its folder: state, best value, exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainrun.config.space import Point
from trainrun.run.files import number_in, object_in, read_json
from trainrun.run.history import is_contradicted, is_number

PRUNED, PAUSED = "pruned", "paused"  # why a run that a search stopped waits to go on


@dataclass(frozen=True)
class JobOutcome:
    """One job's state and figures.

    `state` is "completed", "failed", "interrupted", "pruned", "paused" or "pending". `value` is the
    monitored metric at its best, None where there was no evaluation.
    """

    state: str
    value: float | None = None
    step: int = 0
    total_steps: int | None = None
    seconds: float | None = None
    exit_code: int = 0
    reason: str = ""
    monitor: str = ""
    test: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)  # of the validation split, at its best

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left to do; a failure may be tried again."""
        return self.state in ("completed", "failed", PRUNED)


@dataclass(frozen=True)
class TriedPoint:
    """A point that a search asked for, its run's folder, and its outcome."""

    point: Point
    folder: Path
    outcome: JobOutcome


def outcome(folder: Path) -> JobOutcome:
    """The outcome by status.json; a run that by its records no process finished is interrupted."""
    status = read_json(folder / "status.json")
    if not status:
        return JobOutcome("pending")
    reason, state = str(status.get("reason") or ""), str(status.get("state"))
    if state == "interrupted" and reason in (PRUNED, PAUSED):
        state = reason
    has_ended = state in ("completed", "failed", PRUNED, PAUSED)
    if not has_ended or (state == "completed" and is_contradicted(folder)):
        state = "interrupted"
    monitor = str(status.get("monitor") or "")
    best = object_in(object_in(status, "best"), "metrics")
    metrics = {name: float(value) for name, value in best.items() if is_number(value)}
    test = {name: value for name, value in object_in(status, "test").items() if isinstance(value, float)}
    step, code = (int(number_in(status, name) or 0) for name in ("step", "exit_code"))
    total, seconds = number_in(status, "total_steps"), number_in(status, "seconds")
    steps, value = None if total is None else int(total), metrics.get(monitor.removeprefix("val/"))
    return JobOutcome(state, value, step, steps, seconds, code, reason, monitor, test, metrics)


def first_clause(reason: str) -> str:
    """The cause in a reason, without the advice that follows."""
    return reason.partition("; ")[0].partition(" (samples")[0]
