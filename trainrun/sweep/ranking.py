"""The result of a sweep: its settings from best to worst, seeds and folds of one as its replicates."""

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
        """As sweep.json has it."""
        one = self.outcome
        about = {"key": self.key, "number": self.number, "folder": self.key}
        about |= {"overrides": list(self.overrides), "swept": dict(self.swept), "state": one.state}
        about |= {"value": one.value, "step": one.step, "seconds": one.seconds}
        test = None if one.test is None else dict(one.test)
        return about | {"exit_code": one.exit_code, "reason": one.reason or None, "test": test}


@dataclass(frozen=True)
class RankedSetting:
    """Jobs that differ in seed and fold alone. `mean` is over those that came to their end."""

    swept: Mapping[str, Any]
    entries: Sequence[RankedJob]
    values: Sequence[float]

    @property
    def mean(self) -> float | None:
        """Of the monitored metric at its best."""
        return statistics.mean(self.values) if self.values else None

    def mean_of(self, metric: str) -> float | None:
        """Of another metric of the validation split, at the same evaluations; None where a job lacks it."""
        done = [entry.outcome.metrics for entry in self.entries if entry.outcome.state == "completed"]
        values = [metrics[metric] for metrics in done if metric in metrics]
        return statistics.mean(values) if values and len(values) == len(done) else None

    @property
    def has_failed(self) -> bool:
        """Whether its mean leaves out what went wrong."""
        return any(one.outcome.state == "failed" for one in self.entries)

    @property
    def std(self) -> float | None:
        """Of the sample; None of fewer than two values."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def best(self, maximize: bool) -> RankedJob:
        """Its best job that came to its end."""
        done = [one for one in self.entries if one.outcome.value is not None]
        done = [one for one in done if one.outcome.state == "completed"] or done
        choose = max if maximize else min
        return choose(done, key=lambda one: one.outcome.value or 0.0)

    @property
    def record(self) -> dict[str, Any]:
        """As sweep.json has it."""
        figures = {"mean": self.mean, "std": self.std, "count": len(self.values), "values": list(self.values)}
        return {"swept": dict(self.swept), **figures, "jobs": [one.key for one in self.entries]}


def ranked(entries: Sequence[RankedJob], maximize: bool) -> list[RankedSetting]:
    """The settings, best mean first; then those of which a replicate failed, and those without a mean."""
    groups: dict[tuple[tuple[str, str], ...], list[RankedJob]] = {}
    for entry in entries:
        rest = {key: value for key, value in entry.swept.items() if key not in REPLICATES}
        groups.setdefault(tuple((key, repr(value)) for key, value in rest.items()), []).append(entry)
    settings = [_setting(members) for members in groups.values()]
    done = [one for one in settings if one.mean is not None]
    done.sort(key=lambda one: (one.has_failed, -(one.mean or 0.0) if maximize else (one.mean or 0.0)))
    return done + [one for one in settings if one.mean is None]


def _setting(members: Sequence[RankedJob]) -> RankedSetting:
    swept = {key: value for key, value in members[0].swept.items() if key not in REPLICATES}
    done = [one.outcome.value for one in members if one.outcome.state == "completed"]
    return RankedSetting(swept, members, [value for value in done if value is not None])


def best_of(settings: Sequence[RankedSetting], maximize: bool) -> RankedJob | None:
    """The best job of the best setting; None where no job came to its end."""
    return settings[0].best(maximize) if settings and settings[0].mean is not None else None


def exit_code(entries: Sequence[RankedJob]) -> int:
    """That of the first job that failed, else of the first that was interrupted or did not begin, else 0."""
    for state in ("failed", "interrupted", "pending"):
        codes = [one.outcome.exit_code or 1 for one in entries if one.outcome.state == state]
        if codes:
            return codes[0]
    return 0
