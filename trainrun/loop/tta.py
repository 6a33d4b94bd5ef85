"""Test-time augmentation: a model's outputs, averaged over fixed views of each picture."""

from __future__ import annotations

from collections.abc import Collection
from itertools import product

import torch
from torch import Tensor, nn

from trainrun.augment.geometry import crop_flip
from trainrun.protocols import DataInfo
from trainrun.vocabulary.errors import ConfigError


class Views(nn.Module):
    """The mean of a model's outputs (logits, or values) over views of the same pictures.

    `kinds`: "flip" adds the mirrored picture; "crop" adds four that are moved half as far as training
    crops at most, `shift` of the size, up or down and left or right, with black where nothing is left.
    Raises ConfigError for inputs that are not pictures.
    """

    def __init__(self, model: nn.Module, kinds: Collection[str], shift: float, info: DataInfo) -> None:
        super().__init__()
        if len(info.input_shape) != 3:
            text = f"views pictures (channels, height, width), the inputs of {info.name} are"
            raise ConfigError.of("--tta", f"{text} {info.input_shape}")
        self.model, self.pixels = model, info.pixels
        down, right = (max(1, round(shift * size / 2)) for size in info.input_shape[1:])
        moves = [(0, 0)]
        moves += product((-down, down), (-right, right)) if "crop" in kinds else ()
        flips = (False, True) if "flip" in kinds else (False,)
        self.views = [(*move, flip) for flip in flips for move in moves]

    def __str__(self) -> str:
        down, right, flip = self.views[-1]
        moved = f"; moved by {down} and {right} pixels" if down else ""
        mirrored = "; mirrored" if flip else ""
        return f"the mean output of {len(self.views)} views{mirrored}{moved}"

    def forward(self, inputs: Tensor) -> Tensor:
        black = torch.zeros((), device=inputs.device) if self.pixels is None else self.pixels.black
        total: Tensor = sum(self.model(view_of(inputs, *view, black)) for view in self.views)
        return total / len(self.views)


def view_of(x: Tensor, down: int, right: int, flipped: bool, black: Tensor) -> Tensor:
    """Pictures x (N, C, H, W), all cropped and mirrored alike."""
    if not (down or right):
        return x.flip(3) if flipped else x
    downs, rights, flips = (torch.full((len(x),), value, device=x.device) for value in (down, right, flipped))
    return crop_flip(x, downs, rights, flips, black, (abs(down), abs(right)))
