"""Regression: real-valued targets, learned standardised and evaluated in their own units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from trainrun.protocols import DataInfo
from trainrun.task.base import Task, in_float64
from trainrun.task.own_metrics import OwnMetric
from trainrun.task.steps import value_rows


class Regression(Task):
    """Targets are (N, K) in their own units; with `standardize` the model learns (y - mean) / std.

    Mean and std are of the training split; the targets of a stream, which has none, stay as they are.
    Targets of every step or pixel, (N, ...), are taken one by one, in their own units.
    Metrics, each the mean over the K outputs: rmse and mae in the targets' own units, r2 = 1 - SSE / SST
    about the split's own mean.
    """

    kinds: ClassVar[tuple[str, ...]] = ("values",)
    metric_modes: Mapping[str, str] = {"loss": "min", "rmse": "min", "mae": "min", "r2": "max"}

    def __init__(self, metrics: list[OwnMetric], loss: nn.Module, info: DataInfo, standardize: bool) -> None:
        super().__init__(metrics, loss, info)
        self.scaling = info.target_scaling if standardize else None

    def targets(self, targets: Tensor) -> Tensor:
        return targets if self.scaling is None else (targets - self.scaling.mean) / self.scaling.std

    def metric_inputs(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """In the targets' own units."""
        return self._own_units(outputs).float(), targets

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """In the targets' own units but for their mean: far from 0, squares would lose digits."""
        std = 1.0 if self.scaling is None else in_float64(self.scaling.std)
        means, targets = self._means(outputs) * std, in_float64(targets) * std
        error = means - targets
        return {
            "squared": error.square().sum(0),
            "absolute": error.abs().sum(0),
            "target": targets.sum(0),
            "target_squared": targets.square().sum(0),
        }

    def summarize(self, sums: Mapping[str, Tensor], num_samples: int) -> dict[str, float]:
        num_samples = int(sums.get("steps", num_samples))
        sse = sums["squared"]
        sst = sums["target_squared"] - sums["target"].square() / num_samples
        r2 = torch.where(sst > 0, 1 - sse / sst.clamp(min=1e-300), torch.zeros_like(sse))
        return {
            "rmse": float((sse / num_samples).sqrt().mean()),
            "mae": float((sums["absolute"] / num_samples).mean()),
            "r2": float(r2.mean()),
        }

    def step_rows(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return value_rows(outputs, targets)

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Values in the targets' own units, (N, K)."""
        return in_float64(model(inputs)) if self.has_steps else self._own_units(model(inputs))

    def _own_units(self, outputs: Tensor) -> Tensor:
        means, scaling = self._means(outputs), self.scaling
        return means if scaling is None else means * in_float64(scaling.std) + in_float64(scaling.mean)

    def _means(self, outputs: Tensor) -> Tensor:
        """(N, K) float64; a loss with a variance has more outputs."""
        return in_float64(outputs[:, : self.info.num_targets])
