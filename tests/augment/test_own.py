"""Own augmentations: draws by seed, epoch and sample, pictures from 0 to 1, and shapes that stay."""

from __future__ import annotations

import pytest
import torch

from trainrun.augment.draws import Draws
from trainrun.augment.own import as_change
from trainrun.protocols import DataInfo, PixelRange
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError

INFO = DataInfo("pictures", (1, 4, 4), "classes", 2, {})


def _draws(first: int, last: int, epoch: int = 0) -> Draws:
    return Draws(0, epoch, range(first, last), torch.device("cpu"))


def test_a_torchvision_transform_draws_for_each_sample() -> None:
    change = as_change(import_torchvision("torchvision.transforms.v2").RandomHorizontalFlip(p=0.5), INFO)
    pictures = torch.arange(16.0).reshape(1, 1, 4, 4).repeat(64, 1, 1, 1)
    changed = change(pictures, _draws(0, 64))
    flipped = sum(torch.equal(new, old.flip(-1)) for new, old in zip(changed, pictures, strict=True))
    assert 16 < flipped < 48
    assert torch.equal(change(pictures[40:], _draws(40, 64)), changed[40:])  # however a window is cut
    assert not torch.equal(change(pictures, _draws(0, 64, epoch=1)), changed)


def test_a_transform_that_always_flips_is_the_flip() -> None:
    flip = import_torchvision("torchvision.transforms.v2").RandomHorizontalFlip(p=1.0)
    pictures = torch.randn(5, 1, 4, 4)
    assert torch.equal(as_change(flip, INFO)(pictures, _draws(0, 5)), pictures.flip(-1))


def test_a_torchvision_transform_sees_black_as_0_and_white_as_1() -> None:
    from dataclasses import replace

    pixels = PixelRange(torch.full((1, 1, 1), -2.0), torch.full((1, 1, 1), 3.0))
    invert = import_torchvision("torchvision.transforms.v2").RandomInvert(p=1.0)
    pictures = torch.linspace(-2, 3, 16).reshape(1, 1, 4, 4)
    changed = as_change(invert, replace(INFO, pixels=pixels))(pictures, _draws(0, 1))
    assert changed == pytest.approx(1 - pictures, abs=1e-5)


def test_a_function_of_a_batch_draws_by_the_seed_and_leaves_the_shape() -> None:
    change = as_change(lambda batch: batch + torch.randn_like(batch), INFO)
    pictures = torch.zeros(3, 1, 4, 4)
    assert torch.equal(change(pictures, _draws(0, 3)), change(pictures, _draws(0, 3)))
    assert not torch.equal(change(pictures, _draws(0, 3)), change(pictures, _draws(3, 6)))
    with pytest.raises(ConfigError, match="same shape"):
        as_change(lambda batch: batch[:, :, 1:], INFO)(pictures, _draws(0, 3))
    assert as_change(None, INFO) is None
