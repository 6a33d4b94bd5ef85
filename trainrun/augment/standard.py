"""Standard augmentation: crop, flip, an affine map and colour jitter."""

from __future__ import annotations

import torch
from torch import Tensor

from trainrun.augment import color
from trainrun.augment.draws import Draws
from trainrun.augment.geometry import affine, in_halves, warp
from trainrun.augment.groups import Groups
from trainrun.augment.pictures import Colored
from trainrun.protocols import DataInfo
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Fraction, NonNegative, Positive, Split

_, CONTRAST, SATURATION = range(3)  # brightness is first


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
        self.is_warped = bool(degrees or shear or zoom != [1, 1])
        self.num_blends = sum(map(bool, self.amounts))
        self.still = torch.tensor([2.0 * (not most) for most in self.amounts])  # drawn behind the others

    def paint(self, x: Tensor, draws: Draws) -> Tensor:
        degrees = draws.between(-self.degrees, self.degrees)
        zoom, shear = draws.between(self.zoom[0], self.zoom[1]), draws.between(-self.shear, self.shear, 2)
        if self.is_warped:  # slanted along x alone, as by torchvision's one number
            x = warp(x, in_halves(affine(degrees, zoom, shear[:, 0]), *x.shape[2:]), "bilinear")
        blends, turn, before_hue = self.colors(draws)
        samples = torch.arange(len(x), device=x.device)  # which lies where
        groups = Groups(before_hue, 4) if self.hue else None
        if groups:
            x, blends, turn, samples = map(groups.sort, (x, blends, turn, samples))
        for k in range(4):
            if groups:
                x = groups.change(x, k, color.hue, turn)
            if k < self.num_blends:
                x = color.blend(x, *blends[:, :, k].unbind(1))
        return x.index_select(0, samples.argsort()) if groups else x

    def colors(self, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """How blends go, (N, 3 numbers, 3 turns), by how much hue turns, and after how many blends, (N,)."""
        factor = torch.stack([draws.between(max(0.0, 1 - most), 1 + most) for most in self.amounts], 1)
        turn, places = draws.between(-self.hue, self.hue), draws.uniform(4)
        self.still = self.still.to(places.device)
        places, place_of_hue = places[:, :3] + self.still, places[:, 3:]
        order = places.argsort(1)
        blends = torch.stack([1 - factor.gather(1, order), order == SATURATION, order == CONTRAST], 1)
        return blends, turn, (places <= place_of_hue).sum(1)
