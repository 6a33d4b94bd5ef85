"""Targets for every step or pixel of a sample: outputs and targets as rows, one for each."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from trainrun.protocols import IGNORED, Batch
from trainrun.vocabulary.errors import ConfigError


def class_counts(batches: Iterable[Batch], num_classes: int) -> tuple[int, ...]:
    """How many steps of all batches have each class; those without any do not count."""
    counts = torch.zeros(num_classes, dtype=torch.int64)
    for batch in batches:
        counts += torch.bincount(batch.targets[batch.targets != IGNORED].cpu(), minlength=num_classes)
    return tuple(counts.tolist())


def class_axis(outputs: Tensor, num_classes: int) -> int:
    """Where the logits of a step lie: axis 1 as torch's losses have it, (N, C, ...), else the last."""
    return 1 if outputs.ndim > 1 and outputs.shape[1] == num_classes else -1


def class_rows(outputs: Tensor, targets: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """(logits (M, C), classes (M,)) of outputs (N, C, ...) or (N, ..., C) and targets (N, ...).

    Raises ConfigError for outputs of any other shape.
    """
    rows = outputs.movedim(class_axis(outputs, num_classes), -1)
    if rows.shape != (*targets.shape, num_classes):
        n, rest = len(targets), ", ".join(map(str, targets.shape[1:]))
        text = f"gives outputs of shape {tuple(outputs.shape)} for targets of shape {tuple(targets.shape)}"
        wanted = f"({n}, {num_classes}, {rest}) or ({n}, {rest}, {num_classes})"
        raise ConfigError.of("model", f"{text}; for {num_classes} classes it must be {wanted}")
    return rows.reshape(-1, num_classes), targets.reshape(-1)


def value_rows(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(values (M, 1), targets (M, 1)) of outputs and targets (N, ...) that differ by axes of 1 at most.

    Raises ConfigError for outputs of any other shape.
    """
    if [size for size in outputs.shape if size != 1] != [size for size in targets.shape if size != 1]:
        text = f"gives outputs of shape {tuple(outputs.shape)} for targets of shape {tuple(targets.shape)}"
        raise ConfigError.of("model", text)
    return outputs.reshape(-1, 1), targets.reshape(-1, 1)
