"""The user's own augmentation: a function of a batch of inputs, or one of torchvision's transforms."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainrun.augment.draws import Draws
from trainrun.protocols import DataInfo
from trainrun.vocabulary.errors import ConfigError


class OwnAugment:
    """Calls a function with inputs (N, ...) as the model takes them.

    Its draws, from torch, NumPy or random, follow from the seed, the epoch and the batch's first sample.
    """

    def __init__(self, function: Any) -> None:
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        _seed(draws.seeds()[0], x.device)
        return self.checked(self.function(x), x)

    def checked(self, changed: Any, x: Tensor) -> Tensor:
        """Raise ConfigError unless `changed` is a tensor of the same shape as `x`."""
        if not isinstance(changed, Tensor) or changed.shape != x.shape:
            got = f"shape {tuple(changed.shape)}" if isinstance(changed, Tensor) else type(changed).__name__
            text = f"{self.name} must return inputs of the same shape, {tuple(x.shape)}, got {got}"
            raise ConfigError.of("augment", text)
        return changed.to(x.dtype)


class Transform(OwnAugment):
    """A torchvision transform, called for each sample with draws of its own; pictures go from 0 to 1."""

    def __init__(self, function: Any, info: DataInfo) -> None:
        super().__init__(function)
        if len(info.input_shape) != 3:
            text = f"{self.name} changes pictures (channels, height, width), the inputs of {info.name} are"
            raise ConfigError.of("augment", f"{text} {info.input_shape}; use none", "augment=none")
        self.pixels = info.pixels

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        black, span = (0, 1) if (p := self.pixels) is None else (p.black, p.white - p.black)
        pictures = []
        for picture, seed in zip((x - black) / span, draws.seeds(), strict=True):
            _seed(seed, x.device)
            try:
                pictures.append(self.checked(self.function(picture), picture))
            except (RuntimeError, ValueError, TypeError) as error:
                text = f"{self.name} fails on a picture {tuple(picture.shape)} of {picture.dtype}: {error}"
                raise ConfigError.of("augment", text) from error
        return torch.stack(pictures) * span + black


def as_change(augment: Any, info: DataInfo) -> Any:
    """Wrap the user's augmentation as a function of (inputs, draws); None stays None."""
    if augment is None:
        return None
    if not callable(augment):
        raise ConfigError.of("augment", f"{type(augment).__name__} cannot be called; it needs __call__")
    is_torchvision = any(base.__module__.startswith("torchvision.") for base in type(augment).__mro__)
    return Transform(augment, info) if is_torchvision else OwnAugment(augment)


def _seed(seed: int, device: torch.device) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
