"""Geometric augmentations: crops, flips and affine maps, each sample with its own parameters."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def crop_flip(x: Tensor, down: Tensor, right: Tensor, flipped: Tensor, black: Tensor) -> Tensor:
    """Crop x (N, C, H, W) at offsets `down` and `right`, then mirror it where `flipped` (N,).

    Offsets are (N,) int64 and may be negative. Outside the picture is `black` (C, 1, 1).
    """
    n, channels, height, width = x.shape
    device = x.device
    across = torch.arange(width, device=device).expand(n, -1)
    rows = torch.arange(height, device=device) + down[:, None]
    columns = torch.where(flipped[:, None], across.flip(1), across) + right[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
    places = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None]
    moved = x.flatten(2).gather(2, places.view(n, 1, -1).expand(-1, channels, -1)).view_as(x)
    return torch.where(inside[:, None], moved, black)


def affine(degrees: Tensor, right: Tensor, down: Tensor, zoom: Tensor, shear: Tensor) -> Tensor:
    """(N, 2, 3) float64 maps from each pixel of the result to its source, measured from the centre.

    `degrees` turn clockwise, `right` and `down` are pixels, `zoom` a factor, all (N,); `shear` (N, 2)
    degrees along x and y. The map is torchvision's: rotate, zoom and shear, then move.
    """
    turn, (sx, sy) = torch.deg2rad(degrees.double()), torch.deg2rad(shear.double()).unbind(1)
    a = torch.cos(turn - sy) / torch.cos(sy)
    b = -torch.cos(turn - sy) * torch.tan(sx) / torch.cos(sy) - torch.sin(turn)
    c = torch.sin(turn - sy) / torch.cos(sy)
    d = -torch.sin(turn - sy) * torch.tan(sx) / torch.cos(sy) + torch.cos(turn)
    inverse = (
        torch.stack([torch.stack([d, -b], 1), torch.stack([-c, a], 1)], 1) / zoom.double()[:, None, None]
    )
    moved = torch.stack([right, down], 1).double()[:, :, None]
    return torch.cat([inverse, -inverse @ moved], 2)


def warp(x: Tensor, matrix: Tensor, mode: str) -> Tensor:
    """x (N, C, H, W) read at where `matrix` (N, 2, 3) says, "nearest" or "bilinear"; outside is 0."""
    height, width = x.shape[2:]
    # Written out because a matrix product may round differently in batches of another size.
    down = (torch.arange(height, device=x.device) - (height - 1) / 2)[:, None]
    right = torch.arange(width, device=x.device) - (width - 1) / 2
    half = torch.tensor([width / 2, height / 2], dtype=matrix.dtype, device=x.device)
    m = (matrix / half[:, None]).float()[:, :, :, None, None]
    grid = right * m[:, :, 0] + down * m[:, :, 1] + m[:, :, 2]
    return F.grid_sample(x, grid.permute(0, 2, 3, 1), mode=mode, padding_mode="zeros", align_corners=False)
