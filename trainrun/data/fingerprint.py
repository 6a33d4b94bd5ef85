"""Which samples these are, in 16 hex digits: a resumed run must find those it was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainrun.data.samples import Seeded, collate, map_tensors, size_of, unpacked


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """Of every byte of every tensor, their shapes and types."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def sampled_fingerprint(datasets: Iterable[Dataset[Any]]) -> str:
    """Of map-style datasets: the length of each, and its first, middle and last sample.

    A sample that draws from a generator of its own, and so reads differently the second time,
    does not count. Raises DataError for a sample that cannot be read.
    """
    found: list[Tensor] = []
    for dataset in datasets:
        size = size_of(dataset)
        found.append(torch.tensor(size))
        for index in sorted({0, size // 2, size - 1}) if size else ():
            first, again = (_features(dataset, index) for _ in range(2))
            if fingerprint(first) == fingerprint(again):
                found += first
    return fingerprint(found)


def _features(dataset: Dataset[Any], index: int) -> list[Tensor]:
    """A sample's tensors; those of floats as a few digits of means, which another CPU computes alike."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(_rounded(tensor) if tensor.is_floating_point() else tensor)
        return tensor

    map_tensors(unpacked(collate([Seeded(dataset, 0)[index]]), [index]), note)
    return found


def _rounded(values: Tensor) -> Tensor:
    """(2,): the means of the positive and of the negative part, weighted by place, to 4 digits."""
    flat = values.detach().cpu().double().flatten()
    place = torch.linspace(1, 2, len(flat), dtype=torch.float64)
    means = [float((part * place).mean()) for part in (flat.clamp(min=0), flat.clamp(max=0))]
    return torch.tensor([float(f"{mean:.3e}") for mean in means], dtype=torch.float64)
