"""Base class of tasks: one loss, one model output per target, metrics as sums over a split."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainrun.protocols import IGNORED, Batch, DataInfo, Outcome
from trainrun.task.own_metrics import OwnMetric, named
from trainrun.vocabulary.errors import ConfigError

_FITTING = {
    "classes": "; use task=classification loss=cross_entropy",
    "labels": "; use task=multilabel loss=bce_with_logits",
    "values": "; use task=regression loss=mse",
    "tokens": "; use task=language_model loss=cross_entropy",
}
_LEAST = torch.finfo(torch.float32).tiny  # of a step's weights: one in which all are 0 has a loss of 0


class Task:
    """Base of the tasks here; each learns targets of its `kinds`. A task of your own need not inherit."""

    kinds: ClassVar[tuple[str, ...]] = ()
    metric_modes: Mapping[str, str] = {"loss": "min"}
    counts_samples = True  # where `count` is a number of the host, it is mostly that of the samples
    per_token = False  # whether the model gives outputs for each token of a sample, not for the whole

    def __init__(self, metrics: Sequence[OwnMetric], loss: Any, info: DataInfo) -> None:
        takes_steps = type(self).step_rows is not Task.step_rows
        self.has_steps = takes_steps and info.kind in [f"step_{kind}" for kind in self.kinds]
        if info.kind not in self.kinds and not self.has_steps:
            name = type(self).__name__.lower()
            text = f"{name} learns {' or '.join(self.kinds)}, the targets of {info.name} are {info.kind}"
            raise ConfigError.of("task", text + _FITTING.get(info.kind, ""))
        self.loss, self.info, self.own_metrics = loss, info, named(metrics)

    @property
    def num_outputs(self) -> int:
        return self.info.num_targets * getattr(self.loss, "outputs_per_target", 1)

    @property
    def vocab_size(self) -> int | None:
        """How many tokens the model must know; None where inputs are numbers."""
        return len(self.info.vocabulary) or (self.info.num_targets if self.info.kind == "tokens" else None)

    def count(self, batch: Batch) -> Mapping[str, float | Tensor]:
        targets = batch.targets if batch.unsmoothed is None else batch.unsmoothed
        each = self.step_weights(targets) if self.has_steps else self.loss.weight(self.targets(targets))
        if batch.weights is None:
            return {"loss": float(len(batch)) if each is None else each.sum()}
        weights = batch.weights if each is None else self.weighed(each, batch)
        return {"loss": weights.sum().clamp(min=_LEAST)}

    @property
    def takes_weights(self) -> bool:
        """Whether samples may have weights: not where a subclass counts in its own way."""
        return type(self).count is Task.count and type(self).__call__ is Task.__call__

    def weighed(self, each: Tensor, batch: Batch) -> Tensor:
        """What each sample, or each of its steps, comes to, times its sample's weight."""
        if batch.weights is None:
            return each
        if getattr(self.loss, "is_mean", False):
            text = "returns one mean for a batch; with data.weights it must return a value for each sample"
            raise ConfigError.of("loss", text, "data.weights=null")
        return each.flatten() * batch.weights.repeat_interleave(each.numel() // max(len(batch), 1))

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        if self.has_steps:
            return self._of_steps(model, batch)
        outputs, targets = model(batch.inputs), self.targets(batch.targets)
        losses = self.loss.of_training(outputs, targets, batch.inputs) if model.training else None
        losses = self.loss(outputs, targets) if losses is None else losses
        terms = {"loss": sum_exactly(self.weighed(losses, batch))}
        with torch.no_grad():
            if model.training:
                quick = self.mixed_sums if batch.is_mixed else self.quick_sums
                return Outcome(terms, quick(outputs, targets))
            sums = self.sums(outputs, targets)
            return Outcome(terms, sums, *self.for_own_metrics(model, outputs, batch.targets))

    def _of_steps(self, model: nn.Module, batch: Batch) -> Outcome:
        """The same where every step or pixel has a target: the loss is a mean over those that count."""
        outputs, targets = self.step_rows(model(batch.inputs), batch.targets)
        counted = has_target(targets)
        losses = self.loss(outputs, self.targets(targets.where(counted, 0)))
        terms = {"loss": sum_exactly(self.weighed(losses * counted.flatten(), batch))}
        with torch.no_grad():
            sums = {"steps": counted.sum()}
            if model.training:
                quick = self.quick_sums(outputs, targets)
                return Outcome(terms, sums | quick if quick else {})
            outputs, targets = _with_target(outputs, targets)
            sums |= self.sums(outputs, self.targets(targets))
            return Outcome(terms, sums, *self.for_own_metrics(model, outputs, targets))

    def counted_rows(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of outputs and targets (N, ...) whose steps have a target."""
        return _with_target(*self.step_rows(outputs, targets))

    def step_rows(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs and targets as rows, one for each step."""
        raise NotImplementedError

    def step_weights(self, targets: Tensor) -> Tensor:
        """What each step counts in the mean; 0 where it has no target."""
        counted = has_target(targets)
        weight = self.loss.weight(targets.where(counted, 0).flatten())
        return counted if weight is None else weight * counted.flatten()

    def targets(self, targets: Tensor) -> Tensor:
        """Targets in the form that the loss takes."""
        return targets

    def for_own_metrics(self, model: nn.Module, outputs: Tensor, targets: Tensor) -> Iterable[Tensor]:
        """What own metrics read of an evaluated batch; nothing else may keep the outputs in memory."""
        return self.metric_inputs(outputs, targets) if self.own_metrics and not model.training else ()

    def metric_inputs(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(outputs, targets) as the user's own metrics see them."""
        return outputs, targets

    def quick_sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The sums, one number each, that are cheap enough for every training step."""
        return {}

    def mixed_sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The same for mixtures of samples, which have no single true class."""
        return {}

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The sums from which `summarize` computes a split's metrics, added up over batches."""
        return {}

    def summarize(self, sums: Mapping[str, Tensor], num_samples: int) -> dict[str, float]:
        """Every sum's mean over the samples, under the sum's own name."""
        return {name: float(total) / num_samples for name, total in sums.items()}

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """The model's outputs as they are."""
        outputs: Tensor = model(inputs)
        return outputs


def in_float64(values: Tensor) -> Tensor:
    """The same numbers where they are, or on the host where the device has no float64."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def has_target(targets: Tensor) -> Tensor:
    """Which steps have a target; any number may be a value, so that all of those do."""
    return torch.ones_like(targets, dtype=torch.bool) if targets.is_floating_point() else targets != IGNORED


def _with_target(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    counted = has_target(targets).flatten()
    return outputs[counted], targets[counted]


def sum_exactly(losses: Tensor) -> Tensor:
    """The sum in float32 or better: in 16 bits it would overflow."""
    return losses.sum(dtype=torch.promote_types(losses.dtype, torch.float32))


def perplexity(nats_per_token: float) -> float:
    """e to the mean cross-entropy; infinite where a float can hardly hold it, and for NaN."""
    return math.exp(nats_per_token) if nats_per_token < 700 else math.inf


def confusion_matrix(predicted: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """(num_classes, num_classes) int64: rows are true classes, columns predicted ones."""
    flat = targets * num_classes + predicted
    counts = flat.new_zeros(num_classes**2)  # bincount would wait for a GPU, to learn how many it needs
    return counts.scatter_add_(0, flat, torch.ones_like(flat)).view(num_classes, num_classes)


def mean_iou(confusion: Tensor) -> float:
    """The mean of TP / (TP + FP + FN) over the classes that occur (Everingham et al., 2010)."""
    confusion = confusion.cpu().double()
    hits, union = confusion.diag(), confusion.sum(0) + confusion.sum(1) - confusion.diag()
    return float((hits[union > 0] / union[union > 0]).mean())


def f1_macro(hits: Tensor, claimed: Tensor, real: Tensor) -> float:
    """The mean of 2 TP / (2 TP + FP + FN) over classes or labels; those that never occur are left out.

    Counts are (C,): predicted and right (`hits`), predicted (`claimed`), true (`real`).
    """
    total = (claimed + real).cpu().double()
    occurs = total > 0
    return float((2 * hits.cpu().double()[occurs] / total[occurs]).mean()) if occurs.any() else 0.0


def class_metrics(sums: Mapping[str, Tensor], num_samples: int) -> dict[str, float]:
    """Accuracy and f1_macro from a split's confusion matrix; in training the accuracy alone."""
    for name, metric in (("correct_mixed", "accuracy_mixed"), ("correct", "accuracy")):
        if name in sums:
            return {metric: float(sums[name]) / num_samples}
    hits, confusion = sums["confusion"].diag(), sums["confusion"]
    f1 = f1_macro(hits, confusion.sum(0), confusion.sum(1))
    return {"accuracy": float(hits.sum()) / num_samples, "f1_macro": f1}
