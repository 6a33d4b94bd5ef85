"""The operations of augmentation policies: each sample has its own operation and strength, without a loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trainrun.augment import color
from trainrun.augment.geometry import affine, warp

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


def operate(x: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
    """x (N, C, H, W) from 0 to 1 under operations (N,) by number, of strengths (N,).

    Strengths are torchvision's: slants as tangents, moves in pixels (cut to whole ones), turns in
    degrees, factors as what is added to 1, bits that are kept, and solarising from 0 to 255.
    """
    changes = (
        (_moved, operation, strength),
        (color.brightness, 1 + strength),
        (color.saturation, 1 + strength),
        (color.contrast, 1 + strength),
        (color.sharpness, 1 + strength),
        (color.posterize, strength),
        (color.solarize, strength / 255),
        (color.autocontrast,),
        (color.equalize,),
        (color.invert,),
    )
    return choose(x, (operation - NUMBERS["Rotate"]).clamp(min=0), changes)


def _moved(x: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
    """The first five operations, the geometric ones: each sample has its own affine map."""
    slant_x, slant_y, right, down, turn = (
        torch.where(operation == NUMBERS[name], strength, 0) for name in NAMES[:5]
    )
    shear = torch.rad2deg(torch.atan(torch.stack([slant_x, slant_y], 1).double()))
    matrix = affine(-turn, right.trunc(), down.trunc(), torch.ones_like(turn), shear)
    # A slant leaves the upper left corner where it is, not the centre.
    corner = torch.tensor([x.shape[3], x.shape[2]], dtype=matrix.dtype, device=x.device) / -2
    shift = corner - (matrix[:, :, :2] * corner).sum(2)
    matrix[:, :, 2] += torch.where(operation[:, None] <= NUMBERS["ShearY"], shift, 0)
    return warp(x, matrix, "nearest")


def choose(x: Tensor, number: Tensor, changes: Sequence[Any]) -> Tensor:
    """Change sample i of x by `changes[number[i]]`, a function and its further arguments, or by none."""
    result = x.clone()
    for k, (change, *arguments) in enumerate(changes):
        chosen = number == k
        if x.device.type == "cpu":  # compute only the chosen samples
            rows = chosen.nonzero()[:, 0]
            if len(rows):
                result[rows] = change(x[rows], *(argument[rows] for argument in arguments))
        else:  # compute all: asking a GPU how many are chosen would make it wait
            spread = chosen.view(-1, *[1] * (x.ndim - 1))
            result = torch.where(spread, change(x, *arguments), result)
    return result
