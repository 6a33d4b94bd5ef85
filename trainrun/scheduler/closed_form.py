"""Learning-rate schedules that are formulas of (update, total): a warm-up, then cosine, one-cycle, wsd ..."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import (
    Count,
    Fraction,
    NonNegative,
    Period,
    Positive,
    PositiveFraction,
    Rate,
    Steps,
)

Shape = Callable[[int], float]  # updates since its start -> factor of the learning rate


@dataclass(eq=False)
class Warmed:
    """The schedule `shape` with a linear warm-up: it starts after it, or with `spans_rest` False at once.

    `momentum` gives the absolute momentum (or first beta) at an update, for schedules that set it.
    `drops` are the updates at which a step schedule goes down, as far as its settings list them.
    """

    shape: Shape
    warmup: int
    warmup_start: float
    spans_rest: bool = True
    momentum: Callable[[int], float] | None = None
    drops: Sequence[int] = ()

    @property
    def begins_at(self) -> int:
        return self.warmup if self.spans_rest else 0

    def __call__(self, update: int) -> tuple[float, float | None]:
        since = max(0, update - self.begins_at)
        factor = self.shape(since)
        if update < self.warmup:
            factor *= self.warmup_start + (1 - self.warmup_start) * (update + 1) / self.warmup
        return factor, None if self.momentum is None else self.momentum(since)


def floor_of(min_lr: float, base_lr: float) -> float:
    """`min_lr` as a factor of the learning rate."""
    if min_lr > base_lr:
        text = f"must be at most the learning rate {base_lr:g}, got {min_lr:g}"
        raise ConfigError.of("scheduler.min_lr", text)
    return min_lr / base_lr


def rest_of(total_steps: int, warmup: int) -> int:
    """The updates after the warm-up, at least 1.

    A warm-up may take the whole run, as 5 % of a single step does. Raises ConfigError for a longer one.
    """
    if warmup > total_steps:
        text = f"takes {warmup} steps, the whole run only {total_steps}; shorten it"
        raise ConfigError.of("scheduler.warmup", text)
    return max(1, total_steps - warmup)


def constant(warmup: Steps, warmup_start: Fraction) -> Warmed:
    """The learning rate itself, after the warm-up."""
    return Warmed(lambda n: 1.0, warmup, warmup_start)


def step(
    base_lr: float,
    every: Period,
    gamma: PositiveFraction,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Warmed:
    """Times `gamma` every `every`: gamma^floor(n / every)."""
    floor = floor_of(min_lr, base_lr)
    return Warmed(lambda n: max(floor, gamma ** (n // every)), warmup, warmup_start, False, drops=(every,))


def multistep(
    base_lr: float,
    at: list[Steps],
    gamma: PositiveFraction,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Warmed:
    """Times `gamma` at each of the given points of the run."""
    floor = floor_of(min_lr, base_lr)
    shape = lambda n: max(floor, gamma ** sum(n >= point for point in at))  # noqa: E731
    return Warmed(shape, warmup, warmup_start, spans_rest=False, drops=at)


def exponential(
    base_lr: float,
    gamma: PositiveFraction,
    every: Period,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Warmed:
    """Smoothly times `gamma` over every `every`: gamma^(n / every)."""
    floor = floor_of(min_lr, base_lr)
    return Warmed(lambda n: max(floor, gamma ** (n / every)), warmup, warmup_start, spans_rest=False)


def linear(
    total_steps: int, base_lr: float, warmup: Steps, warmup_start: Fraction, min_lr: NonNegative
) -> Warmed:
    """A straight line down to `min_lr` at the end of the run; BERT's with a warm-up (Devlin et al., 2019)."""
    return polynomial(total_steps, base_lr, 1.0, warmup, warmup_start, min_lr)


