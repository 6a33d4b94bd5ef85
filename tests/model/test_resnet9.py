"""The shallow residual network for small pictures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from trainrun.init import auto
from trainrun.model.layers import DropPath
from trainrun.model.resnet9 import ResNet9
from trainrun.vocabulary.errors import ConfigError


def make(**changes: Any) -> ResNet9:
    settings: dict[str, Any] = {"input_shape": (1, 8, 8), "num_outputs": 10, "widths": [2, 4, 6, 8]}
    settings |= {"blocks": [1, 0, 1], "activation": "relu", "norm": "batch", "output_scale": 0.125}
    return ResNet9(**{**settings, **changes})


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_the_original_has_as_many_parameters_as_its_table_adds_up_to() -> None:
    """Kernels of 9 c_in c_out, two numbers per channel of a norm, and the head."""
    kernels = 9 * (3 * 64 + 64 * 128 + 2 * 128**2 + 128 * 256 + 256 * 512 + 2 * 512**2)
    norms = 2 * (64 + 3 * 128 + 256 + 3 * 512)
    model = make(input_shape=(3, 32, 32), widths=[64, 128, 256, 512])
    assert count(model) == kernels + norms + 512 * 10 + 10


@pytest.mark.parametrize("blocks", [[0, 0, 0], [1, 1, 1], [0, 2, 1]])
def test_a_block_of_a_stage_is_two_convolutions_of_its_width(blocks: list[int]) -> None:
    more = sum(n * 2 * (9 * c * c + 2 * c) for n, c in zip(blocks, (4, 6, 8), strict=True))
    assert count(make(blocks=blocks)) == count(make(blocks=[0, 0, 0])) + more


def test_nine_layers_have_weights() -> None:
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in make().modules()) == 9


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (2, 9, 15)])
@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_any_picture_gives_one_row_of_outputs(shape: tuple[int, ...], norm: str) -> None:
    assert make(input_shape=shape, norm=norm)(torch.randn(2, *shape)).shape == (2, 10)


def test_three_stages_halve_the_picture() -> None:
    assert make(input_shape=(1, 28, 28)).body(torch.randn(1, 1, 28, 28)).shape == (1, 8, 3, 3)


def test_the_head_sees_the_largest_value_of_each_channel() -> None:
    model, x = make(norm="none").eval(), torch.randn(2, 1, 16, 16)
    largest = model.body(x).flatten(2).max(2).values
    torch.testing.assert_close(model(x), model.head(largest) / 8)


def test_the_gradient_reaches_every_parameter() -> None:
    model = make(activation="gelu", input_shape=(1, 16, 16))
    model(torch.randn(8, 1, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_every_residual_branch_may_be_left_out_at_random() -> None:
    assert sum(isinstance(m, DropPath) for m in make(blocks=[2, 1, 1]).modules()) == 4


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"input_shape": (30,)}, r"model: resnet9 needs pictures .* use mlp"),
        (
            {"input_shape": (1, 28, 7)},
            r"model: resnet9 halves pictures three times, they are 28 x 7; use cnn",
        ),
        ({"widths": [4] * 3}, r"model\.widths: must list 4 numbers, got 3"),
        ({"blocks": [1]}, r"model\.blocks: must list 3 numbers, got 1"),
    ],
)
def test_settings_that_it_cannot_take_are_config_errors(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make(**changes)


@torch.no_grad()
@pytest.mark.parametrize("blocks", [[1, 0, 1], [5, 5, 5]])
def test_without_norm_the_first_loss_stays_that_of_outputs_of_zero(blocks: list[int]) -> None:
    torch.manual_seed(0)
    model = make(norm="none", blocks=blocks, widths=[16, 32, 32, 32])
    auto(zero_residual=False)(model)
    loss = float(nn.functional.cross_entropy(model(torch.randn(32, 1, 8, 8)), torch.randint(10, (32,))))
    assert loss == pytest.approx(math.log(10), rel=0.2)
