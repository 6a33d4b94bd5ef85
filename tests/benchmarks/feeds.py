"""How contestants get their batches: pictures one by one as the guide loads them, or all in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bare
import pictures
from torch.utils.data import DataLoader, Subset
from turns import Contestant


class Gated:
    """Batches behind a contestant's baton, as an object that frameworks take for a loader."""

    def __init__(self, batches: Any, contestant: Contestant) -> None:
        self.batches, self.contestant = batches, contestant

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return self.contestant.feed(self.batches)


class Resident:
    """The bare loop's feed: an epoch each time it is iterated over."""

    def __init__(self, size: int, epoch: Callable[..., Iterator[bare.Batch]] = bare.batches) -> None:
        self.size, self.epoch = size, epoch
        self.inputs, self.targets = pictures.resident()

    def __len__(self) -> int:
        return -(-len(self.inputs) // self.size)

    def __iter__(self) -> Iterator[bare.Batch]:
        return self.epoch(self.inputs, self.targets, self.size, pictures.MEAN, pictures.STD)


def guides_own(
    folder: Path, size: int, augmented: bool = False, num_batches: int | None = None
) -> DataLoader[Any]:
    """The guide's feed: each picture made from PIL; an epoch of all, or of so many batches."""
    data = pictures.dataset(folder, augmented)
    kept = data if num_batches is None else Subset(data, range(num_batches * size))
    return DataLoader(kept, batch_size=size, shuffle=True)
