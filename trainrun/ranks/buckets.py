"""Tensors that go from rank to rank together, as one flat one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch is imported where ranks meet, so that mistakes are answered without it
    from torch import Tensor

BUCKET_BYTES = 32 << 20  # above it sending costs more than starting; torch's DDP has 25 MB


def in_buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Tensors of one type and device together, up to BUCKET_BYTES."""
    buckets: list[list[Tensor]] = []
    kinds = groupby(sorted(tensors, key=lambda t: str((t.dtype, t.device))), lambda t: (t.dtype, t.device))
    for _, same in kinds:
        room = 0
        for tensor in same:
            if room < tensor.nbytes:
                buckets.append([])
                room = BUCKET_BYTES
            buckets[-1].append(tensor)
            room -= tensor.nbytes
    return buckets
