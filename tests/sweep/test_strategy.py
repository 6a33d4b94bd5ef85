"""A grid is one batch of every combination."""

from __future__ import annotations

from trainrun.config.space import Point, PointBatch
from trainrun.sweep.strategy import Strategy


def test_a_grid_is_asked_for_at_once() -> None:
    points = [Point(("a=1",)), Point(("a=2",))]
    assert list(Strategy(points, "every combination").batches()) == [PointBatch(points)]
