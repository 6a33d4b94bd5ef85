"""What pixels look like, against torchvision's own functions, one sample after the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainrun.augment import color
from trainrun.runtime.vision import import_torchvision

F = import_torchvision("torchvision.transforms.functional")
GENERATOR = torch.Generator().manual_seed(0)


def pictures(channels: int, n: int = 24) -> Tensor:
    """Whole bytes from 0 to 1, as pictures of files are; some even, some nearly so."""
    x = torch.randint(0, 256, (n, channels, 9, 12), generator=GENERATOR)
    x[0], x[1], x[2] = 7, 255, torch.randint(99, 102, x.shape[1:], generator=GENERATOR)
    x[3, :, 2:4] = 0
    return x / 255


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    return color.blend(x, 1 - factor, torch.zeros_like(factor), torch.zeros_like(factor))


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    return color.blend(x, 1 - factor, torch.zeros_like(factor), torch.ones_like(factor))


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    return color.blend(x, 1 - factor, torch.ones_like(factor), torch.zeros_like(factor))


FACTORS = {
    brightness: F.adjust_brightness,
    contrast: F.adjust_contrast,
    saturation: F.adjust_saturation,
    color.sharpness: F.adjust_sharpness,
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("change", FACTORS, ids=lambda change: change.__name__)
def test_a_factor_is_torchvisions(change: Callable[..., Tensor], channels: int) -> None:
    x, factor = pictures(channels), torch.linspace(0, 2, 24)
    changed = change(x.clone(), factor)
    for i in range(len(x)):
        torch.testing.assert_close(changed[i], FACTORS[change](x[i], float(factor[i])), rtol=0, atol=2e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_hue_is_torchvisions(channels: int) -> None:
    x, turn = pictures(channels), torch.linspace(-0.5, 0.5, 24)
    changed = color.hue(x.clone(), turn)
    for i in range(len(x)):
        torch.testing.assert_close(changed[i], F.adjust_hue(x[i], float(turn[i])), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_solarize_is_torchvisions(channels: int) -> None:
    x, threshold = pictures(channels), torch.linspace(0, 1, 24)
    changed = color.solarize(x.clone(), threshold)
    for i in range(len(x)):
        torch.testing.assert_close(changed[i], F.solarize(x[i], float(threshold[i])), rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["autocontrast", "invert"])
def test_what_has_no_strength_is_torchvisions(name: str, channels: int) -> None:
    x = pictures(channels)
    torch.testing.assert_close(getattr(color, name)(x.clone()), getattr(F, name)(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", range(4, 9))
def test_posterize_is_torchvisions_to_the_byte(bits: int, channels: int) -> None:
    x = pictures(channels)
    changed = color.posterize(x.clone(), torch.full((len(x),), bits)) * 255
    assert torch.equal(changed.round().byte(), F.posterize((x * 255).round().byte(), bits))


@pytest.mark.parametrize("size", [(3, 9, 12), (1, 40, 40), (3, 64, 20)])
def test_equalize_is_torchvisions_to_the_byte(size: tuple[int, int, int]) -> None:
    x = torch.randint(0, 256, (12, *size), generator=GENERATOR)
    x[0], x[1] = 9, x[1] // 16
    x[2, :, :5] = 255
    changed = color.equalize(x / 255) * 255
    assert torch.equal(changed.round().byte(), F.equalize(x.byte()))


STRONG = (brightness, contrast, saturation, color.sharpness, color.hue)


@pytest.mark.parametrize("size", [(32, 32), (9, 13)], ids=["even", "odd"])
@pytest.mark.parametrize("change", [*STRONG, color.autocontrast, color.equalize], ids=lambda f: f.__name__)
def test_a_sample_does_not_depend_on_the_rest_of_the_batch(
    change: Callable[..., Tensor], size: tuple[int, int]
) -> None:
    """Also where a picture is no multiple of what a vector instruction takes."""
    x = torch.rand(33, 3, *size, generator=GENERATOR)
    arguments = [torch.linspace(0, 0.5, 33)] if change in STRONG else []
    whole = change(x.clone(), *arguments)
    for length in (1, 4, 32):
        pieces = zip(*(tensor.clone().split(length) for tensor in (x, *arguments)), strict=True)
        assert torch.equal(torch.cat([change(*piece) for piece in pieces]), whole)
