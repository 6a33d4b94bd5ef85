"""Layers that several models share: activations, norms, residual branches, stochastic depth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainrun.vocabulary.errors import ConfigError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def picture_shape(input_shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """(channels, height, width). Raises ConfigError where the input of model `name` is not a picture."""
    if len(input_shape) != 3:
        text = f"{name} needs pictures (channels, height, width), the input is {input_shape}; use mlp"
        raise ConfigError.of("model", text, "model=mlp")
    return input_shape


def norm_1d(name: str, width: int) -> nn.Module:
    """A norm over (N, width)."""
    kinds: dict[str, type[nn.Module]] = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
    return kinds[name](width)


def norm_2d(name: str, channels: int) -> nn.Module:
    """A norm over (N, channels, H, W); groups of 8 channels, or one where they do not divide."""
    if name == "group":
        return nn.GroupNorm(max(1, channels // 8) if channels % 8 == 0 else 1, channels)
    return nn.BatchNorm2d(channels) if name == "batch" else nn.Identity()


def per_layer(value: float | list[float], depth: int, key: str) -> list[float]:
    """One value for each of `depth` layers, from a single value or a list."""
    if not isinstance(value, list):
        return [value] * depth
    if len(value) != depth:
        raise ConfigError.of(key, f"must be one value or {depth}, one per layer, got {len(value)}")
    return value


class DropPath(nn.Module):
    """Stochastic depth: in training a share `p` of samples x (N, ...) is 0, the others x / (1 - p).

    `p` is 0 until regularization=stochastic_depth sets it (Huang et al., 2016).
    """

    p = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        is_kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.p
        return x * is_kept / (1 - self.p)


class Residual(nn.Module):
    """x + branch(x); init.zero_residual sets the branch's last weights to 0."""

    def __init__(self, branch: nn.Sequential) -> None:
        super().__init__()
        self.branch, self.depth = branch, DropPath()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.depth(self.branch(x))
        return out


@torch.no_grad()
def shrink_branches(branches: Sequence[nn.Sequential]) -> None:
    """Divide the last norm, or else the last layer, of each of L residual branches by L.

    The sum of all branches then starts about as large as one of them, even if all terms are positive.
    A branch that ends in a sigmoid, which is 0.5 at 0, gets the bias at which it is 1 / (2 L).
    """
    count = len(branches)
    for branch in branches:
        last = [layer for layer in branch if [*layer.parameters(recurse=False)]][-1]
        if any(isinstance(layer, nn.Sigmoid) for layer in branch):
            nn.init.constant_(last.get_parameter("bias"), -math.log(2 * count - 1))
        else:
            last.get_parameter("weight").div_(count)
