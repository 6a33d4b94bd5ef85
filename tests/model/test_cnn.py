"""The small convolutional network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from trainrun.model.cnn import CNN
from trainrun.vocabulary.errors import ConfigError


def make(**changes: Any) -> CNN:
    settings: dict[str, Any] = {"input_shape": (1, 8, 8), "num_outputs": 10, "widths": [4, 8], "depth": 1}
    settings |= {"hidden": 16, "activation": "relu", "norm": "none", "dropout": 0.25}
    return CNN(**{**settings, **changes})


# A convolution has 9 c_in c_out weights, a bias only without norm; 8 x 8 halves twice to 2 x 2.
HEAD = (8 * 2 * 2 * 16 + 16) + (16 * 10 + 10)


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({}, (9 * 4 + 4) + (9 * 4 * 8 + 8) + HEAD),
        ({"norm": "batch"}, (9 * 4 + 8) + (9 * 4 * 8 + 16) + HEAD),
        ({"norm": "group", "depth": 2}, 9 * (4 + 16 + 32 + 64) + 2 * (4 + 4 + 8 + 8) + HEAD),
        ({"input_shape": (3, 9, 11)}, (27 * 4 + 4) + (9 * 4 * 8 + 8) + HEAD),
    ],
)
def test_output_shape_and_number_of_parameters(changes: dict[str, Any], parameters: int) -> None:
    model = make(**changes)
    assert model(torch.randn(2, *changes.get("input_shape", (1, 8, 8)))).shape == (2, 10)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_the_gradient_reaches_every_parameter(norm: str) -> None:
    model = make(norm=norm, activation="gelu")
    model(torch.randn(8, 1, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_dropout_is_the_hidden_layers() -> None:
    assert [m.p for m in make(dropout=0.4).modules() if isinstance(m, nn.Dropout)] == [0.4]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"input_shape": (30,)}, r"model: cnn needs pictures .* use mlp"),
        ({"input_shape": (1, 8, 3)}, r"model\.widths: 2 stages halve 8 x 3 pictures to nothing"),
        ({"widths": [4] * 4}, r"model\.widths: 4 stages"),
    ],
)
def test_shapes_that_it_cannot_take_are_config_errors(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make(**changes)
