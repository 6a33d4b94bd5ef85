"""What activations a training pass keeps, with activation checkpointing and without: an estimate."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils import _pytree

from trainrun.model.activation_checkpointing import Forward, plain_forwards
from trainrun.protocols import BatchSpec, Position
from trainrun.runtime.machine import seeded

if TYPE_CHECKING:
    from trainrun.assembly.build import Parts

_TRIED = 2, 4  # samples: what grows with their number, and what does not, such as weights cast to bf16


class Activations(NamedTuple):
    """Bytes of a micro-batch at their most, where `num_blocks` compute theirs again."""

    checkpointed: int
    plain: int
    num_blocks: int


def activations_of(parts: Parts) -> Activations | None:
    """The estimate, from forward passes of few samples; None without checkpointing, or where they fail."""
    if not (forwards := plain_forwards(parts.state.model)) or parts.parallel.shards:
        return None
    with suppress(Exception):  # training will say it in its own words
        (n, few), (m, more) = (_kept_by(parts, size) for size in _TRIED)
        further = (parts.batch_spec.batch_size - n) / max(1, m - n)
        sizes = [round(a + (b - a) * further) for a, b in zip(few, more, strict=True)]
        return Activations(sizes[0], sizes[1], len(forwards))
    return None


def _kept_by(parts: Parts, size: int) -> tuple[int, tuple[int, int]]:
    """(samples, bytes with and without checkpointing) of a pass whose blocks keep theirs.

    All is left as it was.
    """
    state, kept = parts.state, _Kept({_address(p) for p in parts.state.model.parameters()})
    batch = next(iter(parts.data.train_batches(Position(), BatchSpec(size, 1), parts.settings["seed"])))
    buffers = [(buffer, buffer.clone()) for buffer in state.model.buffers()]
    state.set_modes()
    with ExitStack() as opened:
        for block, forward in plain_forwards(state.model).items():
            opened.callback(setattr, block, "forward", block.forward)
            block.forward = partial(kept.call, forward)
        opened.enter_context(seeded(0))
        opened.enter_context(saved_tensors_hooks(kept.pack, lambda tensor: tensor))
        with state.precision.autocast():
            graph = parts.task(state.model, batch)  # held, so that no address is used twice
    del graph
    for buffer, value in buffers:
        buffer.data.copy_(value)
    largest = max(kept.blocks, default=0)
    return len(batch), (kept.outside + kept.inputs + largest, kept.outside + sum(kept.blocks))


class _Kept:
    """The bytes that a graph keeps: outside of blocks, as their inputs, and in each."""

    def __init__(self, weights: set[int]) -> None:
        self._counted = weights
        self.outside = self.inputs = 0
        self.blocks: list[int] = []
        self._is_inside = False

    def pack(self, tensor: Tensor) -> Tensor:
        if _address(tensor) not in self._counted:
            self._counted.add(_address(tensor))
            size = tensor.untyped_storage().nbytes()
            if self._is_inside:
                self.blocks[-1] += size
            else:
                self.outside += size
        return tensor

    def call(self, forward: Forward, *args: Any, **kwargs: Any) -> Any:
        leaves = _pytree.tree_leaves((args, kwargs))
        self.inputs += sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))
        self.blocks.append(0)
        self._is_inside = True
        try:
            return forward(*args, **kwargs)
        finally:
            self._is_inside = False


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
