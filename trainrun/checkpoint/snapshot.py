"""A copy of nested containers of tensors in a reusable host buffer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Snapshot:
    """Holds one copy of a tree of containers. Taking another one writes over the memory of the first.

    New memory has to be paged in, which costs several times the copying itself; so it is kept
    between saves: as much again as the state, in host memory.
    """

    def __init__(self) -> None:
        self._memory: dict[tuple[Any, ...], list[Tensor]] = {}  # by kind of tensor: copies free to be used

    def take(self, tree: Any) -> Any:
        """The same containers around copies of the tensors; what shares memory goes on sharing it."""
        free = {kind: list(tensors) for kind, tensors in self._memory.items()}
        copies: dict[tuple[Any, ...], Tensor] = {}
        copied = self._copied(tree, free, copies)
        if any(key[0].type == "cuda" for key in copies):
            torch.cuda.synchronize()  # all copies were queued; now they are here
        return copied

    def _copied(self, tree: Any, free: dict[Any, list[Tensor]], copies: dict[tuple[Any, ...], Tensor]) -> Any:
        if isinstance(tree, Tensor):
            return self._tensor(tree.detach(), free, copies)
        if isinstance(tree, Mapping):
            same = {key: self._copied(value, free, copies) for key, value in tree.items()}
            if not hasattr(tree, "_metadata"):
                return same
            state_dict = OrderedDict(same)  # a module's state dict: its layers' versions go with it
            state_dict._metadata = tree._metadata  # type: ignore[attr-defined]
            return state_dict
        if isinstance(tree, (list, tuple)):
            return type(tree)(self._copied(value, free, copies) for value in tree)
        return tree

    def _tensor(self, source: Tensor, free: dict[Any, list[Tensor]], copies: dict[Any, Tensor]) -> Tensor:
        storage = (source.device, source.data_ptr(), source.shape, source.stride(), source.dtype)
        if storage not in copies or source.numel() == 0:
            kind, is_cuda = (*storage[2:], source.device.type), source.device.type == "cuda"
            if free.get(kind):
                copy = free[kind].pop()
            else:
                copy = torch.empty_like(source, device="cpu", pin_memory=is_cuda)
                self._memory.setdefault(kind, []).append(copy)
            copies[storage] = copy.copy_(source, non_blocking=is_cuda)
        return copies[storage]
