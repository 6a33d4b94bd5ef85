"""Durations in any unit, converted once to optimizer steps: `10ep 500step 60000sample 5%`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

CLOCK_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(ep|step|sample|%|s|min|h)")
# What people write for a unit.
_SPELLINGS = {
    "ep": ("e", "eps", "epoch", "epochs"),
    "step": ("steps", "it", "iter", "iters", "iteration", "iterations", "update", "updates"),
    "sample": ("samples",),
    "%": ("percent",),
    "s": ("sec", "secs", "second", "seconds"),
    "min": ("m", "mins", "minute", "minutes"),
    "h": ("hr", "hrs", "hour", "hours"),
}


@dataclass(frozen=True)
class Duration:
    """A length of training: `value` in `unit`."""

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}"

    @property
    def is_clock(self) -> bool:
        return self.unit in CLOCK_UNITS

    @property
    def seconds(self) -> float:
        return self.value * CLOCK_UNITS[self.unit]


@dataclass(frozen=True)
class Pace:
    """What turns durations into steps."""

    window: int  # samples per optimizer step: batch_size x accumulate x ranks
    samples_per_epoch: int | None  # None for a stream without length
    total_steps: int | None = None  # None while the budget is converted: no percentage of itself

    @property
    def steps_per_epoch(self) -> int | None:
        return None if self.samples_per_epoch is None else math.ceil(self.samples_per_epoch / self.window)

    def steps_to(self, epoch: int, offset: int) -> int:
        """The steps begun when `offset` samples of an epoch have been read."""
        return epoch * (self.steps_per_epoch or 0) + math.ceil(offset / self.window)


def parse(text: object) -> Duration:
    """Parse a duration: `"5%"` -> Duration(5.0, "%"). Raises ValueError with the accepted forms."""
    match = _PATTERN.fullmatch(str(text).strip())
    if not match:
        hint = f"; did you mean {near}?" if (near := respelled(text)) else ""
        hint = f"; write {text}step or {text}ep" if re.fullmatch(r"\d+(\.\d+)?", str(text)) else hint
        raise ValueError(f"must be a duration such as 20ep, 500step, 60000sample or 5%, got {text}{hint}")
    if len(match[1].partition(".")[0]) > 15:  # beyond, a float no longer tells whole numbers apart
        raise ValueError(f"must be a duration of at most 15 digits, got {len(match[1]):,}")
    return Duration(float(match[1]), match[2])


def respelled(text: object) -> str | None:
    """Correct a duration whose unit is spelt otherwise: `10 Epochs` -> `10ep`; None where it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)[\s_]*([a-z]+)", str(text).strip().lower())
    if not match:
        return None
    unit = next((unit for unit, others in _SPELLINGS.items() if match[2] in (unit, *others)), None)
    return f"{match[1]}{unit}" if unit else None


def to_steps(duration: Duration, pace: Pace) -> int:
    """Whole optimizer steps, rounded up. Raises ValueError for a unit without a meaning here."""
    if duration.is_clock:
        raise ValueError(f"must be in ep, step, sample or %, got {duration} (a clock unit)")
    if duration.unit == "ep":
        if pace.steps_per_epoch is None:
            raise ValueError(f"has no epochs on a stream without length, got {duration}; use step or sample")
        # Whole epochs exactly; a part of an epoch from its share of the epoch's steps.
        return math.ceil(round(duration.value * pace.steps_per_epoch, 6))
    if duration.unit == "sample":
        per_epoch, steps = pace.samples_per_epoch, pace.steps_per_epoch
        if per_epoch is None or steps is None:
            return math.ceil(duration.value / pace.window)
        epochs, rest = divmod(duration.value, per_epoch)  # the epoch's last window may be short
        return int(epochs) * steps + math.ceil(rest / pace.window)
    if duration.unit == "%":
        if pace.total_steps is None:
            raise ValueError(f"cannot be a share of itself, got {duration}; use ep, step or sample")
        return math.ceil(round(duration.value / 100 * pace.total_steps, 6))
    return math.ceil(duration.value)
