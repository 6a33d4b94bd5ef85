"""Standard augmentation: crop, flip, an affine map and colour jitter."""

from __future__ import annotations

import torch
from torch import Tensor

from trainrun.augment import color
from trainrun.augment.choose import Groups
from trainrun.augment.draws import Draws
from trainrun.augment.geometry import affine, in_halves, warp
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
        self.amounts, self.hue = (brightness, contrast, saturation), hue
        self.num_blends = sum(map(bool, self.amounts))
        self.still = torch.tensor([2.0 * (not most) for most in self.amounts])  # drawn behind the others

    def paint(self, x: Tensor, draws: Draws) -> Tensor:
        degrees = draws.between(-self.degrees, self.degrees)
        zoom, shear = draws.between(self.zoom[0], self.zoom[1]), draws.between(-self.shear, self.shear, 2)
        if self.degrees or self.shear or self.zoom != [1, 1]:
            # Slanted along x alone, as by torchvision's one number.
            matrix = in_halves(affine(degrees, zoom, shear[:, 0]), *x.shape[2:])
            x = warp(x, matrix, "bilinear")
        return self.jitter(x, draws)

    def jitter(self, x: Tensor, draws: Draws) -> Tensor:
        """Change the colours of x, in random order; what has the amount 0 costs nothing."""
        factor = torch.stack([draws.between(max(0.0, 1 - most), 1 + most) for most in self.amounts], 1)
        turn, places = draws.between(-self.hue, self.hue), draws.uniform(4)
        self.still = self.still.to(x.device)
        order = (places[:, :3] + self.still).argsort(1)
        factor = factor.gather(1, order)
        own, even = ((1 - factor) * (order == k) for k in (2, 1))  # saturation and contrast
        blends = [factor, own, even]
        if self.hue:  # samples whose hue turns as early lie side by side
            before = Groups((places[:, :3] <= places[:, 3:]).sum(1), 4)
            x, turn, *blends = map(before.sort, (x, turn, *blends))
        for k in range(4):
            if self.hue:
                x = before.change(x, k, color.hue, turn)
            if k < self.num_blends:
                x = color.blend(x, *(share[:, k] for share in blends))
        return before.restore(x) if self.hue else x
