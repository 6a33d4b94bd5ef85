"""GAN losses against their formulas, and the Frechet distance against scipy and a closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

from trainrun import ranks
from trainrun.protocols import Batch, DataInfo, PixelRange, Position
from trainrun.task.gan import Adversarial, PictureFeatures, frechet, moments
from trainrun.vocabulary.errors import ConfigError

SHAPE = (1, 4, 4)


def info(shape: tuple[int, ...] = SHAPE, kind: str = "classes", pixels: PixelRange | None = None) -> DataInfo:
    return DataInfo("small", shape, kind, 3, {}, pixels=pixels)


def task(objective: Any = "dcgan", **changes: Any) -> Adversarial:
    return Adversarial(info(**changes), objective, 10.0, 1)


class Linear(nn.Module):
    """A linear discriminator, whose slope is its weight, and pictures that are all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 16))
        self.made = nn.Parameter(torch.full((1, *SHAPE), 0.25))
        self.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(16, 1, bias=False))
        self.discriminator[1].weight = nn.Parameter(self.weight[None].detach().clone())

    def draw(self, count: int) -> Tensor:
        return self.made.expand(count, *SHAPE)


def batch(count: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(count, *SHAPE, generator=generator)
    return Batch(inputs, torch.arange(count) % 3, torch.arange(count), Position())


def scores(model: Linear, pictures: Tensor) -> list[float]:
    return (pictures.flatten(1) @ model.weight).tolist()


def test_dcgans_losses_are_binary_cross_entropies() -> None:
    model, real = Linear(), batch()
    of_real, of_fake = scores(model, real.inputs), scores(model, model.draw(5))
    probabilities = [[1 / (1 + math.exp(-s)) for s in of] for of in (of_real, of_fake)]
    outcome = task().discriminator_loss(model, real)
    expected = -sum(math.log(p) for p in probabilities[0]) - sum(math.log(1 - p) for p in probabilities[1])
    assert outcome.terms["loss"].item() == pytest.approx(expected, rel=1e-5)
    means = task().summarize(outcome.sums, 5)
    assert means["real_score"] == pytest.approx(sum(probabilities[0]) / 5, rel=1e-5)
    assert means["fake_score"] == pytest.approx(sum(probabilities[1]) / 5, rel=1e-5)
    generated = task().generator_loss(model, real)
    assert generated.terms["loss"].item() == pytest.approx(
        -sum(math.log(p) for p in probabilities[1]), rel=1e-5
    )
    assert task().summarize({**outcome.sums, **generated.sums}, 5)["generator_loss"] == pytest.approx(
        generated.terms["loss"].item() / 5
    )


def test_a_discriminators_loss_gives_the_generator_no_gradient() -> None:
    model = Linear()
    task().discriminator_loss(model, batch()).terms["loss"].backward()
    assert model.made.grad is None and model.discriminator[1].weight.grad is not None
    task().generator_loss(model, batch()).terms["loss"].backward()
    assert model.made.grad is not None


def test_wgan_gp_adds_the_slopes_distance_from_one() -> None:
    model, real = Linear(), batch()
    wgan = task("wgan_gp")
    outcome = wgan.discriminator_loss(model, real)
    penalty = 10 * (model.weight.norm().item() - 1) ** 2  # the slope of a linear score is its weight
    difference = (sum(scores(model, model.draw(5))) - sum(scores(model, real.inputs))) / 5
    assert outcome.terms["loss"].item() / 5 == pytest.approx(difference + penalty, rel=1e-5)
    assert wgan.summarize(outcome.sums, 5)["gradient_penalty"] == pytest.approx(penalty, rel=1e-5)
    loss = wgan.generator_loss(model, real).terms["loss"].item()
    assert loss == pytest.approx(-sum(scores(model, model.draw(5))), rel=1e-5)
    outcome.terms["loss"].backward()  # through the slope: d/dw of 10 n (|w| - 1)^2, and of the difference
    weight, norm = model.weight.detach(), model.weight.norm().item()
    apart = (model.draw(5) - real.inputs).sum(0).flatten().detach()
    expected = apart + 5 * 20 * (norm - 1) * weight / norm
    torch.testing.assert_close(model.discriminator[1].weight.grad[0], expected, rtol=1e-4, atol=1e-4)


def test_pictures_are_seen_from_minus_one_to_one_whatever_they_are_scaled_by() -> None:
    pixels = PixelRange(torch.full((1, 1, 1), -0.5), torch.full((1, 1, 1), 2.0))
    scaled = task(pixels=pixels).scaled(torch.tensor([-0.5, 0.75, 2.0]).view(3, 1, 1, 1))
    assert scaled.flatten().tolist() == [-1.0, 0.0, 1.0]


def test_the_frechet_distance_is_that_of_scipys_square_root() -> None:
    random = np.random.default_rng(0)
    real, fake = random.normal(size=(200, 6)), random.normal(1, 2, size=(200, 6)) @ random.normal(size=(6, 6))
    sums = moments(torch.tensor(real), "real") | moments(torch.tensor(fake), "fake")
    covariances = [np.cov(x, rowvar=False, bias=True) for x in (real, fake)]
    apart = real.mean(0) - fake.mean(0)
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = apart @ apart + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet(sums, 200) == pytest.approx(expected, rel=1e-8)


def test_of_one_feature_it_is_the_distance_of_means_and_of_spreads() -> None:
    real, fake = torch.tensor([[1.0], [3.0]]), torch.tensor([[4.0], [14.0]])
    sums = moments(real, "real") | moments(fake, "fake")
    assert frechet(sums, 2) == pytest.approx((9 - 2) ** 2 + (5 - 1) ** 2)
    assert frechet(moments(real, "real") | moments(real, "fake"), 2) == pytest.approx(0, abs=1e-12)


def test_features_follow_from_the_data_alone_and_learn_their_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(640) % 3
    inputs = torch.randn(640, 1, 8, 8, generator=generator) * 0.1 + targets.view(-1, 1, 1, 1) - 1

    def batches() -> Any:
        for first in range(0, 640, 64):
            rows = slice(first, first + 64)
            position = Position(0, first + 64) if first < 576 else Position(1)
            yield Batch(inputs[rows], targets[rows], torch.arange(64), position)
        raise AssertionError("more than an epoch is read")

    torch.manual_seed(1)
    first = PictureFeatures(1, 3)
    torch.manual_seed(2)
    second = PictureFeatures(1, 3)
    assert not first.fitted
    for features in (first, second):
        features.fit(batches())
    stored = second.state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in first.state_dict().items())
    assert first.fitted and not any(p.requires_grad for p in first.parameters())
    assert (first.head(first(inputs)).argmax(1) == targets).float().mean() > 0.95


def test_what_it_cannot_do_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"task: gan needs pictures .* small has values"):
        task(kind="values")
    with pytest.raises(ConfigError, match=r"inputs of shape \(16,\)"):
        task(shape=(16,))
    with pytest.raises(ConfigError, match=r"predicts nothing; trainrun.load"):
        task().predict(nn.Identity(), torch.zeros(1))
    mixing = Linear()
    mixing.discriminator.append(nn.BatchNorm1d(1))
    with pytest.raises(ConfigError, match=r"model.norm: batch norm mixes samples"):
        task("wgan_gp")(mixing, batch())
    monkeypatch.setattr(ranks, "size", lambda: 2)
    with pytest.raises(ConfigError, match=r"task: gan .* trains on one, got 2"):
        task()
