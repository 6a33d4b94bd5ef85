"""Layer by layer, for one batch: activations, dead and saturated units, gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainrun.check.depth import first_of, levels
from trainrun.init import LAYERS
from trainrun.protocols import Batch, TaskProtocol

_CUTS = (nn.ReLU, nn.ReLU6, nn.Threshold, nn.Hardtanh)  # which give exactly 0 to what they do not pass
_SATURATES: dict[type[nn.Module], tuple[float, float]] = {nn.Sigmoid: (0.01, 0.99), nn.Tanh: (-0.99, 0.99)}


@dataclass(frozen=True)
class Signal:
    """What one linear layer or convolution gives to the next, and what comes back to it."""

    layer: str
    mean: float  # of the activations
    std: float
    dead: float | None  # share of units that are 0 for every sample; None after the last layer
    saturated: float | None  # share of a sigmoid's or tanh's values in the last hundredth of its range
    gradient_std: float  # of the loss with respect to the activations
    gradient_norm: float  # and to the layer's weights; 0 where they get none


def signals(model: nn.Module, task: TaskProtocol, batch: Batch) -> list[Signal]:
    """Of every layer in the order in which they run. Gradients are left in the model."""
    recorder = _Recorder(model)
    try:
        layers = levels(model, task, batch)
    finally:
        for hook in recorder.hooks:
            hook.remove()
    return [
        Signal(
            layer=level.layer,
            mean=level.mean,
            std=level.std,
            dead=max(shares, default=None),
            saturated=share,
            gradient_std=level.gradient_std,
            gradient_norm=_norm(model.get_submodule(level.layer).get_parameter("weight").grad),
        )
        for level, shares, share in zip(layers, recorder.dead, recorder.saturated, strict=True)
    ]


class _Recorder:
    """Hooks that measure dead and saturated units after each layer that ran."""

    def __init__(self, model: nn.Module) -> None:
        self.dead: list[list[float]] = []  # of the activation after a layer, and of what the next is given
        self.saturated: list[float | None] = []
        self.hooks: list[Any] = []
        for module in model.modules():
            if isinstance(module, LAYERS):
                self.hooks.append(module.register_forward_pre_hook(self._before_layer, with_kwargs=True))
            elif isinstance(module, _CUTS):
                self.hooks.append(module.register_forward_hook(self._after_cut))
            elif type(module) in _SATURATES:
                self.hooks.append(module.register_forward_hook(self._after_saturating))

    def _before_layer(self, _: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if self.dead and not self.dead[-1]:
            self.dead[-1].append(_dead(first_of(inputs, named)))
        self.dead.append([])
        self.saturated.append(None)

    def _after_cut(self, _: nn.Module, __: Any, outputs: Tensor) -> None:
        if self.dead:
            self.dead[-1].append(_dead(outputs))

    def _after_saturating(self, module: nn.Module, __: Any, outputs: Tensor) -> None:
        low, high = _SATURATES[type(module)]
        if self.saturated:
            self.saturated[-1] = float(((outputs < low) | (outputs > high)).float().mean())


def _dead(values: Tensor) -> float:
    """The share of units (channels of pictures, the last dimension of tokens) that are 0 throughout."""
    axis = 1 if values.ndim in (2, 4, 5) else values.ndim - 1
    units = values.detach().movedim(axis, 0).flatten(1)
    return float((units == 0).all(1).float().mean())


def _norm(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(torch.linalg.vector_norm(gradient.double()))
