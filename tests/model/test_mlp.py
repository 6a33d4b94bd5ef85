"""The multilayer perceptron: shapes, sizes by hand, one rate per layer, residual connections."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from trainrun.errors import ConfigError
from trainrun.model.layers import Residual
from trainrun.model.mlp import MLP


def make(**changes: Any) -> MLP:
    settings: dict[str, Any] = {"input_shape": (1, 4, 5), "num_outputs": 3, "width": 16, "depth": 2}
    settings |= {"activation": "relu", "norm": "none", "dropout": 0.0, "residual": False}
    return MLP(**{**settings, **changes})


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({}, (20 * 16 + 16) + (16 * 16 + 16) + (16 * 3 + 3)),
        ({"width": [8, 4], "depth": None}, (20 * 8 + 8) + (8 * 4 + 4) + (4 * 3 + 3)),
        ({"width": [8, 4], "depth": 2}, (20 * 8 + 8) + (8 * 4 + 4) + (4 * 3 + 3)),
        ({"norm": "batch"}, (20 * 16 + 3 * 16) + (16 * 16 + 3 * 16) + (16 * 3 + 3)),
        ({"norm": "layer", "depth": 1}, (20 * 16 + 3 * 16) + (16 * 3 + 3)),
        ({"depth": 20, "residual": True}, (20 * 16 + 16) + 19 * (16 * 16 + 16) + (16 * 3 + 3)),
    ],
)
def test_output_shape_and_number_of_parameters(changes: dict[str, Any], parameters: int) -> None:
    model = make(**changes)
    assert model(torch.randn(7, 1, 4, 5)).shape == (7, 3)
    assert size(model) == parameters


def test_a_plain_one_computes_what_its_formula_says() -> None:
    model = make(activation="tanh")
    x = torch.randn(5, 1, 4, 5)
    (w0, b0), (w1, b1), (w2, b2) = ((m.weight, m.bias) for m in model.modules() if isinstance(m, nn.Linear))
    expected = torch.tanh(torch.tanh(x.flatten(1) @ w0.T + b0) @ w1.T + b1) @ w2.T + b2
    torch.testing.assert_close(model(x), expected)


def test_a_list_of_rates_gives_one_to_each_layer() -> None:
    model = make(dropout=[0.5, 0.3])
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.3]


def test_dropout_acts_in_training_alone() -> None:
    model, x = make(dropout=0.5), torch.randn(4, 1, 4, 5)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_residual_layers_with_a_zero_branch_are_the_identity() -> None:
    model = make(depth=5, residual=True)
    residuals = [m for m in model.modules() if isinstance(m, Residual)]
    assert len(residuals) == 4  # all but the first, which changes the width
    for one in residuals:
        for parameter in one.parameters():
            nn.init.zeros_(parameter)
    x = torch.randn(3, 1, 4, 5)
    first = nn.Sequential(model.body[0], model.body[1])
    torch.testing.assert_close(model(x), model.head(first(x)))


@pytest.mark.parametrize("depth", [3, 20])
def test_the_gradient_reaches_every_parameter(depth: int) -> None:
    model = make(depth=depth, residual=True, norm="layer", activation="gelu")
    model(torch.randn(8, 1, 4, 5)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"width": [8, 4], "depth": 3}, r"model\.depth: is 3, but model\.width lists 2"),
        ({"depth": None}, r"model\.depth: needs a value"),
        ({"dropout": [0.1, 0.2, 0.3]}, r"model\.dropout: wants one value or 2"),
        ({"width": [8, 4], "depth": None, "residual": True}, r"model\.residual: needs layers of one width"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_config_errors(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make(**changes)
