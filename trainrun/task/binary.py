"""One of two classes with a single output: a logit for the second class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from trainrun.protocols import DataInfo
from trainrun.task.base import Task, class_metrics, confusion_matrix
from trainrun.task.own_metrics import OwnMetric
from trainrun.vocabulary.errors import ConfigError


class Binary(Task):
    """Targets are classes 0 and 1, (N,), or their probabilities (N, 2). Metrics: accuracy, f1_macro."""

    kinds: ClassVar[tuple[str, ...]] = ("classes",)
    metric_modes: Mapping[str, str] = {"loss": "min", "accuracy": "max", "f1_macro": "max"}

    def __init__(self, metrics: list[OwnMetric], loss: nn.Module, info: DataInfo) -> None:
        super().__init__(metrics, loss, info)
        if info.num_targets != 2:
            text = f"binary needs two classes, {info.name} has {info.num_targets}; use classification"
            raise ConfigError.of("task", text, "task=classification")

    @property
    def num_outputs(self) -> int:
        return 1

    def targets(self, targets: Tensor) -> Tensor:
        """The probability of the second class, (N, 1) float32."""
        return targets.float()[:, None] if targets.ndim == 1 else targets[:, 1:]

    def quick_sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"correct": ((outputs > 0) == (targets > 0.5)).sum()}

    def mixed_sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"correct_mixed": torch.where(outputs > 0, targets, 1 - targets).sum()}

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        predicted, true = (outputs[:, 0] > 0).long(), (targets[:, 0] > 0.5).long()
        return {"confusion": confusion_matrix(predicted, true, 2)}

    def summarize(self, sums: Mapping[str, Tensor], num_samples: int) -> dict[str, float]:
        return class_metrics(sums, num_samples)

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Probability of the second class, (N, 1) float64 on the host: above 0.5 where the output is > 0."""
        return torch.sigmoid(model(inputs).cpu().double())
