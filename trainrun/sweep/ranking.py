"""Rank a sweep's settings from best to worst; jobs that differ in seed and fold are replicates of one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainrun.config.space import REPLICATES
from trainrun.sweep.outcome import JobOutcome


@dataclass(frozen=True)
class RankedJob:
    """One job of a sweep. `swept` has the settings that vary, with their values."""

    key: str
    number: int
    overrides: Sequence[str]
    swept: Mapping[str, Any]
    outcome: JobOutcome

    @property
    def record(self) -> dict[str, Any]:
        """Its object in sweep.json."""
        outcome = self.outcome
        return {
            "key": self.key,
            "number": self.number,
            "folder": self.key,
            "overrides": list(self.overrides),
            "swept": dict(self.swept),
            "state": outcome.state,
            "value": outcome.value,
            "step": outcome.step,
            "seconds": outcome.seconds,
            "exit_code": outcome.exit_code,
            "reason": outcome.reason or None,
            "test": None if outcome.test is None else dict(outcome.test),
        }


@dataclass(frozen=True)
class RankedSetting:
    """Jobs that differ in seed and fold alone."""

    swept: Mapping[str, Any]
    jobs: Sequence[RankedJob]

    @property
    def values(self) -> list[float]:
        """The monitored metric at its best, of each job that is completed."""
        outcomes = [job.outcome for job in self.jobs if job.outcome.state == "completed"]
        return [outcome.value for outcome in outcomes if outcome.value is not None]

    @property
    def mean(self) -> float | None:
        """The mean of `values`, by which settings are ranked."""
        return statistics.mean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """The sample's standard deviation; None of fewer than two values."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def mean_of(self, metric: str) -> float | None:
        """Another metric of the validation split, at the same evaluations; None where a job lacks it."""
        metrics = [job.outcome.metrics for job in self.jobs if job.outcome.state == "completed"]
        values = [values[metric] for values in metrics if metric in values]
        return statistics.mean(values) if values and len(values) == len(metrics) else None

    @property
    def has_failed(self) -> bool:
        """Whether its mean leaves out what went wrong."""
        return any(job.outcome.state == "failed" for job in self.jobs)

    def best(self, maximize: bool) -> RankedJob:
        """Its best job, of those that are completed where there are any."""
        jobs = [job for job in self.jobs if job.outcome.value is not None]
        jobs = [job for job in jobs if job.outcome.state == "completed"] or jobs
        return (max if maximize else min)(jobs, key=lambda job: job.outcome.value or 0.0)

    @property
    def record(self) -> dict[str, Any]:
        """Its object in sweep.json."""
        figures = {"mean": self.mean, "std": self.std, "count": len(self.values), "values": self.values}
        return {"swept": dict(self.swept), **figures, "jobs": [job.key for job in self.jobs]}


def ranked(jobs: Sequence[RankedJob], maximize: bool) -> list[RankedSetting]:
    """The settings, best mean first; then those of which a replicate failed, and those without a mean."""
    groups: dict[str, list[RankedJob]] = {}
    for job in jobs:
        groups.setdefault(repr(list(_setting(job).items())), []).append(job)
    settings = [RankedSetting(_setting(members[0]), members) for members in groups.values()]

    def place(setting: RankedSetting) -> tuple[bool, bool, float]:
        if setting.mean is None:
            return True, False, 0.0
        return False, setting.has_failed, -setting.mean if maximize else setting.mean

    return sorted(settings, key=place)


def _setting(job: RankedJob) -> dict[str, Any]:
    return {key: value for key, value in job.swept.items() if key not in REPLICATES}


def best_of(settings: Sequence[RankedSetting], maximize: bool) -> RankedJob | None:
    """The best job of the best setting; None where no job is completed."""
    return settings[0].best(maximize) if settings and settings[0].mean is not None else None


def exit_code(jobs: Sequence[RankedJob]) -> int:
    """That of the first job that failed, else of the first that was interrupted or did not begin, else 0."""
    for state in ("failed", "interrupted", "pending"):
        for job in jobs:
            if job.outcome.state == state:
                return job.outcome.exit_code or 1
    return 0
