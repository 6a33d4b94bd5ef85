"""Mixup and CutMix: training on mixtures of two samples, with targets mixed alike."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from trainrun.protocols import Batch, DataInfo
from trainrun.regularization.kinds import Mixing
from trainrun.regularization.label_smoothing import probabilities
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Positive


class _Pairs(Mixing):
    """Mix each sample with another of its micro-batch, all in one share ~ Beta(alpha, alpha), lambda."""

    def __init__(self, alpha: Positive) -> None:
        self.alpha = alpha

    def check(self, info: DataInfo) -> None:
        if info.kind != "classes":
            text = f"needs classes to mix, the targets of {info.name} are {info.kind}"
            raise ConfigError.of(f"regularization.{self.name}", text)

    def change_batch(self, batch: Batch, info: DataInfo, generator: torch.Generator) -> Batch:
        x = batch.inputs
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise ConfigError.of(f"regularization.{self.name}", "needs inputs of real numbers")
        other = torch.randperm(len(batch), generator=generator).to(x.device, non_blocking=True)
        seed = int(torch.randint(1 << 62, (1,), generator=generator))
        rng = np.random.default_rng(seed)  # torch has no public Beta with a generator
        inputs, share = self.mixed(x, x[other], float(rng.beta(self.alpha, self.alpha)), rng)
        targets = probabilities(batch.targets, info.num_targets)
        targets = share * targets + (1 - share) * targets[other]
        return replace(batch, inputs=inputs, targets=targets, is_mixed=True)

    @abstractmethod
    def mixed(self, x: Tensor, other: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
        """(mixture, the true share of x in it)."""


class Mixup(_Pairs):
    """share x + (1 - share) of another sample, and their targets likewise (Zhang et al., 2018)."""

    name = "mixup"

    def mixed(self, x: Tensor, other: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
        return share * x + (1 - share) * other, share


class CutMix(_Pairs):
    """Replace a rectangle of each picture by that of another (Yun et al., 2019).

    Its sides are sqrt(1 - share) of the picture's, its centre is anywhere. Targets are mixed by the
    share of pixels, after the part outside the picture was cut off.
    """

    name = "cutmix"

    def check(self, info: DataInfo) -> None:
        super().check(info)
        if len(info.input_shape) != 3:
            text = f"cuts pictures (channels, height, width), the inputs of {info.name} are"
            raise ConfigError.of("regularization.cutmix", f"{text} {info.input_shape}; use mixup")

    def mixed(self, x: Tensor, other: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
        box, area, size = [], 1, x.shape[2] * x.shape[3]
        for length in x.shape[2:]:
            side, centre = int(length * (1 - share) ** 0.5), int(rng.integers(length))
            low, high = max(centre - side // 2, 0), min(centre + side // 2, length)
            box.append(slice(low, high))
            area *= high - low
        inputs = x.clone()
        inputs[:, :, box[0], box[1]] = other[:, :, box[0], box[1]]
        return inputs, 1 - area / size
