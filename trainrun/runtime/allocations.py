"""The newest allocations on a GPU, recorded by torch and written where its memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

_MOST = 20_000  # entries, of some KB each where they have stacks
_LARGE = 2**30  # bytes of weights: steps of such models do not feel the 2 us that each stack takes


@contextmanager
def recorded_allocations(device: torch.device, weight_bytes: int) -> Iterator[None]:
    """Within, allocations are recorded, those of large models with the lines of Python that made them."""
    if device.type != "cuda":
        yield
        return
    context = "alloc" if weight_bytes >= _LARGE else None
    with suppress(RuntimeError):  # of an allocator that cannot
        torch.cuda.memory._record_memory_history(context=context, stacks="python", max_entries=_MOST)
    try:
        yield
    finally:
        with suppress(RuntimeError):
            torch.cuda.memory._record_memory_history(None)


def write_allocations(device: torch.device, file: Path) -> bool:
    """Write them for pytorch.org/memory_viz; whether that was possible. The file is never read here."""
    with suppress(RuntimeError, OSError):
        if device.type == "cuda":
            file.parent.mkdir(exist_ok=True)
            torch.cuda.memory._dump_snapshot(str(file))
            return True
    return False
