"""A batch for a rank without samples, where all ranks must make every pass: models get what they can take."""

from __future__ import annotations

from dataclasses import replace

from trainrun.data.samples import map_tensors
from trainrun.protocols import Batch

_ROWS = 2  # batch norm takes no fewer


def stand_in(batch: Batch) -> Batch:
    """An empty batch, which counts nothing, with inputs of ones (as masks are) and targets of zeros."""
    inputs = map_tensors(batch.inputs, lambda tensor: tensor.new_ones((_ROWS, *tensor.shape[1:])))
    rest = (batch.targets, batch.unsmoothed, batch.weights)
    targets, unsmoothed, weights = map_tensors(
        rest, lambda tensor: tensor.new_zeros((_ROWS, *tensor.shape[1:]))
    )
    return replace(batch, inputs=inputs, targets=targets, unsmoothed=unsmoothed, weights=weights)
