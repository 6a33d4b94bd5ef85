"""The strategy of a sweep chooses its points; without a search every combination is tried at once (grid)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from trainrun.config.space import Point, PointBatch
from trainrun.sweep.outcome import TriedPoint


class Strategy:
    """All points at once, of which nothing is learned; `about` describes it for people.

    A search returns its points in several batches; each is asked for once `tell` has had the outcomes
    of the one before.
    """

    prunes = False  # whether trials may be stopped while they train

    def __init__(self, points: Iterable[Point], about: str) -> None:
        self.points, self.about = list(points), about

    def batches(self) -> Iterator[PointBatch]:
        yield PointBatch(self.points)

    def tell(self, tried: Sequence[TriedPoint]) -> None:
        pass
