"""What activations a training pass keeps, with activation checkpointing and without: an estimate."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils import _pytree

from trainrun.model.activation_checkpointing import plain_forwards
from trainrun.protocols import BatchSpec, Position
from trainrun.runtime.machine import seeded

if TYPE_CHECKING:
    from trainrun.assembly.build import Parts


class Activations(NamedTuple):
    """Bytes of a micro-batch at their most, with `num_blocks` that compute theirs again, and plain."""

    checkpointed: int
    plain: int
    num_blocks: int


def activations_of(parts: Parts) -> Activations | None:
    """The estimate, from forward passes of few samples; None without checkpointing, or where they fail."""
    if not (forwards := plain_forwards(parts.state.model)) or parts.parallel.shards:
        return None
    with suppress(Exception):  # training will say it in its own words
        # Two sizes show what grows with the samples, and what does not, as weights cast to bf16.
        (n, few), (m, more) = (_kept_by(parts, size) for size in (2, 4))
        further = (parts.batch_spec.batch_size - n) / max(1, m - n)
        checkpointed, plain = (round(a + (b - a) * further) for a, b in zip(few, more, strict=True))
        return Activations(checkpointed, plain, len(forwards))
    return None


def _kept_by(parts: Parts, size: int) -> tuple[int, tuple[int, int]]:
    """(samples, bytes with and without checkpointing) of one forward pass; all is left as it was."""
    state, model = parts.state, parts.state.model
    counted = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    inputs, kept = 0, [0]  # bytes of what goes into blocks; kept outside of them, then within each

    def pack(tensor: Tensor, place: int) -> Tensor:
        if (storage := tensor.untyped_storage()).data_ptr() not in counted:
            counted.add(storage.data_ptr())
            kept[place] += storage.nbytes()
        return tensor

    def counting() -> saved_tensors_hooks:
        return saved_tensors_hooks(partial(pack, place=len(kept) - 1), lambda tensor: tensor)

    def call(forward: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal inputs
        inputs += sum(leaf.nbytes for leaf in _pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        kept.append(0)
        with counting():
            return forward(*args, **kwargs)

    batch = next(iter(parts.data.train_batches(Position(), BatchSpec(size, 1), parts.settings["seed"])))
    state.set_modes()
    with ExitStack() as opened:
        for buffer in model.buffers():
            opened.callback(buffer.data.copy_, buffer.clone())
        for block, forward in plain_forwards(model).items():
            opened.callback(setattr, block, "forward", block.forward)
            block.forward = partial(call, forward)
        opened.enter_context(seeded(0))
        opened.enter_context(counting())
        opened.enter_context(state.precision.autocast())
        graph = parts.task(model, batch)  # held while it counts, so that no address is used twice
        del graph
    return len(batch), (kept[0] + inputs + max(kept[1:], default=0), sum(kept))
