"""The order of samples and the splits: pure functions of seeds, never of what ran before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor

from trainrun.data.lazy_indices import LARGE, Indices, shuffle
from trainrun.protocols import BatchSpec, Position
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.seeds import derive

# (the training samples, seed, epoch) -> those that the epoch draws, in order
Order = Callable[[Indices, int, int], Indices]

_AHEAD = 1 << 14  # indices that are computed at a time, which costs hardly more than a few


def permutation(n: int, seed: int, *purpose: int | str) -> Tensor:
    """A random order of n samples, (n,) int64, the same for the same seed and purpose."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(derive(seed, *purpose)))


def epoch_order(train: Indices, seed: int, epoch: int, classes: Tensor | None = None) -> Indices:
    """The training samples of one epoch, as many as there are, in random order.

    With `classes`, (N,) of the N samples, every class that occurs is drawn equally often, floor or
    ceiling of its share: samples of small classes several times, of large ones not all.
    """
    n = len(train)
    if classes is None and n > LARGE:
        return shuffle(train, derive(seed, "order", epoch))
    if classes is None:
        return train[permutation(n, seed, "order", epoch)]
    labels = classes.unique()
    drawn = []
    for place, label in enumerate(labels[permutation(len(labels), seed, "classes", epoch)].tolist()):
        quota = n // len(labels) + (place < n % len(labels))
        members = (classes == label).nonzero()[:, 0]
        shuffled = members[permutation(len(members), seed, "class", epoch, label)]
        drawn.append(shuffled.repeat(-(-quota // len(members)))[:quota])
    return train[torch.cat(drawn)[permutation(n, seed, "order", epoch)]]


def micro_batches(
    order: Indices, position: Position, batch_spec: BatchSpec
) -> Iterator[tuple[Tensor, Position]]:
    """The rest of one epoch from `position`: (indices, position after them).

    Ranks take micro-batches in turn, so that a round of one each is followed by the next; the
    position is that after the round, the same on all ranks. A window never crosses the end of an
    epoch, so its last round may be short, and a rank's part of it empty.
    """
    size, length = len(order), batch_spec.batch_size * batch_spec.num_ranks
    starts = range(position.offset, size, length)
    mine = batch_spec.batch_size * batch_spec.rank
    own = range(position.offset + mine, size + mine, length)
    for start, part in zip(starts, slices(order, own, batch_spec.batch_size), strict=True):
        end = start + length
        yield part, Position(position.epoch, end) if end < size else Position(position.epoch + 1)


def slices(order: Indices, starts: range, length: int) -> Iterator[Tensor]:
    """The `length` indices from each of `starts` on: fewer at the end, and none beyond it."""
    stretches = ((min(start, len(order)), min(start + length, len(order))) for start in starts)
    if isinstance(order, Tensor):
        yield from (order[start:end] for start, end in stretches)
        return
    while ahead := list(islice(stretches, max(_AHEAD // length, 1))):
        indices = order[torch.cat([torch.arange(start, end) for start, end in ahead])]
        yield from indices.split([end - start for start, end in ahead])


def position_after(step: int, size: int, window: int) -> Position:
    """The position after `step` windows of epochs of `size` samples, as `micro_batches` counts it."""
    epoch, windows = divmod(step, -(-size // window))
    return Position(epoch, windows * window)


def hold_out(
    indices: Indices, count: int, seed: int, purpose: str, classes: Tensor | None
) -> tuple[Indices, Indices]:
    """Split `indices` into (rest, `count` held out), each sorted, but for such as are computed.

    With `classes`, (number of samples,) of all samples, every class gives the floor or the ceiling
    of its share.
    """
    if count == 0:
        return indices, indices[:0]
    if classes is None and not isinstance(indices, Tensor):
        order = shuffle(indices, derive(seed, purpose))
        return order.part(count, len(order)), order.part(0, count)
    shuffled = indices[permutation(len(indices), seed, purpose)]
    if classes is not None:
        # Sorting the shuffled samples by class and taking them at even distances is stratified
        # sampling: of any run of k samples it takes floor or ceil of k x count / all.
        shuffled = shuffled[torch.sort(classes[shuffled], stable=True).indices]
    middles = (2 * torch.arange(count) + 1) * len(shuffled)  # of `count` equal stretches, doubled
    held = torch.zeros(len(shuffled), dtype=torch.bool)
    held[torch.div(middles, 2 * count, rounding_mode="floor")] = True
    return shuffled[~held].sort().values, shuffled[held].sort().values


def fold_of(
    indices: Indices, fold: int, num_folds: int, seed: int, classes: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Split `indices` into (the others, fold number `fold`), each sorted.

    The folds of a seed are disjoint and together all of `indices`. With `classes`, (number of
    samples,) of all samples, every fold holds the floor or the ceiling of its share of each class.
    Raises ConfigError where there is no such fold.
    """
    if fold >= num_folds:
        raise ConfigError.of("data.fold", f"must be 0 to {num_folds - 1}, got {fold}")
    shuffled = indices[permutation(len(indices), seed, "folds")]
    if classes is not None:
        shuffled = shuffled[torch.sort(classes[shuffled], stable=True).indices]
    mine = torch.arange(len(shuffled)) % num_folds == fold
    return shuffled[~mine].sort().values, shuffled[mine].sort().values


def evenly_spaced(indices: Indices, most: int) -> Tensor:
    """At most `most` of `indices`, at even distances."""
    count = min(len(indices), most)
    return indices[torch.arange(count) * len(indices) // count]
