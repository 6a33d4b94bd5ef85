"""The multilayer perceptron: shapes, sizes by hand, one rate per layer, residual connections."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from trainrun.init import auto
from trainrun.model.layers import ACTIVATIONS, Residual
from trainrun.model.mlp import MLP
from trainrun.vocabulary.errors import ConfigError


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
    for residual in residuals:
        for parameter in residual.parameters():
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
        ({"depth": None}, r"model\.depth: must be given"),
        ({"dropout": [0.1, 0.2, 0.3]}, r"model\.dropout: must be one value or 2"),
        ({"width": [8, 4], "depth": None, "residual": True}, r"model\.residual: needs layers of one width"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_config_errors(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make(**changes)


# ---- at the start, as init=auto leaves it


def begun(seed: int = 0, **changes: Any) -> MLP:
    torch.manual_seed(seed)
    model = make(**{"input_shape": (64,), "width": 128, "dropout": 0.2, **changes})
    auto(zero_residual=False)(model)
    return model


@torch.no_grad()
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("depth", [1, 3, 20, 100])
def test_the_first_loss_is_that_of_outputs_of_zero_at_any_depth(
    depth: int, norm: str, residual: bool
) -> None:
    """ln C for C classes, the targets' own mean square for values; within 20 % in either mode."""
    x, targets = torch.randn(64, 64), torch.randn(64, 1)
    for activation in ACTIVATIONS:
        shape = {"depth": depth, "norm": norm, "residual": residual, "activation": activation}
        for classes in (2, 10):
            model, labels = begun(num_outputs=classes, **shape), torch.randint(classes, (64,))
            for is_training in (True, False):
                loss = float(F.cross_entropy(model.train(is_training)(x), labels))
                assert loss == pytest.approx(math.log(classes), rel=0.2), (activation, classes, is_training)
        loss = float(F.mse_loss(begun(num_outputs=1, **shape)(x), targets))
        assert loss == pytest.approx(float(targets.square().mean()), rel=0.2), activation


def test_twenty_residual_layers_learn_as_well_as_three() -> None:
    """A plain loop of torch's on 1,000 digits: both reach what the other reaches."""
    digits = load_digits()
    x = torch.tensor((digits.data - digits.data.mean()) / digits.data.std(), dtype=torch.float32)
    y = torch.tensor(digits.target)

    def reached(depth: int) -> float:
        model = begun(num_outputs=10, depth=depth, residual=True)
        optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
        fall = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 400)
        for step in range(400):
            rows = torch.arange(32 * step, 32 * step + 32) % 1000
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            fall.step()
        return float((model.eval()(x[1000:]).argmax(1) == y[1000:]).float().mean())

    assert reached(20) > reached(3) - 0.02 > 0.88


@torch.no_grad()
def test_a_sigmoid_branch_adds_a_share_of_its_half() -> None:
    model = begun(activation="sigmoid", depth=11, residual=True, dropout=0.0)
    hidden = model.body[1](model.body[0](torch.randn(256, 64)))
    added = model.body[2](hidden) - hidden
    assert float(added.mean()) == pytest.approx(1 / 20, rel=0.2)  # ten branches: together a half
