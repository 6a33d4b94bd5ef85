"""What passes through a model before training, layer by layer: activations forwards, gradients backwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainrun.init import LAYERS
from trainrun.protocols import Batch, TaskProtocol


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


def levels(model: nn.Module, task: TaskProtocol, batch: Batch) -> list[Level]:
    """Every linear layer and convolution, in the order in which they run, for the loss of one batch.

    The model trains but for its dropout, which is off. Gradients are left in it.
    """
    names = {module: name for name, module in model.named_modules()}
    ran: list[tuple[nn.Module, int]] = []  # and which of `passed` it was given
    passed: list[Tensor] = []  # what the layers are given, in their order, and the outputs
    newest: list[Tensor] = []  # what the layer that ran last gave

    def note_input(module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        ran.append((module, len(passed)))
        note(first_of(inputs, named))

    def note_output(_: nn.Module, __: Any, outputs: Any) -> None:
        if isinstance(outputs, Tensor):
            note(outputs)
        elif newest:  # of several tensors none is the output
            note(newest[-1])

    def keep(_: nn.Module, __: Any, given: Tensor) -> None:
        newest[:] = [given]

    def note(tensor: Tensor) -> None:
        if tensor.requires_grad:
            tensor.retain_grad()
        passed.append(tensor)

    hooks = [model.register_forward_hook(note_output)]
    for module in names:
        if isinstance(module, LAYERS):
            hooks.append(module.register_forward_pre_hook(note_input, with_kwargs=True))
            hooks.append(module.register_forward_hook(keep))
    model.train()
    for module in names:
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    try:
        loss = _loss(model, task, batch)
        if ran and ran[-1][1] + 1 == len(passed):  # the task calls parts of the model, not the model
            note(newest[-1])
        loss.backward()
    finally:
        for hook in hooks:
            hook.remove()
    return [_level(names[layer], layer, passed[index + 1]) for layer, index in ran]


def first_of(inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """What a layer is given, by place or by name."""
    return inputs[0] if inputs else next(iter(named.values()))


def _loss(model: nn.Module, task: TaskProtocol, batch: Batch) -> Tensor:
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
