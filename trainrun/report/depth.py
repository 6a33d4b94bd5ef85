"""What passes through a model before training, layer by layer: activations forwards, gradients backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainrun.init import LAYERS
from trainrun.protocols import Batch, Task


@dataclass(frozen=True)
class Level:
    """One layer. Its activations are what it gives to the layer that runs next, after norm, activation and
    the like, or to the loss.
    """

    layer: str
    mean: float  # of the activations
    std: float  # of the activations
    gradient_std: float  # of the loss's gradient with respect to them; nan where there is none
    weights: Tensor  # (n,)


def levels(model: nn.Module, task: Task, batch: Batch) -> list[Level]:
    """Every linear layer and convolution, in the order in which they run, for the loss of one batch.

    The model trains but for its dropout, which is off. Gradients are left in it.
    """
    names = {module: name for name, module in model.named_modules()}
    ran: list[nn.Module] = []
    passed: list[Tensor] = []  # what the layers are given, in their order, and the outputs

    def note_input(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        ran.append(module)
        note(inputs[0])

    def note(tensor: Tensor) -> None:
        if tensor.requires_grad:
            tensor.retain_grad()
        passed.append(tensor)

    hooks = [one.register_forward_pre_hook(note_input) for one in names if isinstance(one, LAYERS)]
    hooks.append(model.register_forward_hook(lambda _, __, outputs: note(outputs)))
    model.train()
    for module in names:
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    try:
        _loss(model, task, batch).backward()
    finally:
        for hook in hooks:
            hook.remove()
    return [_level(names[one], one, given) for one, given in zip(ran, passed[1:], strict=True)]


def _loss(model: nn.Module, task: Task, batch: Batch) -> Tensor:
    counts, terms = task.count(batch), task(model, batch).terms
    return torch.stack([term / counts[name] for name, term in terms.items()]).sum()


def _level(name: str, layer: nn.Module, activations: Tensor) -> Level:
    values, gradient = activations.detach().double(), activations.grad
    return Level(
        layer=name,
        mean=values.mean().item(),
        std=values.std(correction=0).item(),
        gradient_std=float("nan") if gradient is None else gradient.double().std(correction=0).item(),
        weights=layer.get_parameter("weight").detach().flatten().cpu(),
    )
