"""A model layer by layer: what each gives for one sample, and how many parameters it has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trainrun.protocols import BatchSpec, Position
from trainrun.runtime.machine import seeded
from trainrun.terminal.layout import columns

if TYPE_CHECKING:
    from trainrun.assembly.build import Parts

_DEEPEST = 2  # names of up to so many parts: what lies deeper is counted with what it lies in


def layer_rows(model: nn.Module, run: Callable[[], object]) -> list[list[str]]:
    """(name, kind, shape of its output for one sample, parameters) of each layer that ran.

    In the order in which they came to their end, the model itself last. `run` calls the model on a batch.
    The model is left as it was. A layer that is part of another shown is counted there too.
    """
    rows: dict[str, list[str]] = {}  # one that runs more often is listed once

    def note(name: str, module: nn.Module, _: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        shape = " x ".join(map(str, first.shape[1:])) if isinstance(first, Tensor) else ""
        count = sum(p.numel() for p in module.parameters())
        rows[name] = [name or "whole", type(module).__name__, shape, f"{count:,}" if count else ""]

    modes = [(module, module.training) for module in model.modules()]
    try:
        with ExitStack() as opened, torch.no_grad():
            for name, module in model.named_modules():
                if name.count(".") < _DEEPEST:
                    opened.enter_context(module.register_forward_hook(partial(note, name)))
            opened.enter_context(torch.compiler.set_stance("force_eager"))  # compiled layers call no hooks
            model.eval()
            run()
    finally:
        for module, was_training in modes:
            module.training = was_training
    return list(rows.values())


def table(parts: Parts) -> list[str]:
    """A run's layers: what each gives for one sample, and its parameters. Nothing is drawn or changed."""
    batch = next(parts.data.train_batches(Position(), BatchSpec(2, 1), parts.settings["seed"]))
    model = parts.state.model
    with seeded(0):  # of a task that draws
        rows = layer_rows(model, lambda: parts.task(model, batch))
    title = f"Layers for {parts.info.name}, with what each gives for one sample"
    return [title, "", *columns(rows, ["layer", "kind", "output", "parameters"])]
