"""Standardise inputs and regression targets: mean and std, estimated from the training split.

`TargetScaling` is held by the data, which alone move and restore it, and read by the task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from trainrun.protocols import TargetScaling
from trainrun.vocabulary.errors import ConfigError

Values = float | Sequence[float]  # of every channel, or one of each
MeanAndStd = tuple[Values, Values]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std, as its weights were trained with

_VALUES = 1 << 19  # turned into float64 at a time, 4 MB: a copy of everything may not fit in memory


def standardization(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """(shift, scale) in float32, shaped to broadcast: mean and 1 / std of each feature or channel, axis 1."""
    axes = tuple(axis for axis in range(inputs.ndim) if axis != 1)
    count = math.prod(inputs.shape[axis] for axis in axes)
    total = squares = torch.zeros(())
    parts = inputs.split(max(1, _VALUES * len(inputs) // max(1, inputs.numel())))
    for part in parts:
        total = total + part.to(torch.float64).sum(axes, keepdim=True)
    mean = total / count  # divided once, so that the mean of a constant is that constant
    for part in parts:
        squares = squares + (part.to(torch.float64) - mean).square().sum(axes, keepdim=True)
    std = (squares / count).sqrt()
    std = torch.where(std > 0, std, torch.ones_like(std))  # a constant feature stays 0
    return mean.float(), (1 / std).float()


def given_scaling(
    normalize: Literal["published", "imagenet"] | MeanAndStd | None,
    channels: int,
    published: MeanAndStd | None = None,
) -> tuple[Tensor, Tensor, str]:
    """(shift, scale, in words) of pictures from 0 to 255, (1, C, 1, 1), as `data.normalize` says.

    That is a mean and std that take white as 1; None leaves 0 to 1. `published` are the data set's own.
    Raises ConfigError for other than one value, or one of each channel.
    """
    pair, whose = (0.0, 1.0) if normalize is None else normalize, "the given" if normalize else ""
    if pair == "imagenet":
        pair, whose = IMAGENET, "ImageNet's"
    elif pair == "published":
        assert published is not None  # the setting is refused elsewhere
        pair, whose = published, "the published"
    columns, texts = [], []
    for values in pair:
        column = [values] if isinstance(values, (int, float)) else list(values)
        if len(column) not in (1, channels):
            text = f"has {len(column)} values, the pictures have {channels} channel{'s' * (channels > 1)}"
            raise ConfigError.of("data.normalize", text)
        columns.append(torch.tensor(column).expand(channels).reshape(1, -1, 1, 1))
        texts.append(listed(column))
    text = f"{whose} mean {texts[0]} and std {texts[1]}, white being 1" if whose else ""
    return 255 * columns[0], 1 / (255 * columns[1]), text


def describe_scaling(shift: Tensor, scale: Tensor) -> str:
    """Say what inputs are standardised by, with the values where they are few."""
    if shift.numel() > 4:
        return f"mean and std of each {'feature' if shift.ndim == 2 else 'channel'} in the training split"
    mean, std = (listed(values.flatten().tolist()) for values in (shift, 1 / scale))
    return f"mean {mean} and std {std} of the training split"


def listed(values: Sequence[float]) -> str:
    """`0.4914, 0.4822, 0.4465`."""
    return ", ".join(f"{value:.4g}" for value in values)


def target_scaling(targets: Tensor) -> TargetScaling:
    """Mean and std of regression targets (N, K); an output that never varies has std 1."""
    mean, scale = standardization(targets)
    return TargetScaling(mean[0], 1 / scale[0])


def move(scaling: TargetScaling | None, device: torch.device) -> None:
    """Move it in place: the task holds the same object."""
    if scaling is not None:
        scaling.mean, scaling.std = scaling.mean.to(device), scaling.std.to(device)


def fitted(scaling: TargetScaling | None) -> dict[str, Any]:
    """The part of `Data.fitted` that it is stored as."""
    if scaling is None:
        return {}
    return {"target_mean": scaling.mean.cpu(), "target_std": scaling.std.cpu()}


def restore(scaling: TargetScaling | None, stored: Mapping[str, Any]) -> None:
    """Restore it in place: the task holds the same object."""
    if scaling is not None:
        device = scaling.mean.device
        scaling.mean, scaling.std = stored["target_mean"].to(device), stored["target_std"].to(device)
