"""The metrics of a whole split, every sample counted once; nothing that training reads changes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from trainrun.errors import ConfigError, DataError
from trainrun.precision import Precision
from trainrun.protocols import Batch, Task
from trainrun.runtime import seed_forward


def evaluate(
    model: nn.Module, task: Task, batches: Iterable[Batch], precision: Precision
) -> dict[str, float]:
    """Loss and metrics over all of `batches`, exact whatever their sizes.

    The model is put into evaluation mode and back; a model that draws random numbers even then
    draws the same ones each time.
    """
    was_training = model.training
    model.eval()
    terms: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    sums: dict[str, Any] = {}
    outputs: list[Tensor] = []
    targets: list[Tensor] = []
    num_samples = 0
    try:
        with torch.inference_mode():
            for index, batch in enumerate(batches):
                seed_forward(0, index, precision.device)
                with precision.autocast():
                    outcome = task(model, batch)
                _add(terms, outcome.terms)
                _add(counts, task.count(batch))
                _add(sums, outcome.sums)
                num_samples += len(batch)
                if task.own_metrics:
                    if outcome.outputs is None:
                        raise ConfigError.one("task.metrics", "needs a task whose Outcome has outputs")
                    outputs.append(outcome.outputs.float().cpu())
                    targets.append((batch.targets if outcome.targets is None else outcome.targets).cpu())
    finally:
        model.train(was_training)
    if not num_samples:
        raise DataError("data: a stream to be evaluated is empty")
    metrics = {"loss": sum(float(terms[name]) / (float(counts[name]) or math.nan) for name in terms)}
    metrics |= task.summarize(sums, num_samples)
    if task.own_metrics:
        whole = torch.cat(outputs), torch.cat(targets)
        metrics |= {name: float(metric(*whole)) for name, metric in task.own_metrics.items()}
    return metrics


def _add(into: dict[str, Any], values: Any) -> None:
    for name, value in values.items():
        into[name] = into[name] + value if name in into else value
