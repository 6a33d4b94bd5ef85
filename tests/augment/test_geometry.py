"""Where pixels go, against torchvision's own functions, one sample after the other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainrun.augment.geometry import affine, crop_flip, in_halves, warp
from trainrun.runtime.vision import import_torchvision

F = import_torchvision("torchvision.transforms.functional")
MODES = import_torchvision("torchvision.transforms").InterpolationMode
GENERATOR = torch.Generator().manual_seed(0)


def pictures(n: int, channels: int, height: int, width: int) -> Tensor:
    return torch.rand(n, channels, height, width, generator=GENERATOR)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 7, 10)])
def test_a_crop_is_torchvisions_of_the_padded_picture_then_mirrored(
    channels: int, height: int, width: int
) -> None:
    x, black = pictures(40, channels, height, width), torch.randn(channels, 1, 1)
    down, right = (torch.randint(-3, 4, (40,), generator=GENERATOR) for _ in range(2))
    flipped = torch.arange(40) % 2 == 0
    cropped = crop_flip(x, down, right, flipped, black, (3, 3))
    for i in range(40):
        padded = F.pad(x[i] - black, 3) + black
        reference = F.crop(padded, 3 + int(down[i]), 3 + int(right[i]), height, width)
        expected = F.hflip(reference) if flipped[i] else reference
        torch.testing.assert_close(cropped[i], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("reach", [0, 2])
def test_what_stays_in_place_keeps_every_bit(reach: int) -> None:
    x, still = pictures(3, 3, 5, 6), torch.zeros(3, dtype=torch.int64)
    assert torch.equal(crop_flip(x, still, still, still.bool(), torch.zeros(3, 1, 1), (reach, reach)), x)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (28, 28), (9, 14)])
def test_a_warp_is_torchvisions_affine(mode: str, height: int, width: int) -> None:
    n = 60
    x = pictures(n, 3, height, width)
    degrees, zoom = (torch.rand(2, n, generator=GENERATOR) - 0.5) * torch.tensor([[120.0], [1.0]])
    zoom, shear = 1.2 + zoom, (torch.rand(n, generator=GENERATOR) - 0.5) * 40
    warped = warp(x, in_halves(affine(degrees, zoom, shear), height, width), mode)
    wrong = 0.0
    for i in range(n):
        arguments = (float(degrees[i]), [0, 0], float(zoom[i]), [float(shear[i]), 0.0])
        expected = F.affine(x[i], *arguments, interpolation=MODES(mode))
        wrong += float(((warped[i] - expected).abs() > 1e-3).float().mean()) / n
    assert wrong < 1e-3  # a sample that falls between two pixels may be read from either


def test_a_warp_does_not_depend_on_the_rest_of_the_batch() -> None:
    x, degrees = pictures(33, 3, 28, 28), torch.linspace(-40, 40, 33)
    matrix = in_halves(affine(degrees, torch.ones(33), torch.zeros(33)), 28, 28)
    for mode in ("nearest", "bilinear"):
        whole = warp(x, matrix, mode)
        for size in (1, 4, 32):
            parts = [warp(a, m, mode) for a, m in zip(x.split(size), matrix.split(size), strict=True)]
            assert torch.equal(torch.cat(parts), whole)
