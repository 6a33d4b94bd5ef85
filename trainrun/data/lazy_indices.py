"""A random order of any number of samples, computed where it is read: a Feistel network, no memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainrun.vocabulary.seeds import derive

LARGE = 20_000_000  # samples; the numbers and orders of fewer are tensors, 8 bytes each
_ROUNDS = 6  # even, so that the halves end where they began; four suffice in Luby and Rackoff's proof (1988)
_BLOCK = 1 << 18  # places computed at a time, which stay in a processor's cache


@dataclass(frozen=True)
class LazyIndices:
    """Numbers of samples that are computed where they are read, else like a tensor of them, (n,) int64."""

    size: int
    numbers: Callable[[Tensor], Tensor]  # of places

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, places: Tensor | slice) -> Tensor:
        if isinstance(places, slice):
            blocks = torch.arange(*places.indices(self.size)).split(_BLOCK)
            return torch.cat([self.numbers(block) for block in blocks])
        return self.numbers(places)

    def to(self, device: torch.device) -> LazyIndices:
        return LazyIndices(self.size, lambda places: self.numbers(places).to(device))

    def part(self, start: int, end: int) -> LazyIndices:
        return LazyIndices(end - start, lambda places: self.numbers(places + start))


Indices = Tensor | LazyIndices


def numbered(size: int) -> Indices:
    """All samples in order."""
    return torch.arange(size) if size <= LARGE else LazyIndices(size, lambda places: places)


def shuffle(indices: Indices, seed: int) -> LazyIndices:
    """`indices` in a random order, the same for the same seed (Black and Rogaway, 2002).

    A place is a row and a column, to which rounds in turn add a hash of the other. Of the grid's few
    places too many, what lands there goes through again.
    """
    size = len(indices)
    num_rows = math.isqrt(size - 1) + 1
    num_columns = -(-size // num_rows)
    keys = [derive(seed, number) for number in range(_ROUNDS)]

    def moved(places: Tensor) -> Tensor:
        left, right = torch.div(places, num_columns, rounding_mode="floor"), places % num_columns
        modulus, other = num_rows, num_columns
        for key in keys:
            left, right = right, (left + _hash(right, key)) % modulus
            modulus, other = other, modulus
        return left * num_columns + right

    def numbers(places: Tensor) -> Tensor:
        places = moved(places)
        while len(outside := (places >= size).nonzero()[:, 0]):
            places[outside] = moved(places[outside])
        return indices[places]

    return LazyIndices(size, numbers)


def _hash(values: Tensor, key: int) -> Tensor:
    """48 bits of each of `values`, by products that wrap (constants of Evensen's moremur, 2019)."""
    mixed = (values ^ key) * 0x3C79AC492BA7B653
    mixed = (mixed ^ (mixed >> 32)) * 0x1C69B3F74AC4AE35
    return mixed >> 16  # so small that the sum with a place does not wrap
