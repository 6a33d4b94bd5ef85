"""Stochastic depth: rates that grow with depth, and models that have none."""

from __future__ import annotations

import pytest
from torch import nn

from trainrun.errors import ConfigError
from trainrun.model import layers
from trainrun.model.mlp import MLP
from trainrun.model.resnet import ResNet
from trainrun.regularization.stochastic_depth import StochasticDepth
from trainrun.vision import import_torchvision


class DropPath(nn.Module):
    """As timm's."""

    drop_prob = 0.0


def rates(model: nn.Module, p: float) -> list[float]:
    StochasticDepth(p).change_model(model)
    return [m.p for m in model.modules() if isinstance(m, layers.StochasticDepth)]


def test_rates_grow_in_proportion_to_depth() -> None:
    mlp = MLP((4,), 2, 8, 5, "relu", "none", 0.0, True)  # the first of 5 layers has no shortcut
    assert rates(mlp, 0.4) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    resnet = ResNet((3, 8, 8), 2, 20, 4, "batch", 0.0)
    assert rates(resnet, 0.9) == pytest.approx([0.1 * n for n in range(1, 10)])


def test_torchvisions_and_timms_layers_are_set_too() -> None:
    theirs = import_torchvision("torchvision.ops").StochasticDepth(0.0, "row")
    model = nn.Sequential(theirs, DropPath())
    StochasticDepth(0.2).change_model(model)
    assert (theirs.p, model[1].drop_prob) == (0.1, 0.2)


def test_a_model_without_branches_is_a_config_error() -> None:
    message = r"regularization\.stochastic_depth: the model Linear has no residual branches"
    with pytest.raises(ConfigError, match=message):
        StochasticDepth(0.1).change_model(nn.Linear(2, 2))
