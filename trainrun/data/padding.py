"""Stack samples of different lengths: every axis is filled up at its end (`data.collate=pad`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import default_collate

from trainrun.protocols import IGNORED


def pad(samples: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    """(inputs, targets) of (input, target) samples; inputs are filled up with 0, integer targets with -100.

    Losses and metrics leave targets of -100 out, so that what is filled up counts for nothing.
    Raises RuntimeError for tensors with different numbers of axes.
    """
    inputs, targets = zip(*samples, strict=True)
    return _stacked(list(inputs), 0), _stacked(list(targets), IGNORED)


def _stacked(parts: list[Any], fill: int) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        largest = torch.tensor([part.shape for part in parts]).amax(0).tolist()
        return torch.stack([_filled_up(part, largest, fill) for part in parts])
    if isinstance(first, Mapping):
        return {key: _stacked([part[key] for part in parts], fill) for key in first}
    if isinstance(first, tuple):
        return type(first)(_stacked(list(column), fill) for column in zip(*parts, strict=True))
    return None if first is None else default_collate(parts)


def _filled_up(tensor: Tensor, shape: list[int], fill: int) -> Tensor:
    """`tensor` with every axis filled up at its end; floats with 0."""
    missing = [(0, size - length) for length, size in zip(tensor.shape, shape, strict=True)]
    widths = [width for pair in reversed(missing) for width in pair]  # torch counts axes from the last one
    return F.pad(tensor, widths, value=0 if tensor.is_floating_point() else fill)
