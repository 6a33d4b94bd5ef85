"""Standard augmentation: crop, flip, an affine map and colour jitter."""

from __future__ import annotations

import torch
from torch import Tensor

from trainrun.augment import color
from trainrun.augment.draws import Draws
from trainrun.augment.geometry import affine, warp
from trainrun.augment.operations import choose
from trainrun.augment.pictures import Colored
from trainrun.protocols import DataInfo
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Fraction, NonNegative, Positive, Split


class Standard(Colored):
    """Crop, flip, a random affine map, then colour jitter.

    The map turns by up to `degrees`, zooms by a factor from `zoom` and slants by up to `shear` degrees.
    Colours change as in torchvision's ColorJitter, in random order: brightness, contrast and saturation
    by a factor from 1 - amount to 1 + amount, hue by up to `hue`.
    """

    def __init__(
        self,
        shift: Split,
        flip: Fraction,
        degrees: NonNegative,
        zoom: list[Positive],
        shear: NonNegative,
        brightness: NonNegative,
        contrast: NonNegative,
        saturation: NonNegative,
        hue: Fraction,
        info: DataInfo,
    ) -> None:
        super().__init__(shift, flip, info)
        if len(zoom) != 2 or zoom[0] > zoom[1]:
            raise ConfigError.of("augment.zoom", f"must be [smallest, largest], got {zoom}")
        if hue > 0.5:
            raise ConfigError.of("augment.hue", f"must be at most 0.5, half the circle, got {hue}")
        self.degrees, self.zoom, self.shear = degrees, zoom, shear
        self.factors, self.hue = (brightness, contrast, saturation), hue

    def paint(self, x: Tensor, draws: Draws) -> Tensor:
        degrees = draws.between(-self.degrees, self.degrees)
        zoom, shear = draws.between(self.zoom[0], self.zoom[1]), draws.between(-self.shear, self.shear, 2)
        shear[:, 1] = 0  # along x alone, as torchvision's one number
        still = torch.zeros_like(zoom)
        x = warp(x, affine(degrees, still, still, zoom, shear), "bilinear")
        strengths = [draws.between(max(0.0, 1 - amount), 1 + amount) for amount in self.factors]
        strengths.append(draws.between(-self.hue, self.hue))
        changes = (color.brightness, color.contrast, color.saturation, color.hue)
        order = draws.uniform(len(changes)).argsort(1)
        for turn in order.unbind(1):
            x = choose(x, turn, list(zip(changes, strengths, strict=True)))
        return x
