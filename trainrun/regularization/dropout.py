"""Dropout: a random share of units is zero at each training step (Srivastava et al., 2014)."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from trainrun.regularization.kinds import ModelChange
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Rate


class Dropout(ModelChange):
    """Set the rate of every dropout layer of the model to `p`, the share of units dropped.

    The other units are scaled by 1 / (1 - p) in training, so that evaluation needs no scaling.
    Raises ConfigError for a model without dropout layers.
    """

    def __init__(self, p: Rate) -> None:
        self.p = p

    def change_model(self, model: nn.Module) -> None:
        layers = [m for m in model.modules() if isinstance(m, _DropoutNd)]
        if not layers:
            name = type(model).__name__
            raise ConfigError.of("regularization.dropout", f"the model {name} has no dropout layers to set")
        for layer in layers:
            layer.p = self.p
