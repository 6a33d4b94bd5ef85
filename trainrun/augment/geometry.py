"""Geometric augmentations: crops, flips and affine maps, each sample with its own parameters."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainrun.augment.groups import Groups


def crop_flip(
    x: Tensor, down: Tensor, right: Tensor, flipped: Tensor, black: Tensor, reach: tuple[int, int]
) -> Tensor:
    """Crop x (N, C, H, W) at offsets `down` and `right`, then mirror it where `flipped` (N,).

    Offsets are (N,) int64, at most `reach` down and right or the other way. Outside is `black` (C, 1, 1).
    """
    (n, channels, height, width), (top, left) = x.shape, reach
    tall, wide = height + 2 * top, width + 2 * left
    padded = x.new_empty(n, channels, tall, wide).copy_(black.to(x.dtype))
    padded[:, :, top : top + height, left : left + width] = x
    samples, planes, rows = (torch.arange(size, device=x.device) for size in (n, channels, height))
    groups = Groups(flipped.long(), 2)
    samples, down, right = map(groups.sort, (samples, down, right))
    corner = (samples * (channels * tall) + down + top) * wide + right + left
    starts = corner[:, None, None] + planes[:, None] * (tall * wide) + rows * wide
    windows = padded.view(-1).unfold(0, width, 1)  # a row of the result begins at any pixel
    cropped = windows.index_select(0, starts.view(-1)).view_as(x)
    return groups.change(cropped, 1, lambda part: part.flip(3)).index_select(0, samples.argsort())


def affine(degrees: Tensor, zoom: Tensor, shear: Tensor) -> Tensor:
    """(N, 2, 3) float64 maps from each pixel of the result to its source, measured from the centre.

    `degrees` turn clockwise, `zoom` is a factor, `shear` in degrees along x, all (N,). The map is
    torchvision's.
    """
    turn, slant = torch.deg2rad(degrees.double()), torch.deg2rad(shear.double()).tan()
    sin, cos, still = turn.sin(), turn.cos(), torch.zeros_like(turn)
    maps = torch.stack([cos - sin * slant, cos * slant + sin, still, -sin, cos, still], 1)
    return (maps / zoom[:, None]).view(-1, 2, 3)


def in_halves(matrix: Tensor, height: int, width: int) -> Tensor:
    """Maps (N, 2, 3) to sources as `grid_sample` measures them, in halves of the picture; float32."""
    return torch.stack([matrix[:, 0] / (width / 2), matrix[:, 1] / (height / 2)], 1).float()


def warp(x: Tensor, matrix: Tensor, mode: str) -> Tensor:
    """x (N, C, H, W) read at where `matrix`, in halves, says, "nearest" or "bilinear"; outside is 0."""
    height, width = x.shape[2:]
    # Written out because a matrix product may round differently in batches of another size.
    down = (torch.arange(height, device=x.device) - (height - 1) / 2)[:, None]
    right = torch.arange(width, device=x.device) - (width - 1) / 2
    m = matrix[:, :, :, None, None]
    grid = (right * m[:, :, 0] + m[:, :, 2]) + down * m[:, :, 1]  # all small but the last sum
    return F.grid_sample(x, grid.permute(0, 2, 3, 1), mode=mode, padding_mode="zeros", align_corners=False)
