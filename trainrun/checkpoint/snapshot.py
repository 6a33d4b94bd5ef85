"""A copy of nested containers of tensors in a reusable host buffer."""

from __future__ import annotations

import contextlib
import mmap
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

_LARGE_PAGE = 1 << 21  # bytes

Copies = dict[tuple[Any, ...], tuple[Tensor, Tensor]]  # (copy, source) by where the source lies


def mapped(tree: Any, path: str, function: Callable[[Any, Any, str], Any]) -> Any:
    """The same containers around what a function makes of (value, key, path) of each entry."""
    if isinstance(tree, (list, tuple)):
        return type(tree)(function(value, index, f"{path}/{index}") for index, value in enumerate(tree))
    if not isinstance(tree, Mapping):
        return tree
    same = {key: function(value, key, f"{path}/{key}" if path else str(key)) for key, value in tree.items()}
    if not hasattr(tree, "_metadata"):
        return same
    state_dict = OrderedDict(same)  # a module's state dict: its layers' versions go with it
    state_dict._metadata = tree._metadata  # type: ignore[attr-defined]
    return state_dict


class Snapshot:
    """Holds one copy of a tree of containers. Taking another one writes over the memory of the first.

    New memory has to be paged in, which costs several times the copying itself; so it is kept
    between saves: as much again as the state, in host memory.
    """

    def __init__(self) -> None:
        self._memory: list[Tensor] = []  # of the last copies, in order

    def take(self, tree: Any) -> Any:
        """The same containers around copies of the tensors; what shares memory goes on sharing it."""
        copies: Copies = {}
        placed = self._placed(tree, copies)
        if copies:
            self._memory, sources = (list(tensors) for tensors in zip(*copies.values(), strict=True))
            torch._foreach_copy_(self._memory, sources, non_blocking=True)
        for device in {source.device for _, source in copies.values() if source.is_cuda}:
            torch.cuda.synchronize(device)  # all copies were queued; now they are here
        return placed

    def _placed(self, tree: Any, copies: Copies) -> Any:
        """The containers around memory for copies, which are yet to be made."""
        if isinstance(tree, Tensor):
            if tree.is_meta:
                return tree
            return self._tensor(
                tree.detach().resolve_conj().resolve_neg(), copies
            )  # views in the same memory
        return mapped(tree, "", lambda value, key, path: self._placed(value, copies))

    def _tensor(self, source: Tensor, copies: Copies) -> Tensor:
        if source.numel() == 0:
            return torch.empty_like(source, device="cpu")
        form = (source.shape, source.stride(), source.dtype)
        place = (source.device, source.data_ptr(), *form)
        if place not in copies:
            copy = self._memory[len(copies)] if len(copies) < len(self._memory) else None
            if copy is None or (copy.shape, copy.stride(), copy.dtype) != form:
                copy = _memory_like(source)
            copies[place] = copy, source
        return copies[place][0]


def _memory_like(source: Tensor) -> Tensor:
    """Memory for a copy; in pages of 2 MiB, as there are, it is paged in and written several times faster."""
    if source.is_cuda:  # copies from there need pinned memory to be quick
        return torch.empty_like(source, device="cpu", pin_memory=True)
    form = torch.empty_like(source, device="meta")  # dense, whatever holes the source has
    with contextlib.suppress(OSError, AttributeError):  # the latter where a system has no such pages
        if form.nbytes >= _LARGE_PAGE:
            pages = mmap.mmap(-1, form.nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            pages.madvise(mmap.MADV_HUGEPAGE)
            return torch.frombuffer(pages, dtype=source.dtype).as_strided(form.shape, form.stride())
    return torch.empty_like(source, device="cpu")
