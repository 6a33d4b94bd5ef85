"""A weight average kept in a copy of the model: what EMA, SWA and the schedule-free average share."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from trainrun.regularization.kinds import WeightAverage


class AveragedCopy(WeightAverage):
    """A copy of the model, in evaluation mode, whose weights `update` averages."""

    def __init__(self) -> None:
        self.model: nn.Module | None = None
        self._copy: nn.Module | None = None
        self._averaged_from: nn.Module | None = None  # the model whose tensors a subclass has listed

    def start(self, model: nn.Module) -> None:
        self.model = self._copy = copy.deepcopy(model).requires_grad_(False).eval()
        self._averaged_from = None

    @property
    def started_copy(self) -> nn.Module:
        """The copy; raises RuntimeError before `start`."""
        if self._copy is None:
            raise RuntimeError(f"{type(self).__name__} is used before {type(self).__name__}.start")
        return self._copy

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.started_copy.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.started_copy.load_state_dict(state["model"])
