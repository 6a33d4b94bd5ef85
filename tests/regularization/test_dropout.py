"""Dropout as a regulariser: the model's own layers get the rate."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainrun.regularization.dropout import Dropout
from trainrun.vocabulary.errors import ConfigError


def test_every_dropout_layer_gets_the_rate() -> None:
    layers = [nn.Dropout(0.0), nn.Dropout2d(0.9), nn.AlphaDropout(0.1)]
    Dropout(0.3).change_model(nn.Sequential(nn.Linear(2, 2), layers[0], nn.Sequential(*layers[1:])))
    assert [layer.p for layer in layers] == [0.3] * 3


def test_p_is_the_share_dropped_and_what_is_kept_is_scaled_up_in_training_alone() -> None:
    model = nn.Sequential(nn.Dropout(0.0))
    Dropout(0.2).change_model(model)
    torch.manual_seed(0)
    out = model(torch.ones(100_000))
    assert float((out == 0).float().mean()) == pytest.approx(0.2, abs=0.01)  # eight standard errors
    assert sorted(out.unique().tolist()) == pytest.approx([0, 1 / 0.8])
    assert torch.equal(model.eval()(torch.ones(9)), torch.ones(9))


def test_a_model_without_dropout_layers_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"regularization\.dropout: the model Linear has no dropout layers"):
        Dropout(0.3).change_model(nn.Linear(2, 2))
