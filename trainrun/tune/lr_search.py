"""The search for a learning rate: a range test of a run, and the value of optimizer.lr that it suggests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from trainrun.assembly.build import Parts
from trainrun.config.overrides import key_of
from trainrun.tune.criteria import LRCurve, LRVerdict, curve, suggest_lr
from trainrun.tune.lr import Divergence, LRPoint, peak, ramp

Follow = Callable[[Iterable[LRPoint]], Iterable[LRPoint]]


@dataclass(frozen=True)
class RangeTest:
    """The curve, what it says, and whether the loss diverged at its end."""

    curve: LRCurve
    verdict: LRVerdict
    diverged: bool
    setting: str | None = None  # of optimizer.lr, with which the schedule reaches the suggestion


def search_lr(parts: Parts, low: float, high: float, steps: int, follow: Follow = iter) -> RangeTest:
    """Train the run's first steps at rising rates, and read off which suits it; `follow` passes points on."""
    rate, factor = parts.rates.lr, peak(parts)[0]
    per_setting = rate / float(parts.settings["optimizer"].get("lr", rate)) * factor
    points = list(follow(ramp(parts, low, high, steps)))
    watch = Divergence()
    losses = [point.loss for point in points]
    diverged = any(map(watch.seen, losses))
    measured = curve([point.lr for point in points], losses, [point.start for point in points])
    verdict = suggest_lr(measured, diverged)
    setting = f"{verdict.suggestion / per_setting:.2g}" if verdict.suggestion else None
    return RangeTest(measured, verdict, diverged, setting)


def with_setting(overrides: Sequence[str], setting: str) -> list[str]:
    """The run's words with the rate, in the place of one that was typed."""
    before = next((word for word in overrides if key_of(word) == "optimizer.lr"), "")
    plus = before[: len(before) - len(before.lstrip("+"))]
    return [*(word for word in overrides if word != before), f"{plus}optimizer.lr={setting}"]
