"""The DCGAN: the shapes of its two networks, and what it is refused for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainrun.model.gan import GAN
from trainrun.vocabulary.errors import ConfigError


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 32), (1, 4, 12)])
def test_generated_pictures_have_the_shape_and_range_of_the_data(shape: tuple[int, ...]) -> None:
    model = GAN(shape, 4, 6, "batch")
    pictures = model.draw(5)
    assert pictures.shape == (5, *shape) and pictures.abs().max() < 1
    assert model(pictures).shape == (5, 1)
    assert torch.equal(model.eval()(pictures), model.discriminator(pictures))


def test_noise_is_all_that_is_drawn() -> None:
    model = GAN((1, 8, 8), 4, 6, "batch").eval()
    torch.manual_seed(3)
    drawn = model.draw(2)
    torch.manual_seed(3)
    assert torch.equal(model.generator(torch.randn(2, 6)), drawn)


def test_the_norm_is_the_discriminators_alone() -> None:
    kinds = {norm: GAN((1, 8, 8), 8, 6, norm) for norm in ("batch", "group", "none")}
    for norm, model in kinds.items():
        norms = (nn.BatchNorm2d, nn.GroupNorm)
        inside = [type(m) for m in model.discriminator.modules() if isinstance(m, norms)]
        assert inside == {"batch": [nn.BatchNorm2d], "group": [nn.GroupNorm], "none": []}[norm]
        assert sum(isinstance(m, nn.BatchNorm2d) for m in model.generator.modules()) == 2


@pytest.mark.parametrize(
    ("shape", "said"), [((1, 30, 28), "multiples of 4, got 30 x 28"), ((64,), "needs pictures")]
)
def test_other_inputs_are_refused(shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GAN(shape, 4, 6, "batch")
