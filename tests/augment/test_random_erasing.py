"""Random erasing: its rectangles spread as torchvision's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainrun.augment.draws import Draws
from trainrun.augment.random_erasing import RandomErasing
from trainrun.protocols import DataInfo
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError

N, HEIGHT, WIDTH = 6000, 16, 12
INFO = DataInfo("toy", (1, HEIGHT, WIDTH), "classes", 2, {})


def draws() -> Draws:
    return Draws(0, 0, range(N), torch.device("cpu"))


def erasing(p: float, area: list[float], ratio: list[float]) -> RandomErasing:
    return RandomErasing(0.0, 0.0, p, area, ratio, INFO)


@pytest.mark.parametrize("area", [[0.02, 0.33], [0.5, 0.95]], ids=["usual", "seldom fits"])
def test_how_often_a_pixel_is_erased_and_how_large_rectangles_are_is_torchvisions(area: list[float]) -> None:
    ratio = [0.3, 3.3]
    ours = erasing(0.7, area, ratio)(torch.ones(N, 1, HEIGHT, WIDTH), draws())[:, 0] == 0
    theirs_class = import_torchvision("torchvision.transforms").RandomErasing
    transform = theirs_class(p=0.7, scale=tuple(area), ratio=tuple(ratio))
    torch.manual_seed(0)
    theirs = torch.stack([transform(torch.ones(1, HEIGHT, WIDTH))[0] == 0 for _ in range(N)])
    share = theirs.float().mean(0)
    error = (share * (1 - share) * 2 / N).sqrt().clamp(min=1e-3)
    assert float(((ours.float().mean(0) - share).abs() / error).max()) < 5
    sizes = [erased.flatten(1).sum(1).float() for erased in (ours, theirs)]
    for level in (0.1, 0.3, 0.5, 0.7, 0.9):
        below = [float((size <= torch.quantile(sizes[1], level)).float().mean()) for size in sizes]
        assert below[0] == pytest.approx(below[1], abs=5 * (0.5 / N) ** 0.5)


def test_what_is_erased_is_one_rectangle_and_the_rest_stays() -> None:
    x = torch.rand(N, 1, HEIGHT, WIDTH) + 1
    out = erasing(1.0, [0.1, 0.2], [0.5, 2.0])(x, draws())
    erased = out == 0
    assert torch.equal(out[~erased], x[~erased])
    tall, wide = erased[:, 0].any(2).sum(1), erased[:, 0].any(1).sum(1)
    assert torch.equal(erased.flatten(1).sum(1), tall * wide)
    assert (tall < HEIGHT).all() and (wide < WIDTH).all() and (tall * wide > 0).all()


def test_never_means_never() -> None:
    x = torch.rand(N, 1, HEIGHT, WIDTH)
    assert torch.equal(erasing(0.0, [0.1, 0.2], [1.0, 1.0])(x, draws()), x)


@pytest.mark.parametrize("key", ["area", "ratio"])
def test_ranges_that_are_none_are_a_config_error(key: str) -> None:
    options: dict[str, Any] = {"area": [0.1, 0.2], "ratio": [0.5, 2.0]} | {key: [0.9, 0.1]}
    with pytest.raises(ConfigError, match=rf"augment\.{key}: must be \[smallest, largest\]"):
        erasing(1.0, **options)