def polynomial(
    total_steps: int,
    base_lr: float,
    power: Positive,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Warmed:
    """(1 - n / T)^power down to `min_lr`."""
    rest, floor = rest_of(total_steps, warmup), floor_of(min_lr, base_lr)
    return Warmed(lambda n: floor + (1 - floor) * (1 - min(n, rest) / rest) ** power, warmup, warmup_start)


def cosine(
    total_steps: int, base_lr: float, warmup: Steps, warmup_start: Fraction, min_lr: NonNegative
) -> Warmed:
    """Half a cosine to `min_lr` at the end of the run (Loshchilov and Hutter, 2017); it never rises again."""
    rest, floor = rest_of(total_steps, warmup), floor_of(min_lr, base_lr)
    return Warmed(lambda n: floor + (1 - floor) * _cosine(min(n, rest) / rest), warmup, warmup_start)


class Cycles:
    """Cycles, each `mult` times the one before, that fill `span` exactly; the first is nearest to `first`."""

    def __init__(self, span: int, first: int, mult: int) -> None:
        self.span, self.mult, self.count = span, mult, 1
        if mult == 1:
            self.count = max(1, span // first)
        while self._firsts(self.count + 1) * first <= span:
            self.count += 1
        if self._firsts(self.count) * self._firsts(self.count + 1) * first**2 < span**2:
            self.count += 1  # shorter than asked for, but nearer to it

    def start(self, cycle: int) -> int:
        """The update at which a cycle starts; for cycle `count` that is the end."""
        return -(-self.span * self._firsts(cycle) // self._firsts(self.count))

    def progress(self, update: int) -> float:
        """How far an update is into its cycle, from 0 at the start to 1 at the end."""
        if update >= self.span:
            return 1.0
        firsts = update * self._firsts(self.count) // self.span  # first cycles that have gone by
        later = range(1, self.count)
        cycle = firsts if self.mult == 1 else sum(self._firsts(number) <= firsts for number in later)
        start, end = self.start(cycle), self.start(cycle + 1)
        return (update - start) / (end - start)

    def _firsts(self, cycles: int) -> int:
        """The length of the first `cycles` cycles, in units of the first."""
        return cycles if self.mult == 1 else (self.mult**cycles - 1) // (self.mult - 1)


class Restarting(Warmed):
    """Cosines down to `floor`, one for each of `cycles`, after a warm-up."""

    def __init__(self, cycles: Cycles, floor: float, warmup: int, warmup_start: float) -> None:
        super().__init__(lambda n: floor + (1 - floor) * _cosine(cycles.progress(n)), warmup, warmup_start)
        self.cycles = cycles


def cosine_restarts(
    total_steps: int,
    base_lr: float,
    first: Period,
    mult: Count,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Restarting:
    """Cosine cycles, the first about `first` long, each `mult` times the one before: SGDR.

    All are stretched or shortened so that the last ends with the run (Loshchilov and Hutter, 2017).
    """
    cycles = Cycles(rest_of(total_steps, warmup), first, mult)
    return Restarting(cycles, floor_of(min_lr, base_lr), warmup, warmup_start)


def noam(
    base_lr: float, d_model: Count | None, warmup: Period, warmup_start: Fraction, min_lr: NonNegative
) -> Warmed:
    """Rises linearly for `warmup`, then falls as n^-0.5 (Vaswani et al., 2017, section 5.3).

    With `d_model` it is the paper's: lr d_model^-0.5 min(n^-0.5, n warmup^-1.5), n from 1, and
    optimizer.lr a mere factor (1 in the paper). Without, optimizer.lr is the peak.
    """
    floor = floor_of(min_lr, base_lr)
    peak = 1.0 if d_model is None else 1 / math.sqrt(d_model * warmup)
    shape = lambda n: max(floor, peak * min(1.0, math.sqrt(warmup / (n + 1))))  # noqa: E731
    return Warmed(shape, warmup, warmup_start, spans_rest=False)


def one_cycle(
    total_steps: int,
    base_lr: float,
    rise: Fraction,
    div: Positive,
    final_div: Positive,
    momentum_high: Rate | None,
    momentum_low: Rate | None,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Warmed:
    """Up from lr / div over the share `rise` of the run, then down to lr / (div final_div), by cosines.

    Momentum goes the other way (Smith and Topin, 2018). The last update, not one after it, has the end value.
    """
    rest, floor = rest_of(total_steps, warmup), floor_of(min_lr, base_lr)
    top, end = rise * rest - 1, rest - 1
    low, final = max(floor, 1 / div), max(floor, 1 / (div * final_div))

    def between(n: int, start: float, peak: float, last: float) -> float:
        n = min(n, end)
        if n <= top:
            return peak + (start - peak) * _cosine(n / top if top else 1.0)
        return last + (peak - last) * _cosine((n - top) / (end - top))

    momentum = _momentum(momentum_high, momentum_low, lambda n: between(n, 0.0, 1.0, 0.0))
    return Warmed(lambda n: between(n, low, 1.0, final), warmup, warmup_start, momentum=momentum)


def cyclic(
    base_lr: float,
    up: Period,
    down: Period | None,
    mode: Literal["triangular", "triangular2", "exp_range"],
    gamma: PositiveFraction,
    low: Fraction,
    momentum_high: Rate | None,
    momentum_low: Rate | None,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Warmed:
    """Up and down between low x lr (or `min_lr`, if that is more) and lr (Smith, 2017).

    triangular2 halves each cycle's height, exp_range multiplies it by gamma^n. Momentum goes the other way.
    """
    bottom = max(low, floor_of(min_lr, base_lr))
    period = up + (down or up)

    def height(n: int) -> float:
        cycle, offset = divmod(n, period)
        triangle = offset / up if offset <= up else (period - offset) / (period - up)
        return triangle * {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": gamma**n}[mode]

    momentum = _momentum(momentum_high, momentum_low, height)
    return Warmed(lambda n: bottom + (1 - bottom) * height(n), warmup, warmup_start, False, momentum)


def wsd(
    total_steps: int,
    base_lr: float,
    decay: Steps,
    curve: Literal["linear", "cosine", "sqrt"],
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Warmed:
    """Warm-up, stable, decay: constant until the last `decay` of the run (Hu et al., 2024).

    `sqrt` is 1 - sqrt(x), which ended best in Haegele et al., 2024.
    """
    rest, floor = rest_of(total_steps, warmup), floor_of(min_lr, base_lr)
    if warmup + decay > total_steps + 1:  # two shares of a run, each rounded up, may overlap by one step
        text = f"of {decay} steps and the warm-up of {warmup} exceed the run's {total_steps}"
        raise ConfigError.of("scheduler.decay", text)
    decay = min(decay, rest)

    def shape(n: int) -> float:
        x = max(0.0, (min(n, rest) - (rest - decay)) / decay) if decay else 0.0
        return floor + (1 - floor) * {"linear": 1 - x, "cosine": _cosine(x), "sqrt": 1 - math.sqrt(x)}[curve]

    return Warmed(shape, warmup, warmup_start)


def _cosine(x: float) -> float:
    """From 1 at x = 0 to 0 at x = 1."""
    return (1 + math.cos(math.pi * x)) / 2


def _momentum(high: float | None, low: float | None, height: Shape) -> Callable[[int], float] | None:
    """Momentum from `high` at the bottom of a cycle to `low` at its top, where `height` is 1."""
    if high is None and low is None:
        return None
    if high is None or low is None:
        raise ConfigError.of("scheduler.momentum_low", "and momentum_high: give both, or null for both")
    start, fall = high, high - low
    return lambda n: start - fall * height(n)
