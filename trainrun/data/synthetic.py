"""Synthetic pictures and tables that can be learned, for trying things without any data."""

from __future__ import annotations

from typing import Literal

import torch

from trainrun.data.resident import Holdout, InMemoryData, resident
from trainrun.protocols import DataInfo
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Count, Natural, NonNegative, Split
from trainrun.vocabulary.seeds import derive


def images(
    num_samples: Count,
    shape: list[Count],
    num_classes: Count,
    noise: NonNegative,
    val_fraction: Split,
    test_fraction: Split,
    split_seed: Natural,
    fold: Natural | None,
    num_folds: Count,
    limit: Count | None,
    eval_batch_size: Count,
) -> InMemoryData:
    """Pictures whose classes are smooth random prototypes; a sample adds Gaussian noise of std `noise`."""
    if len(shape) != 3:
        raise ConfigError.of("data.shape", f"must be [channels, height, width], got {shape}")
    generator = torch.Generator().manual_seed(derive(split_seed, "synthetic images"))
    coarse = torch.randn(num_classes, shape[0], 4, 4, generator=generator)
    prototypes = torch.nn.functional.interpolate(coarse, size=tuple(shape[1:]), mode="bilinear")
    targets = torch.arange(num_samples) % num_classes
    inputs = prototypes[targets] + noise * torch.randn(num_samples, *shape, generator=generator)
    names = tuple(f"class {n}" for n in range(num_classes))
    info = DataInfo("synthetic", tuple(shape), "classes", num_classes, {}, names)
    holdout = Holdout(val_fraction, test_fraction, split_seed, limit, fold, num_folds)
    return resident(info, inputs, targets, holdout, eval_batch_size)


def table(
    num_samples: Count,
    num_features: Count,
    num_outputs: Count,
    kind: Literal["values", "classes", "labels"],
    noise: NonNegative,
    val_fraction: Split,
    test_fraction: Split,
    split_seed: Natural,
    fold: Natural | None,
    num_folds: Count,
    limit: Count | None,
    eval_batch_size: Count,
) -> InMemoryData:
    """A random linear map plus noise: `values` are its outputs, `classes` its largest, `labels` its signs."""
    generator = torch.Generator().manual_seed(derive(split_seed, "synthetic table"))
    inputs = torch.randn(num_samples, num_features, generator=generator)
    weight = torch.randn(num_features, num_outputs, generator=generator) / num_features**0.5
    outputs = inputs @ weight + noise * torch.randn(num_samples, num_outputs, generator=generator)
    targets = {"classes": outputs.argmax(1), "labels": (outputs > 0).float()}.get(kind, outputs)
    names = tuple(f"class {n}" for n in range(num_outputs)) if kind != "values" else ()
    info = DataInfo("synthetic_table", (num_features,), kind, num_outputs, {}, names)
    holdout = Holdout(val_fraction, test_fraction, split_seed, limit, fold, num_folds)
    return resident(info, inputs, targets, holdout, eval_batch_size)
