"""Colour augmentations: torchvision's operations, each sample with its own strength.

Pictures are (N, C, H, W) float32 from 0, black, to 1, white, with 1 or 3 channels; strengths are (N,).
Use what is returned: all may work in place.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_FINE = float(1 << 24)  # steps from black to white: sums of whole numbers are the same in any batch
_GREY = (0.2989, 0.587, 0.114)  # of red, green and blue, ITU-R 601


def blend(x: Tensor, share: Tensor, own: Tensor, even: Tensor) -> Tensor:
    """Blend x with `share` of another picture: `own` of its grey and `even` of its mean grey.

    All are (N,). Of the own grey this is saturation by 1 - share, of the mean contrast, of black brightness.
    """
    grey = _grey(x, _FINE).round_()
    mean = grey.sum((1, 2, 3), dtype=torch.float64).div_(x[0, 0].numel() * _FINE).float()
    other = grey.mul_(_spread(own / _FINE)).add_(_spread(mean * even))
    return x.lerp_(other, _spread(share)).clamp_(0, 1)


def sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """0 is smoothed by a 3 x 3 kernel inside its border, 1 the picture itself, 2 sharper."""
    height, width = x.shape[2:]
    if min(height, width) <= 2:
        return x
    flat, edge = x.flatten(2), width + 1  # in one line, that adding has long stretches
    lines = (flat[:, :, :-2] + flat[:, :, 1:-1]).add_(flat[:, :, 2:])
    near = (lines[:, :, : -2 * width] + lines[:, :, width:-width]).add_(lines[:, :, 2 * width :])
    inside = F.pad(x.new_ones(height - 2, width - 2), (1, 1, 1, 1)).flatten()[edge:-edge]
    share = (1 - factor)[:, None, None] / 13 * inside  # of (near + 4 x) / 13 - x
    inner = flat[:, :, edge:-edge]
    inner.add_(near.sub_(9 * inner).mul_(share))
    return flat.clamp_(0, 1).view_as(x)


def hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turns the hue of HSV by `turn` of the circle. One channel stays as it is."""
    if x.shape[1] == 1:
        return x
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    span = high - low
    red, green, blue = x.split(1, 1)
    # In sixths of the circle from red, -3 to 3: by size linear in the channels, by side green's or blue's.
    size = (green + blue).sub_(red).sub_(low).div_(span.clamp(min=1e-9)).add_(1)
    angle = size.copysign_(green - blue)
    # Of red, green and blue, turned back.
    centres = (torch.arange(0, 6, 2, device=x.device) - 6 * turn[:, None] + 3) % 6 - 3
    apart = angle - centres[:, :, None, None]  # up to 1 or from 5 on, that channel is the highest
    middle = apart.abs_().sub_(3).abs_().clamp_(1, 2)
    return torch.add(middle.mul_(span), high.sub_(span, alpha=2), out=x)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Keeps the first `bits` of each value's 8."""
    step = _spread(torch.exp2(8 - bits))
    return _bytes(x).div_(step).floor_().mul_(step / 255)


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Inverts what is at least `threshold`, from 0 to 1."""
    is_bright = x.clone().ge_(_spread(threshold))  # 0 or 1
    return x.sub_(is_bright).abs_()


def autocontrast(x: Tensor) -> Tensor:
    """Stretches every channel from black to white; an even one stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    uneven = high > low
    return x.sub_(low * uneven).div_(torch.where(uneven, high - low, 1))


def equalize(x: Tensor) -> Tensor:
    """Spreads the 256 values of every channel evenly, as PIL and torchvision do."""
    values = _bytes(x).flatten(2).to(torch.int64)
    counts = x.new_zeros(*values.shape[:2], 256)  # whole numbers
    counts.scatter_add_(2, values, x.new_ones(()).expand_as(values))
    below = counts.cumsum(2).sub_(counts)  # how many values are smaller than each
    step = (below.gather(2, values.amax(2, keepdim=True)) / 255).floor_()  # of all but the largest value's
    table = below.add_((step / 2).floor_()).div_(step).floor_().clamp_(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=x.device)).div_(255)
    return torch.gather(table, 2, values, out=x.flatten(2)).view_as(x)


def invert(x: Tensor) -> Tensor:
    """Black becomes white."""
    return x.neg_().add_(1)


def _spread(values: Tensor) -> Tensor:
    """(N,) as (N, 1, 1, 1)."""
    return values[:, None, None, None]


def _grey(x: Tensor, white: float) -> Tensor:
    """(N, 1, H, W) from 0 to `white`."""
    if x.shape[1] == 1:
        return x * white
    (red, green, blue), shares = x.split(1, 1), [share * white for share in _GREY]
    grey: Tensor = (red * shares[0]).add_(green, alpha=shares[1]).add_(blue, alpha=shares[2])
    return grey


def _bytes(x: Tensor) -> Tensor:
    """Values as 0 to 255, whole numbers."""
    return x.mul_(255).round_()
