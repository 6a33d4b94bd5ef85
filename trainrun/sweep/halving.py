"""Successive halving (Jamieson and Talwalkar 2016): the best of many candidates go on to the next rung.

Every candidate's schedule is planned for the whole budget; it stops and waits after the first
evaluation at or behind its share, and goes on from there if it is among the best.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from trainrun.config.compose.exclusion import Exclusion
from trainrun.config.space import Axis, Choices, PointBatch, grid, split_replicates
from trainrun.run.history import curves_of
from trainrun.sweep.outcome import TriedPoint
from trainrun.sweep.random import draw_allowed, repeated
from trainrun.sweep.strategy import Strategy
from trainrun.sweep.sweep import counted
from trainrun.vocabulary.ranges import Divisor, Seed


class Halving(Strategy):
    """Rungs at `reduction`^-k, ..., 1 / `reduction` and all of the budget, so that one candidate remains."""

    def __init__(
        self,
        reduction: Divisor,
        seed: Seed,
        params: Mapping[str, str],
        axes: Sequence[Axis],
        excludes: Exclusion,
        trials: int | None,
        maximize: bool,
    ) -> None:
        searched, repeats = split_replicates(axes)
        if trials is None:
            every = grid([axis for axis in searched if isinstance(axis, Choices)])
            drawn = [words for words in every if not excludes(words)]
            note = excludes.note(len(every) - len(drawn))
        else:
            drawn, note = draw_allowed(searched, excludes, seed, trials)
        self.reduction, self.maximize = reduction, maximize
        self.tried: Sequence[TriedPoint] = []
        super().__init__(repeated(drawn, repeats), "")
        self.about = self._description() + note

    def _description(self) -> str:
        """The rungs, with their cost in full runs if every candidate stops at its share."""
        count, before, cost, rungs = len(self.points), 0.0, 0.0, list[str]()
        for share in self.shares():
            rungs.append(f"{count} to {'the end' if share == 1 else f'{share:.1%} of the budget'}")
            cost += count * (share - before)
            count, before = max(1, count // self.reduction), share
        return f"of {counted(len(self.points), 'candidate')} {', '.join(rungs)}: {cost:.1f} full runs"

    def batches(self) -> Iterator[PointBatch]:
        """One rung after the other; the outcomes of the rung before decide which candidates go on."""
        alive = self.points
        for share in self.shares():
            yield PointBatch(alive, None if share == 1 else share)
            if any(result.outcome.state in ("interrupted", "pending") for result in self.tried):
                return  # a rung is ranked once all have reached it
            values: dict[int, list[float]] = {}
            for result in self.tried:
                if (value := value_at(result, share, self.maximize)) is not None:
                    values.setdefault(result.point.trial or 0, []).append(value)
            means = {trial: statistics.mean(replicates) for trial, replicates in values.items()}
            best = sorted(means, key=means.__getitem__, reverse=self.maximize)
            most = max(1, len({point.trial for point in alive}) // self.reduction)
            alive = [point for point in alive if point.trial in best[:most]]

    def tell(self, tried: Sequence[TriedPoint]) -> None:
        self.tried = tried

    def shares(self) -> list[float]:
        """The shares of the budget where candidates wait; the last is all of it."""
        candidates, shares = len({point.trial for point in self.points}), [1.0]
        while candidates >= self.reduction:
            candidates //= self.reduction
            shares.insert(0, shares[0] / self.reduction)
        return shares


def value_at(tried: TriedPoint, share: float, maximize: bool) -> float | None:
    """The best value until the first evaluation at or behind a share of the run, whatever came later."""
    if tried.outcome.state == "failed":
        return None
    curve = curves_of(tried.folder).get(tried.outcome.monitor, [])
    until = share * (tried.outcome.total_steps or 0)
    last = next((index for index, (step, _) in enumerate(curve, 1) if step >= until), len(curve))
    return (max if maximize else min)((value for _, value in curve[:last]), default=None)
