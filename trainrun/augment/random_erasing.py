"""Random erasing: a rectangle of each picture is blanked (Zhong et al., 2017)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainrun.augment.draws import Draws
from trainrun.augment.pictures import CropFlip
from trainrun.protocols import DataInfo
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Fraction, Positive, Split

_TRIES = 10  # draws of a rectangle until one fits, as in torchvision


class RandomErasing(CropFlip):
    """After crop and flip sets a rectangle to 0, the mean of standardised inputs, with probability `p`.

    Its share of the picture is drawn from `area`, its height by width from `ratio` (uniform in the
    logarithm), its position uniformly. Sizes that do not fit are drawn again.
    """

    def __init__(
        self,
        shift: Split,
        flip: Fraction,
        p: Fraction,
        area: list[Fraction],
        ratio: list[Positive],
        info: DataInfo,
    ) -> None:
        super().__init__(shift, flip, info)
        for key, pair in (("area", area), ("ratio", ratio)):
            if len(pair) != 2 or pair[0] > pair[1]:
                raise ConfigError.of(f"augment.{key}", f"must be [smallest, largest], got {pair}")
        self.p, self.area, self.ratio = p, area, ratio

    def change(self, x: Tensor, draws: Draws) -> Tensor:
        return torch.where(self.erased(draws, *x.shape[2:])[:, None], 0, x)

    def erased(self, draws: Draws, height: int, width: int) -> Tensor:
        """(N, H, W) bool."""
        area = draws.between(self.area[0], self.area[1], _TRIES).double() * (height * width)
        ratio = draws.between(math.log(self.ratio[0]), math.log(self.ratio[1]), _TRIES).double().exp()
        tall, wide = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        fits = (tall < height) & (wide < width)
        first = fits.int().argmax(1, keepdim=True)
        tall, wide = tall.gather(1, first), wide.gather(1, first)  # (N, 1)
        top = (draws.uniform(1).double() * (height - tall + 1)).floor()
        left = (draws.uniform(1).double() * (width - wide + 1)).floor()
        rows, columns = (torch.arange(size, device=top.device) for size in (height, width))
        inside = ((rows >= top) & (rows < top + tall))[:, :, None]
        inside = inside & ((columns >= left) & (columns < left + wide))[:, None]
        happens = draws.chance(self.p) & fits.any(1)
        return inside & happens[:, None, None]
