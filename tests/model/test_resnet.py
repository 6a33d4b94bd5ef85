"""Residual networks in their CIFAR form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from trainrun.init import auto
from trainrun.model.resnet import ResNet
from trainrun.vocabulary.errors import ConfigError


def make(**changes: Any) -> ResNet:
    settings: dict[str, Any] = {"input_shape": (3, 32, 32), "num_outputs": 10, "depth": 20, "width": 16}
    return ResNet(**{**settings, "norm": "batch", "dropout": 0.0, **changes})


def main_path(model: nn.Module) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if "shortcut" not in name)


# He et al. (2016), table 6: depth and millions of parameters, whose shortcuts have none.
@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_the_papers_depths_have_the_papers_number_of_parameters(depth: int, millions: float) -> None:
    digits = 1 if depth == 110 else 2
    assert round(main_path(make(depth=depth)) / 1e6, digits) == millions


# Zagoruyko and Komodakis (2016), table 4: WRN-d-k has 6 n + 4 layers, its shortcuts counted, so 6 n + 2 here.
@pytest.mark.parametrize(
    ("depth", "factor", "millions"), [(40, 4, 8.9), (16, 8, 11.0), (22, 8, 17.2), (28, 10, 36.5)]
)
def test_wide_ones_have_the_papers_number_of_parameters(depth: int, factor: int, millions: float) -> None:
    with torch.device("meta"):
        model = make(depth=depth - 2, width=16 * factor)
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert count == pytest.approx(millions, rel=0.02)  # their first layer has 16 channels


def test_depth_counts_weighted_layers_on_the_main_path() -> None:
    for depth in (8, 20, 32):
        layers = [
            name
            for name, m in make(depth=depth).named_modules()
            if isinstance(m, (nn.Conv2d, nn.Linear)) and "shortcut" not in name
        ]
        assert len(layers) == depth


def test_stages_halve_the_picture_and_double_the_channels() -> None:
    model = make(depth=8)
    x, shapes = model.stem(torch.randn(1, 3, 32, 32)), []
    for block in model.body:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (2, 5, 7)])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_any_picture_gives_one_row_of_outputs(shape: tuple[int, ...], norm: str) -> None:
    model = make(input_shape=shape, depth=8, width=8, norm=norm)
    assert model(torch.randn(2, *shape)).shape == (2, 10)


def test_the_gradient_reaches_every_parameter() -> None:
    model = make(depth=14, width=8, input_shape=(3, 16, 16))
    model(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"depth": 18}, r"model\.depth: must be 6 n \+ 2"),
        ({"depth": 2}, r"model\.depth"),
        ({"input_shape": (30,)}, r"model: resnet needs pictures"),
    ],
)
def test_settings_that_it_cannot_take_are_config_errors(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make(**changes)


@torch.no_grad()
@pytest.mark.parametrize("depth", [8, 20, 56])
def test_without_norm_the_first_loss_stays_that_of_outputs_of_zero(depth: int) -> None:
    torch.manual_seed(0)
    model = make(norm="none", depth=depth)
    auto(zero_residual=False)(model)
    loss = float(nn.functional.cross_entropy(model(torch.randn(32, 3, 32, 32)), torch.randint(10, (32,))))
    assert loss == pytest.approx(math.log(10), rel=0.2)
