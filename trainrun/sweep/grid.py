"""Grid search: every combination of the values, where no other search is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trainrun.config.space import Choices, Point, PointBatch, grid
from trainrun.sweep.outcome import TriedPoint


class Grid:
    """All points at once."""

    def __init__(self, axes: Sequence[Choices]) -> None:
        self.points = [Point(words) for words in grid(axes)]

    def about(self) -> str:
        """A description for people."""
        return "every combination"

    def batches(self) -> Iterator[PointBatch]:
        """A single one."""
        yield PointBatch(self.points)

    def tell(self, tried: Sequence[TriedPoint]) -> None:
        """Learn nothing from it."""
