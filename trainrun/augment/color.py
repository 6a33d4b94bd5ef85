"""Colour augmentations: torchvision's operations, each sample with its own strength.

Pictures are (N, C, H, W) float32 from 0, black, to 1, white, with 1 or 3 channels; strengths are (N,).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_GREY = (0.2989, 0.587, 0.114)  # of red, green and blue, ITU-R 601


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """0 is black, 1 the picture itself."""
    return _blend(x, torch.zeros_like(x), factor)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """0 is an even grey, the picture's mean, 1 the picture itself."""
    fine = float(1 << 24)  # summed as integers, so that no other batch rounds it differently
    total = (_grey(x) * fine).round().to(torch.int64).sum((1, 2, 3), keepdim=True)
    mean = (total.double() / (x[0, 0].numel() * fine)).float()
    return _blend(x, mean, factor)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """0 is the picture in grey, 1 itself. One channel stays as it is."""
    return x if x.shape[1] == 1 else _blend(x, _grey(x), factor)


def sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """0 is smoothed by a 3 x 3 kernel inside its border, 1 the picture itself, 2 sharper."""
    if min(x.shape[2:]) <= 2:
        return x
    near = F.avg_pool2d(x, 3, 1) * 9  # the sum of 3 x 3
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = (near + 4 * x[:, :, 1:-1, 1:-1]) / 13
    return _blend(x, smooth, factor)


def hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turns the hue of HSV by `turn` of the circle. One channel stays as it is."""
    if x.shape[1] == 1:
        return x
    value, span = x.amax(1), x.amax(1) - x.amin(1)
    red, green, blue = x.unbind(1)
    per = torch.where(span > 0, span, 1)
    angle = torch.where(value == green, 2 + (blue - red) / per, 4 + (red - green) / per)
    angle = torch.where(value == red, (green - blue) / per, angle) / 6 + turn[:, None, None]
    # The channel that is n sixths of the circle away (Smith, 1978, in its form without cases).
    sixths = [(n + angle * 6) % 6 for n in (5, 3, 1)]
    channels = [value - span * torch.minimum(k, 4 - k).clamp(0, 1) for k in sixths]
    return torch.stack(channels, 1)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Keeps the first `bits` of each value's 8."""
    step = torch.exp2(8 - bits)[:, None, None, None]
    return (_bytes(x) / step).floor() * step / 255


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Inverts what is at least `threshold`, from 0 to 1."""
    return torch.where(x >= threshold[:, None, None, None], 1 - x, x)


def autocontrast(x: Tensor) -> Tensor:
    """Stretches every channel from black to white; an even one stays."""
    low = x.amin((2, 3), keepdim=True)
    span = x.amax((2, 3), keepdim=True) - low
    return torch.where(span > 0, (x - low) / torch.where(span > 0, span, 1), x).clamp(0, 1)


def equalize(x: Tensor) -> Tensor:
    """Spreads the 256 values of every channel evenly, as PIL and torchvision do."""
    n, channels, height, width = x.shape
    values = _bytes(x).flatten(2)
    ordered = values.sort(2).values
    levels = torch.arange(256.0, device=x.device).expand(n, channels, 256).contiguous()
    below = torch.searchsorted(ordered, levels)  # how many values are smaller than each level
    largest = ordered[:, :, -1:].contiguous()
    step = torch.searchsorted(ordered, largest) // 255  # of all but the largest value's count
    table = ((below + step // 2) // step.clamp(min=1)).clamp(0, 255)
    spread = table.gather(2, values.to(torch.int64)).float()
    return (torch.where(step > 0, spread, values) / 255).view(n, channels, height, width)


def invert(x: Tensor) -> Tensor:
    """Black becomes white."""
    return 1 - x


def _blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    share = factor[:, None, None, None]
    return (share * x + (1 - share) * other).clamp(0, 1)


def _grey(x: Tensor) -> Tensor:
    """(N, 1, H, W)."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x.split(1, 1)
    grey: Tensor = _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue
    return grey


def _bytes(x: Tensor) -> Tensor:
    """Values as 0 to 255, whole numbers."""
    return (x * 255).round()
