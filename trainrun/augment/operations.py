"""The operations of augmentation policies: each sample has its own operation and strength, without a loop."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from trainrun.augment import color
from trainrun.augment.geometry import in_halves, warp
from trainrun.augment.groups import GroupChange, Groups

NAMES = (
    *("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"),
    *("Brightness", "Color", "Contrast", "Sharpness"),
    *("Posterize", "Solarize", "AutoContrast", "Equalize", "Invert", "Identity"),
)
NUMBERS = {name: number for number, name in enumerate(NAMES)}
NUM_SIGNED = 9  # for the first 9 operations, half the samples get the negative strength


def strengths(
    levels: int, slant: float, right: float, down: float, turn: float, factor: float, bits: int
) -> Tensor:
    """(operations, levels): from nothing to the most of each, evenly; up to `bits` of 8 bits are lost."""
    most = [slant, slant, right, down, turn, *[factor] * 4]
    rows = [torch.linspace(0, strongest, levels) for strongest in most]
    lost = (torch.arange(levels) / ((levels - 1) / bits)).round()
    rows += [8 - lost, torch.linspace(255, 0, levels)]
    return torch.stack(rows + [torch.zeros(levels)] * (len(NAMES) - len(rows)))


def parameters(operation: Tensor, strength: Tensor, height: int, width: int) -> Tensor:
    """(N, 10) float32: all that `operate` needs of operations (N,) by number, of strengths (N,).

    Strengths are torchvision's: slants as tangents, moves in pixels (cut to whole ones), turns in
    degrees, factors as what is added to 1, bits that are kept, and solarising from 0 to 255.
    """

    def of(name: str) -> Tensor:
        return torch.where(operation == NUMBERS[name], strength.double(), 0)

    # The first five are one change, a map; the next three another, a blend of three numbers.
    change = (operation - NUMBERS["Rotate"]).clamp(min=0) - (operation - NUMBERS["Brightness"]).clamp(0, 2)
    is_factor = (operation >= NUMBERS["Brightness"]) & (operation <= NUMBERS["Sharpness"])
    first = torch.where(is_factor, -1, torch.where(operation == NUMBERS["Solarize"], 1 / 255, 1)) * strength
    numbers = [first, operation == NUMBERS["Color"], operation == NUMBERS["Contrast"]]
    slant_x, slant_y, right, down, turn = (of(name) for name in NAMES[:5])
    sin, cos = turn.deg2rad().sin(), turn.deg2rad().cos()
    # From the centre; a slant leaves the upper left corner where it is.
    across = [cos, slant_x - sin, slant_x * (height / 2) - right.trunc()]
    along = [slant_y + sin, cos, slant_y * (width / 2) - down.trunc()]
    matrix = in_halves(torch.stack(across + along, 1).view(-1, 2, 3), height, width)
    return torch.cat([torch.stack([change, *numbers], 1).float(), matrix.flatten(1)], 1)


_CHANGES: tuple[GroupChange, ...] = (
    lambda x, row: warp(x, row[:, 4:].view(-1, 2, 3), "nearest"),
    lambda x, row: color.blend(x, *row[:, 1:4].unbind(1)),
    lambda x, row: color.sharpness(x, 1 - row[:, 1]),
    lambda x, row: color.posterize(x, row[:, 1]),
    lambda x, row: color.solarize(x, row[:, 1]),
    lambda x, row: color.autocontrast(x),
    lambda x, row: color.equalize(x),
    lambda x, row: color.invert(x),
)


def operate(x: Tensor, turns: Iterable[Tensor]) -> Tensor:
    """x (N, C, H, W) from 0 to 1, each sample under its operation of each turn: rows of `parameters`."""
    samples = torch.arange(len(x), device=x.device)  # which lies where
    for rows in turns:
        rows = rows.index_select(0, samples)
        groups = Groups(rows[:, 0].long(), len(_CHANGES))
        x, rows, samples = map(groups.sort, (x, rows, samples))
        for k, change in enumerate(_CHANGES):
            x = groups.change(x, k, change, rows)
    return x.index_select(0, samples.argsort())
