"""What became of a job, read from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainrun.config.space import Point
from trainrun.run.files import read_json
from trainrun.run.history import curves_of, is_contradicted, is_number

PRUNED, PAUSED = "pruned", "paused"  # why a run that a search stopped waits to go on


@dataclass(frozen=True)
class JobOutcome:
    """One job's folder in figures.

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
    test: Mapping[str, float] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)  # of the validation split, at its best

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left to do; a failure may be tried again."""
        return self.state in ("completed", "failed", PRUNED)


@dataclass(frozen=True)
class TriedPoint:
    """A point that a search asked for, its run's folder, and what became of it."""

    point: Point
    folder: Path
    outcome: JobOutcome


def outcome(folder: Path) -> JobOutcome:
    """What status.json says; a run that no process finished, by its records, is interrupted."""
    status = read_json(folder / "status.json")
    if not status:
        return JobOutcome("pending")
    reason, state = str(status.get("reason") or ""), str(status.get("state"))
    if state == "interrupted" and reason in (PRUNED, PAUSED):
        state = reason
    is_known = state in ("completed", "failed", PRUNED, PAUSED)
    if not is_known or (state == "completed" and is_contradicted(folder)):
        state = "interrupted"
    best, test = status.get("best"), status.get("test")
    metrics = best.get("metrics") if isinstance(best, dict) else None
    monitor = str(status.get("monitor") or "")
    value = metrics.get(monitor.removeprefix("val/")) if isinstance(metrics, dict) else None
    return JobOutcome(
        state=state,
        value=_number(value),
        step=_whole(status.get("step")) or 0,
        total_steps=_whole(status.get("total_steps")),
        seconds=_number(status.get("seconds")),
        exit_code=_whole(status.get("exit_code")) or 0,
        reason=reason,
        monitor=monitor,
        test={k: v for k, v in test.items() if isinstance(v, float)} if isinstance(test, dict) else None,
        metrics={k: v for k, v in metrics.items() if is_number(v)} if isinstance(metrics, dict) else {},
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and is_number(value) else None


def _whole(value: object) -> int | None:
    found = _number(value)
    return None if found is None else int(found)


def first_clause(reason: str) -> str:
    """What went wrong, without what to do about it."""
    return reason.partition("; ")[0].partition(" (samples")[0]


def evaluations_in(folder: Path, monitor: str) -> list[tuple[int, float]]:
    """(step, value) of every evaluation that came to a number."""
    return curves_of(folder).get(monitor, [])
