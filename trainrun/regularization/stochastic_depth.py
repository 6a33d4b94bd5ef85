"""Stochastic depth: residual branches are left out at random, later ones more often (Huang et al., 2016)."""

from __future__ import annotations

from typing import Any

from torch import nn

from trainrun.regularization.kinds import ModelChange
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Rate

_LAYERS = {"StochasticDepth", "DropPath"}  # torchvision's layer that drops whole branches; timm's and ours


class StochasticDepth(ModelChange):
    """Set the rate at which the l-th of L residual branches is dropped, by sample, to `p` l / L.

    Raises ConfigError for a model without such branches.
    """

    def __init__(self, p: Rate) -> None:
        self.p = p

    def change_model(self, model: nn.Module) -> None:
        layers: list[Any] = [m for m in model.modules() if type(m).__name__ in _LAYERS]
        if not layers:
            text = f"the model {type(model).__name__} has no residual branches that can be left out"
            raise ConfigError.of("regularization.stochastic_depth", text)
        for number, layer in enumerate(layers, 1):
            setattr(layer, "drop_prob" if hasattr(layer, "drop_prob") else "p", self.p * number / len(layers))
