"""Activation checkpointing: blocks keep only their inputs, and compute the rest again when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.utils.stateless import _reparametrize_module

from trainrun.model.blocks import blocks_of

Forward = Callable[..., Any]


def checkpoint_activations(model: nn.Module, pattern: str) -> None:
    """Let the blocks that `blocks_of` finds drop their activations; results have the same bits.

    Inputs are kept, the rest is computed again in the backward pass (Chen et al., 2016), by torch's
    checkpoint. Names stay, as a block's `forward` alone is replaced, so that hooks of the block, such
    as those of `fully_shard`, run once. Without gradients nothing changes. Raises ConfigError.
    """
    blocks = blocks_of(model, pattern, "runtime.activation_checkpointing")
    import torch._dynamo  # noqa: F401  the first checkpoint would, 2 s that count as the first step's

    for name in blocks:
        block = model.get_submodule(name)
        block.forward = partial(_call, block, block.forward)


def plain_forwards(model: nn.Module) -> dict[nn.Module, Forward]:
    """The checkpointed blocks of a model, each with its forward as it was before."""
    forwards = {module: module.forward for module in model.modules()}
    return {m: f.args[1] for m, f in forwards.items() if isinstance(f, partial) and f.func is _call}


def _call(block: nn.Module, forward: Forward, /, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    from torch.utils.checkpoint import checkpoint

    # The whole block again, as hooks in it that come in pairs rely on.
    how: dict[str, Any] = {"use_reentrant": False, "early_stop": False}
    if not torch.compiler.is_compiling():  # the compiler sees by itself what changes buffers
        how["context_fn"] = partial(_contexts, block)
    # Both as one argument each: torch looks in them for the devices whose random states it stores.
    return checkpoint(lambda args, kwargs: forward(*args, **kwargs), args, kwargs, **how)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[Any]]:
    """Those of the first pass and the second, which works on buffers as the first one met them.

    So running statistics are not updated a second time.
    """
    copies = {name: buffer.clone() for name, buffer in block.named_buffers(remove_duplicate=False)}
    return nullcontext(), _reparametrize_module(block, copies)
