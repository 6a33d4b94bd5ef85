"""Put a model where it trains: on its device, whole, or divided among the ranks (FSDP)."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import Any

import torch
from torch import nn

from trainrun import ranks
from trainrun.assembly.factory import Factory, Settings
from trainrun.model.activation_checkpointing import checkpoint_activations
from trainrun.model.blocks import blocks_of
from trainrun.precision import Precision
from trainrun.protocols import BatchSpec, Parallel
from trainrun.runtime.machine import Runtime
from trainrun.vocabulary.errors import ConfigError


def place(
    make: Factory,
    model: nn.Module,
    runtime: Runtime,
    parallel: Parallel,
    precision: Precision,
    batch_spec: BatchSpec,
) -> nn.Module:
    """The model where it trains, with the first rank's weights; before it is divided it lies on the host."""
    if parallel.shards:
        _refuse(make.settings)
    model = runtime.prepare(model, batch_spec.batch_size, parallel.shards)
    if runtime.activation_checkpointing is not None:  # below what `parallel` puts around blocks
        checkpoint_activations(model, runtime.activation_checkpointing)
    ranks.broadcast([*model.parameters(), *model.buffers()])
    blocks: list[str] = []
    if parallel.shards:
        with suppress(ConfigError) if parallel.blocks == "auto" else nullcontext():  # then only the whole
            blocks = blocks_of(model, parallel.blocks, "parallel.blocks")
    return parallel.place(model, runtime.device, precision.dtype, blocks)


def refuse_undividable(optimizer: Any) -> None:
    """Raises ConfigError for an optimizer whose step needs whole weights."""
    reasons = {
        torch.optim.Adafactor: "means of rows and columns",
        torch.optim.LBFGS: "one vector of all weights",
    }
    for part in getattr(optimizer, "parts", [optimizer]):
        for kind, reason in reasons.items():
            if isinstance(part, kind):
                text = f"{kind.__name__} needs {reason}, which parallel=fsdp divides among the ranks"
                raise ConfigError.of("optimizer", f"{text}; use adamw, or parallel=ddp", "optimizer=adamw")


def _refuse(settings: Settings) -> None:
    """Raises ConfigError for what needs the whole model in one process."""
    if settings["runtime"]["compile"] != "off":
        text = "is not offered with parallel=fsdp; use off"
        raise ConfigError.of("runtime.compile", text, "runtime.compile=off")
    if settings["loop"].get("probes"):
        text = "look at a whole model, which parallel=fsdp divides; leave them out, or use parallel=ddp"
        raise ConfigError.of("loop.probes", text, "parallel=ddp")
