"""A fresh state over a copy of a run's model: optimizers cannot be deep-copied."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from trainrun.assembly.optimizer import optimizer_over, weight_average_of
from trainrun.check.context import CheckContext
from trainrun.checkpoint.state import TrainState
from trainrun.parameters import Parameters
from trainrun.regularization.kinds import WeightAverage


def fresh_state(
    context: CheckContext, model: nn.Module, optimizer: Mapping[str, Any], lr: float
) -> TrainState:
    """What the run begins with, over `model`: with the settings `optimizer` in place of its own, at `lr`."""
    parts = context.parts
    make = copy.copy(parts.make)
    make.settings = {**parts.settings, "optimizer": optimizer}
    parameters: Parameters = make("parameters")
    groups = parameters.groups(model, parameters.param_configs(model, optimizer.get("weight_decay")), lr)
    new_optimizer = optimizer_over(make, model, groups, lr)
    average = next(
        (
            regularizer
            for regularizer in parts.regularizers.values()
            if isinstance(regularizer, WeightAverage)
        ),
        None,
    )
    weight_average = weight_average_of(copy.deepcopy(average), new_optimizer)
    if weight_average is not None:
        weight_average.start(model)
    schedule, precision = copy.deepcopy(parts.state.schedule), copy.deepcopy(parts.state.precision)
    state = TrainState(model, new_optimizer, schedule, precision, parts.state.total_steps, weight_average)
    state.stopper = copy.deepcopy(parts.state.stopper)
    state.data, state.fitted = parts.state.data, parts.state.fitted
    return state
