"""Samples of each split as rows of numbers on the host, as many as there is time to read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainrun.check.context import CheckContext, Patience
from trainrun.protocols import Batch, BatchSpec, Position

FEWEST, _ROWS = 100, 2048  # of a split, to be looked at closely; fewer have no verdict
_MOST_BYTES = 64 * 1024**2  # of a split, where that are not too few
_MOST_S = 3.0  # of reading, each time


@dataclass(frozen=True)
class SampleRows:
    """Samples of one split."""

    inputs: Tensor  # (n, F) float32
    targets: Tensor  # (n,) or (n, K), as they are
    indices: Tensor  # (n,)

    def __len__(self) -> int:
        return len(self.inputs)


def read_splits(context: CheckContext) -> Mapping[str, SampleRows]:
    """The first samples of training, each once, and of the other splits; none where they are no numbers."""
    parts = context.parts
    batch_spec, sizes = BatchSpec(64, 1), parts.info.sizes
    splits = {
        "train": rows(_once(context.data.train_batches(Position(), batch_spec, parts.settings["seed"])))
    }
    for split in ("val", "test"):
        if sizes.get(split) != 0 and split in sizes:
            splits[split] = rows(parts.data.eval_batches(split))
    return {split: samples for split, samples in splits.items() if samples is not None and len(samples)}


def rows(batches: Iterable[Batch]) -> SampleRows | None:
    """None where inputs or targets are no tensors, or inputs are tokens."""
    patience, parts, room = Patience(_MOST_S, 4 * _MOST_S), list[SampleRows](), _ROWS
    for batch in batches:
        if not isinstance(batch.inputs, Tensor) or not isinstance(batch.targets, Tensor):
            return None
        if not batch.inputs.is_floating_point():
            return None
        if not parts:
            room = _room(batch)
        parts.append(_copied(batch, room))
        room -= len(batch)
        if room <= 0 or patience.is_over:
            break
    if not parts:
        return None
    inputs, targets = torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts])
    indices = torch.cat([part.indices for part in parts])
    first = _firsts(indices)  # a class drawn more often repeats samples
    return SampleRows(inputs[first], targets[first], indices[first])


def _room(batch: Batch) -> int:
    """How many samples such as those of `batch` are looked at."""
    size: int = 4 * max(1, batch.inputs.numel() // max(1, len(batch)))  # bytes of one in float32
    return min(_ROWS, max(FEWEST, _MOST_BYTES // size))


def _copied(batch: Batch, count: int) -> SampleRows:
    """The first `count` of its samples, without what they were part of."""
    inputs = batch.inputs[:count].cpu().float().flatten(1).clone()
    return SampleRows(inputs, batch.targets[:count].cpu(), torch.as_tensor(batch.indices)[:count].cpu())


def _once(batches: Iterable[Batch]) -> Iterable[Batch]:
    """Those of the first epoch."""
    for batch in batches:
        yield batch
        if batch.ends_epoch:
            return


def _firsts(indices: Tensor) -> Tensor:
    """Where each index is met first."""
    first_rows: dict[int, int] = {}
    for row, index in enumerate(indices.tolist()):
        first_rows.setdefault(int(index), row)
    return torch.tensor(list(first_rows.values()), dtype=torch.long)
