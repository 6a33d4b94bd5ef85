"""Every combination of the values: what a sweep is where no search is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trainrun.config.space import Choices, Point, PointBatch, grid
from trainrun.sweep.outcome import TriedPoint


class Grid:
    """All points at once."""

    def __init__(self, axes: Sequence[Choices]) -> None:
        self.points = [Point(words) for words in grid(axes)]

    def about(self) -> str:
        """What it does, in words."""
        return "every combination"

    def batches(self) -> Iterator[PointBatch]:
        """One."""
        yield PointBatch(self.points)

    def tell(self, tried: Sequence[TriedPoint]) -> None:
        """Nothing is learned from it."""
