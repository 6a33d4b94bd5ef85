"""A grid is one batch of every combination."""

from __future__ import annotations

from trainrun.config.space import Choices, Point, PointBatch
from trainrun.sweep.grid import Grid

A = Choices("a", (("a=1",), ("a=2",)))


def test_a_grid_is_asked_for_at_once() -> None:
    assert list(Grid([A]).batches()) == [PointBatch([Point(("a=1",)), Point(("a=2",))])]
