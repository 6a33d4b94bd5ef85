"""Activations forwards and gradients backwards through a model before training, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from trainrun.check.context import loss_of
from trainrun.init import LAYERS
from trainrun.protocols import Batch, TaskProtocol


@dataclass(frozen=True)
class Level:
    """One layer. Its activations are what the next layer, or the loss, gets, after norm and activation."""

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
    recorder = _Recorder(model)
    model.train()
    for module in names:
        if isinstance(module, _DropoutNd):
            module.eval()
    try:
        loss = loss_of(task, model, batch)
        recorder.close()
        loss.backward()
    finally:
        for hook in recorder.hooks:
            hook.remove()
    return [_level(names[layer], layer, recorder.passed[index + 1]) for layer, index in recorder.ran]


class _Recorder:
    """Hooks that keep what each layer is given, and the outputs of the model."""

    def __init__(self, model: nn.Module) -> None:
        self.ran: list[tuple[nn.Module, int]] = []  # and which of `passed` it was given
        self.passed: list[Tensor] = []  # what the layers are given, in their order, and the outputs
        self.newest: Tensor | None = None  # what the layer that ran last gave
        self.hooks: list[Any] = [model.register_forward_hook(self._after_model)]
        for module in model.modules():
            if isinstance(module, LAYERS):
                self.hooks.append(module.register_forward_pre_hook(self._before_layer, with_kwargs=True))
                self.hooks.append(module.register_forward_hook(self._after_layer))

    def close(self) -> None:
        """Take the last layer's outputs for the model's, where the task calls only parts of the model."""
        if self.ran and self.ran[-1][1] + 1 == len(self.passed) and self.newest is not None:
            self._keep(self.newest)

    def _keep(self, tensor: Tensor) -> None:
        if tensor.requires_grad:
            tensor.retain_grad()
        self.passed.append(tensor)

    def _before_layer(self, module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        self.ran.append((module, len(self.passed)))
        self._keep(first_of(inputs, named))

    def _after_layer(self, _: nn.Module, __: Any, outputs: Tensor) -> None:
        self.newest = outputs

    def _after_model(self, _: nn.Module, __: Any, outputs: Any) -> None:
        output = (
            outputs if isinstance(outputs, Tensor) else self.newest
        )  # of several tensors none is the output
        if output is not None:
            self._keep(output)


def first_of(inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """What a layer is given, by place or by name."""
    return inputs[0] if inputs else next(iter(named.values()))


def _level(name: str, layer: nn.Module, activations: Tensor) -> Level:
    values, gradient = activations.detach().double(), activations.grad
    return Level(
        layer=name,
        mean=values.mean().item(),
        std=values.std(correction=0).item(),
        gradient_std=float("nan") if gradient is None else gradient.double().std(correction=0).item(),
        weights=layer.get_parameter("weight").detach().flatten().cpu(),
    )
