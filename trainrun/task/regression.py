"""Real-valued targets, learned standardised and judged in their own units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from trainrun.protocols import DataInfo
from trainrun.task.base import OwnMetric, Task


class Regression(Task):
    """Targets are (N, K), as the data standardised them. Metrics, each the mean over the K outputs:
    rmse and mae in the targets' own units, r2 = 1 - SSE / SST about the split's own mean.
    """

    kinds: ClassVar[tuple[str, ...]] = ("values",)
    metric_modes: Mapping[str, str] = {"loss": "min", "rmse": "min", "mae": "min", "r2": "max"}

    def __init__(self, metrics: list[OwnMetric], loss: nn.Module, info: DataInfo) -> None:
        super().__init__(metrics, loss, info)
        scaling = info.target_scaling or ((0.0, 1.0),) * info.num_targets
        self.mean: Tensor
        self.std: Tensor
        self.mean, self.std = (
            torch.tensor(column, dtype=torch.float64) for column in zip(*scaling, strict=True)
        )

    def judged(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """In the targets' own units."""
        return self._own_units(outputs).float(), self._own_units(targets).float()

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        means = outputs[:, : self.info.num_targets]  # a loss with a variance has more outputs
        means, targets = means.cpu().double() * self.std, targets.cpu().double() * self.std
        error = means - targets
        return {
            "squared": error.square().sum(0),
            "absolute": error.abs().sum(0),
            "target": targets.sum(0),
            "target_squared": targets.square().sum(0),
        }

    def summarize(self, sums: Mapping[str, Tensor], num_samples: int) -> dict[str, float]:
        sse = sums["squared"]
        sst = sums["target_squared"] - sums["target"].square() / num_samples
        r2 = torch.where(sst > 0, 1 - sse / sst.clamp(min=1e-300), torch.zeros_like(sse))
        return {
            "rmse": float((sse / num_samples).sqrt().mean()),
            "mae": float((sums["absolute"] / num_samples).mean()),
            "r2": float(r2.mean()),
        }

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Values in the targets' own units, (N, K)."""
        return self._own_units(model(inputs))

    def _own_units(self, values: Tensor) -> Tensor:
        return values[:, : self.info.num_targets].cpu().double() * self.std + self.mean
