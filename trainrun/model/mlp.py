"""A multilayer perceptron of any depth, with norm, dropout and residual connections."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from trainrun.model.layers import ACTIVATIONS, Residual, norm_1d, per_layer, shrink_branches
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Activation, Count, Norm, Rate


class MLP(nn.Module):
    """(N, *input_shape) -> (N, num_outputs) through `depth` hidden layers.

    A hidden layer is Linear, norm, activation, dropout. With `residual` every layer but the first
    adds its input to its output (He et al., 2016), so all widths must be alike.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        width: Count | list[Count],
        depth: Count | None,
        activation: Activation,
        norm: Norm,
        dropout: Rate | list[Rate],
        residual: bool,
    ) -> None:
        super().__init__()
        widths = _widths(width, depth)
        if residual and len(set(widths)) > 1:
            raise ConfigError.of("model.residual", f"needs layers of one width, got {widths}")
        rates = per_layer(dropout, len(widths), "model.dropout")
        layers: list[nn.Module] = [nn.Flatten()]
        last = math.prod(input_shape)
        for i, (size, rate) in enumerate(zip(widths, rates, strict=True)):
            act = ACTIVATIONS[activation]()
            layer = nn.Sequential(nn.Linear(last, size), norm_1d(norm, size), act, nn.Dropout(rate))
            layers.append(Residual(layer) if residual and i > 0 else layer)
            last = size
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(last, num_outputs)

    @torch.no_grad()
    def rescale_init(self) -> None:
        """Rescale the initial weights so that outputs start near 0 at any depth; init=auto calls it last.

        The head is divided by 10, and L residual branches by L. Without norm, dropout makes its output
        larger by 1 / (1 - p) in mean square: weights that read it are multiplied by sqrt(1 - p). An ELU
        passes more than the ReLU whose scale it is given: 1.25 keeps the mean square of 1, not sqrt(2).
        """
        self.head.weight.div_(10)
        branches = [layer.branch for layer in self.body if isinstance(layer, Residual)]
        if branches:
            shrink_branches(branches)
            return
        layers = [layer for layer in self.body if isinstance(layer, nn.Sequential)]
        for before, layer in pairwise(layers):
            linear, norm, activation, drop = layer[0], layer[1], layer[2], before[3]
            if isinstance(norm, nn.Identity) and isinstance(linear, nn.Linear):
                linear.weight.mul_(math.sqrt(1 - drop.p))  # type: ignore[operator]
                linear.weight.mul_(1.25 / math.sqrt(2) if isinstance(activation, nn.ELU) else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x))
        return out


def _widths(width: int | list[int], depth: int | None) -> list[int]:
    if isinstance(width, list):
        if depth is not None and depth != len(width):
            raise ConfigError.of("model.depth", f"is {depth}, but model.width lists {len(width)} layers")
        return width
    if depth is None:
        raise ConfigError.of("model.depth", "must be given where model.width is one number")
    return [width] * depth
