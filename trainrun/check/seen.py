"""Samples of each split as rows of numbers on the host, as many as there is time to read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainrun.check.bench import Bench, Patience
from trainrun.protocols import Batch, Cut, Position

_ROWS = 2048  # of a split, to be looked at closely
_MOST_S = 3.0  # of reading, each time


@dataclass(frozen=True)
class Rows:
    """Samples of one split."""

    inputs: Tensor  # (n, F) float32
    targets: Tensor  # (n,) or (n, K), as they are
    indices: Tensor  # (n,)

    def __len__(self) -> int:
        return len(self.inputs)


def seen(bench: Bench) -> Mapping[str, Rows]:
    """The first samples of training, each once, and of the other splits; none where they are no numbers."""
    parts = bench.parts
    cut, sizes = Cut(256, 1), parts.info.sizes
    found = {"train": rows(_once(bench.data.train_batches(Position(), cut, parts.settings["seed"])))}
    for split in ("val", "test"):
        if sizes.get(split) != 0 and split in sizes:
            found[split] = rows(parts.data.eval_batches(split))
    return {split: one for split, one in found.items() if one is not None and len(one)}


def rows(batches: Iterable[Batch]) -> Rows | None:
    """None where inputs or targets are no tensors, or inputs are tokens."""
    patience, kept, count = Patience(_MOST_S, 4 * _MOST_S), list[Batch](), 0
    for batch in batches:
        if not isinstance(batch.inputs, Tensor) or not isinstance(batch.targets, Tensor):
            return None
        if not batch.inputs.is_floating_point():
            return None
        kept.append(batch)
        count += len(batch)
        if count >= _ROWS or patience.is_over:
            break
    if not kept:
        return None
    inputs = torch.cat([batch.inputs.cpu().float().flatten(1) for batch in kept])
    targets = torch.cat([batch.targets.cpu() for batch in kept])
    indices = torch.cat([torch.as_tensor(batch.indices).cpu() for batch in kept])
    first = _firsts(indices)[:_ROWS]  # a class drawn more often repeats samples
    return Rows(inputs[first], targets[first], indices[first])


def _once(batches: Iterable[Batch]) -> Iterable[Batch]:
    """Those of the first epoch."""
    for batch in batches:
        yield batch
        if batch.position.offset == 0:
            return


def _firsts(indices: Tensor) -> Tensor:
    """Where each index is met first."""
    known: dict[int, int] = {}
    for at, index in enumerate(indices.tolist()):
        known.setdefault(int(index), at)
    return torch.tensor(list(known.values()), dtype=torch.long)
