"""Stochastic depth: rates that grow with depth, and models that have none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainrun.model import layers
from trainrun.model.gpt import GPT
from trainrun.model.mlp import MLP
from trainrun.model.resnet import ResNet
from trainrun.model.transformer import Transformer
from trainrun.regularization.stochastic_depth import StochasticDepth
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError


class DropPath(nn.Module):
    """As timm's."""

    drop_prob = 0.0


def rates(model: nn.Module, p: float) -> list[float]:
    StochasticDepth(p).change_model(model)
    return [m.p for m in model.modules() if isinstance(m, layers.DropPath)]


def test_rates_grow_in_proportion_to_depth() -> None:
    mlp = MLP((4,), 2, 8, 5, "relu", "none", 0.0, True)  # the first of 5 layers has no shortcut
    assert rates(mlp, 0.4) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    resnet = ResNet((3, 8, 8), 2, 20, 4, "batch", 0.0)
    assert rates(resnet, 0.9) == pytest.approx([0.1 * n for n in range(1, 10)])
    gpt = GPT((6,), 5, 5, 8, 3, 2, 0.0)  # a branch of attention and one of feed-forward in each block
    assert rates(gpt, 0.6) == pytest.approx([0.1 * n for n in range(1, 7)])
    encoder = Transformer((6, 3), 2, None, False, 8, 2, 2, None, 0.0)
    assert rates(encoder, 0.4) == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_a_transformer_that_leaves_all_branches_out_is_its_embedding() -> None:
    torch.manual_seed(0)
    gpt, x = GPT((6,), 5, 5, 8, 3, 2, 0.0).train(), torch.randint(5, (4, 6))
    for layer in (m for m in gpt.modules() if isinstance(m, layers.DropPath)):
        layer.p = 1 - 1e-12
    bare = gpt.norm(gpt.tokens(x) + gpt.positions(torch.arange(6)))
    torch.testing.assert_close(gpt(x), bare @ gpt.tokens.weight.T)
    assert not torch.allclose(gpt.eval()(x), bare @ gpt.tokens.weight.T)


def test_torchvisions_and_timms_layers_are_set_too() -> None:
    theirs = import_torchvision("torchvision.ops").StochasticDepth(0.0, "row")
    model = nn.Sequential(theirs, DropPath())
    StochasticDepth(0.2).change_model(model)
    assert (theirs.p, model[1].drop_prob) == (0.1, 0.2)


def test_a_model_without_branches_is_a_config_error() -> None:
    message = r"regularization\.stochastic_depth: the model Linear has no residual branches"
    with pytest.raises(ConfigError, match=message):
        StochasticDepth(0.1).change_model(nn.Linear(2, 2))
