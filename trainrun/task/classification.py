"""One of several classes: softmax over the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainrun.protocols import DataInfo
from trainrun.task.base import Task, class_metrics, confusion_matrix, mean_iou
from trainrun.task.own_metrics import OwnMetric
from trainrun.task.steps import class_axis, class_rows


class Classification(Task):
    """Targets are classes (N,) or, where a regulariser softened them, probabilities (N, C).

    With a class for each step or pixel, (N, ...), the model gives logits (N, C, ...) or (N, ..., C); targets
    of -100 are left out of loss and metrics, and mean_iou is the mean over classes of TP / (TP + FP + FN).
    Metrics: accuracy, f1_macro, and with more than five classes top5. The true class of a soft target is
    the most probable one. For mixtures of samples, training reports accuracy_mixed instead: the
    probability that the mixed target gives to the predicted class.
    """

    kinds: ClassVar[tuple[str, ...]] = ("classes",)
    metric_modes: Mapping[str, str] = {"loss": "min", "accuracy": "max", "f1_macro": "max"}

    def __init__(self, metrics: Sequence[OwnMetric], loss: Any, info: DataInfo) -> None:
        super().__init__(metrics, loss, info)
        self.per_token = self.has_steps
        if self.has_steps:
            self.metric_modes = {**self.metric_modes, "mean_iou": "max"}
        if info.num_targets > 5:
            self.metric_modes = {**self.metric_modes, "top5": "max"}

    def quick_sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"correct": (outputs.argmax(1) == _hard(targets)).sum()}

    def mixed_sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"correct_mixed": targets.gather(1, outputs.argmax(1, keepdim=True)).sum()}

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        true, num_classes = _hard(targets), self.info.num_targets
        sums = {"confusion": confusion_matrix(outputs.argmax(1), true, num_classes)}
        if num_classes > 5:
            sums["top5"] = (outputs.topk(5).indices == true[:, None]).any(1).sum()
        return sums

    def summarize(self, sums: Mapping[str, Tensor], num_samples: int) -> dict[str, float]:
        count = int(sums.get("steps", num_samples))
        metrics = class_metrics(sums, count)
        if self.has_steps and "confusion" in sums:
            metrics["mean_iou"] = mean_iou(sums["confusion"])
        return metrics | ({"top5": float(sums["top5"]) / count} if "top5" in sums else {})

    def step_rows(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return class_rows(outputs, targets, self.info.num_targets)

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Probabilities, (N, C) float64 on the host, where nearly equal outputs keep their order.

        Those of steps are where the model gives them.
        """
        outputs = model(inputs).cpu().double()
        return torch.softmax(outputs, class_axis(outputs, self.info.num_targets) if self.has_steps else 1)


def _hard(targets: Tensor) -> Tensor:
    return targets if targets.ndim == 1 else targets.argmax(1)
