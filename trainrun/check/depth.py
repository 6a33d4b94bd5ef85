"""Activations forwards and gradients backwards through a model before training; dead and saturated units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from trainrun.check.context import loss_of
from trainrun.init import LAYERS
from trainrun.protocols import Batch, TaskProtocol

_CUTS = (nn.ReLU, nn.ReLU6, nn.Threshold, nn.Hardtanh)  # which give exactly 0 to what they do not pass
_SATURATES: dict[type[nn.Module], tuple[float, float]] = {nn.Sigmoid: (0.01, 0.99), nn.Tanh: (-0.99, 0.99)}


@dataclass(frozen=True)
class Level:
    """One layer. Its activations are what the next layer, or the loss, gets, after norm and activation."""

    layer: str
    mean: float  # of the activations
    std: float  # of the activations
    gradient_std: float  # of the loss's gradient with respect to them; nan where there is none
    weights: Tensor  # (n,)
    gradient_norm: float = 0.0  # of the loss's gradient with respect to the weights; 0 where there is none
    dead: float | None = None  # share of units that are 0 for every sample; None after the last layer
    saturated: float | None = None  # share of a sigmoid's or tanh's values in the last 1 % of its range


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
    with recorder.hooks:
        loss = loss_of(task, model, batch)
        recorder.close()
        loss.backward()
    return [recorder.level(place, names[layer]) for place, (layer, _) in enumerate(recorder.ran)]


class _Recorder:
    """Hooks that keep what each layer is given, the outputs of the model, and dead and saturated units."""

    def __init__(self, model: nn.Module) -> None:
        self.ran: list[tuple[nn.Module, int]] = []  # and which of `passed` it was given
        self.passed: list[Tensor] = []  # what the layers are given, in their order, and the outputs
        self.newest: Tensor | None = None  # what the layer that ran last gave
        self.dead: list[list[float]] = []  # of the activation after a layer, and of what the next is given
        self.saturated: list[float | None] = []
        self.hooks = ExitStack()  # that removes them
        for module in model.modules():
            if isinstance(module, LAYERS):
                hook = module.register_forward_pre_hook(self._before_layer, with_kwargs=True)
                self.hooks.enter_context(hook)
            if module is model or isinstance(module, (*LAYERS, *_CUTS, *_SATURATES)):
                self.hooks.enter_context(module.register_forward_hook(self._after))
        self.model = model

    def close(self) -> None:
        """Take the last layer's outputs for the model's, where the task calls only parts of the model."""
        if self.ran and self.ran[-1][1] + 1 == len(self.passed) and self.newest is not None:
            self._keep(self.newest)

    def level(self, place: int, name: str) -> Level:
        """The figures of the layer that ran in that place."""
        layer, given = self.ran[place]
        weight, activations = layer.get_parameter("weight"), self.passed[given + 1]
        values, gradient = activations.detach().double(), activations.grad
        return Level(
            name,
            mean=values.mean().item(),
            std=values.std(correction=0).item(),
            gradient_std=math.nan if gradient is None else gradient.double().std(correction=0).item(),
            weights=weight.detach().flatten().cpu(),
            gradient_norm=0.0 if weight.grad is None else float(weight.grad.double().norm()),
            dead=max(self.dead[place], default=None),
            saturated=self.saturated[place],
        )

    def _keep(self, tensor: Tensor) -> None:
        if tensor.requires_grad:
            tensor.retain_grad()
        self.passed.append(tensor)

    def _before_layer(self, module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        given = inputs[0] if inputs else next(iter(named.values()))
        if self.dead and not self.dead[-1]:
            self.dead[-1].append(_dead(given))
        self.dead.append([])
        self.saturated.append(None)
        self.ran.append((module, len(self.passed)))
        self._keep(given)

    def _after(self, module: nn.Module, _: Any, outputs: Any) -> None:
        if isinstance(module, LAYERS):
            self.newest = outputs
        elif isinstance(module, _CUTS) and self.ran:
            self.dead[-1].append(_dead(outputs))
        elif type(module) in _SATURATES and self.ran:
            low, high = _SATURATES[type(module)]
            self.saturated[-1] = float(((outputs < low) | (outputs > high)).float().mean())
        if module is self.model:
            output = outputs if isinstance(outputs, Tensor) else self.newest  # of several tensors none is it
            if output is not None:
                self._keep(output)


def _dead(values: Tensor) -> float:
    """The share of units (channels of pictures, the last dimension of tokens) that are 0 throughout."""
    axis = 1 if values.ndim in (2, 4, 5) else values.ndim - 1
    units = values.detach().movedim(axis, 0)
    return float((units.reshape(len(units), -1) == 0).all(1).float().mean())
