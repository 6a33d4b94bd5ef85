"""A probe that shows what a generator makes of the same noise at every evaluation."""

from __future__ import annotations

from typing import Any

from trainrun.vocabulary.ranges import Count


class SampleGrid:
    """The picture `samples`: `rows` x `rows` drawn ones; a probe's noise is the same each time."""

    def __init__(self, rows: Count) -> None:
        self.rows = rows

    def __call__(self, model: Any, batches: Any, step: int) -> dict[str, Any]:
        pictures = model.draw(self.rows**2)
        lines = pictures.unflatten(0, (self.rows, -1)).permute(2, 0, 3, 1, 4)  # (C, row, H, column, W)
        return {"samples": (lines.flatten(1, 2).flatten(2, 3) + 1) / 2}
