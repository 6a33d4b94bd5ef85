"""SGDR, cosine with warm restarts: cycle lengths are fitted so that the last cycle ends with the run."""

from __future__ import annotations

import math

from trainrun.scheduler.warmup import Warmed, floor_of, rest_of
from trainrun.vocabulary.ranges import Count, Fraction, NonNegative, Period, Steps


class Cycles:
    """Cycles, each `mult` times as long as the one before, that fill `span` updates exactly.

    Their number, `count`, is the one whose first cycle is nearest to `first`.
    """

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
        cycle = firsts
        if self.mult > 1:
            cycle = sum(self._firsts(later) <= firsts for later in range(1, self.count))
        start, end = self.start(cycle), self.start(cycle + 1)
        return (update - start) / (end - start)

    def _firsts(self, cycles: int) -> int:
        """The length of the first `cycles` cycles, in units of the first."""
        return cycles if self.mult == 1 else (self.mult**cycles - 1) // (self.mult - 1)


class Restarting(Warmed):
    """Cosines down to `floor`, one for each of `cycles`, after a warm-up."""

    def __init__(self, cycles: Cycles, floor: float, warmup: int, warmup_start: float) -> None:
        def shape(n: int) -> float:
            return floor + (1 - floor) * (1 + math.cos(math.pi * cycles.progress(n))) / 2

        super().__init__(shape, warmup, warmup_start, spans_rest=True)
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
