"""Losses of a generator and a discriminator, and the Frechet distance from generated to real pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainrun import ranks
from trainrun.protocols import Batch, BatchSpec, Data, DataInfo, Outcome, Position
from trainrun.runtime.machine import seeded
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Count, Positive

_MOST_STEPS = 200  # some seconds; a better classifier would order generators no differently


class PictureFeatures(nn.Module):
    """A small CNN whose last hidden layer describes pictures; its weights follow from the data alone."""

    fitted: Tensor

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        with seeded(0):
            self.body = nn.Sequential(
                *(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()),
                *(nn.Linear(512, 64), nn.ReLU()),
            )
            self.head = nn.Linear(64, num_classes)
        self.register_buffer("fitted", torch.zeros((), dtype=torch.int64))
        self.requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.body(pictures.float())
        return features

    def fit(self, batches: Iterator[Batch]) -> None:
        """Learn the classes of an epoch's batches, or of the first 200."""
        optimizer = torch.optim.Adam(self.requires_grad_().parameters(), 1e-3)
        for step, batch in enumerate(batches, 1):
            optimizer.zero_grad()
            F.cross_entropy(self.head(self(batch.inputs)), batch.targets).backward()
            optimizer.step()
            if batch.ends_epoch or step == _MOST_STEPS:
                break
        self.requires_grad_(False).fitted.fill_(1)


class Adversarial:
    """A generator learns to make pictures that a discriminator cannot tell from real ones.

    `objective` dcgan is the logistic loss (Goodfellow et al., 2014); wgan_gp the difference of scores, with
    `gradient_penalty` times the square by which their slope differs from 1 (Gulrajani et al., 2017). The
    model has `generator`, `discriminator`, and `draw(count)` of pictures from -1 to 1.
    """

    kinds: ClassVar[tuple[str, ...]] = ("classes",)
    metric_modes: Mapping[str, str] = {"frechet": "min", "loss": "min"}
    own_metrics: Mapping[str, Any] = {}
    num_outputs = 1

    def __init__(
        self,
        info: DataInfo,
        objective: Literal["dcgan", "wgan_gp"],
        gradient_penalty: Positive,
        discriminator_steps: Count,
    ) -> None:
        if ranks.size() > 1:
            raise ConfigError.of("task", f"gan sums nothing over ranks and trains on one, got {ranks.size()}")
        if info.kind != "classes" or len(info.input_shape) != 3:
            text = f"gan needs pictures (C, H, W) with classes, from which val/frechet learns; {info.name}"
            raise ConfigError.of("task", f"{text} has {info.kind} and inputs of shape {info.input_shape}")
        self.info, self.discriminator_steps = info, discriminator_steps
        self.is_wasserstein, self.gradient_penalty = objective == "wgan_gp", gradient_penalty
        self.features = PictureFeatures(info.input_shape[0], info.num_targets)

    def fit(self, data: Data) -> None:
        """Teach the classifier of `frechet`, once in a run: checkpoints hold its weights."""
        if not self.features.fitted:
            with seeded(0):
                batches = data.train_batches(Position(), BatchSpec(64, 1), 0)
                self.features.fit(replace(batch, inputs=self.scaled(batch.inputs)) for batch in batches)

    def scaled(self, inputs: Tensor) -> Tensor:
        """Pictures from -1 to 1; as they are where black and white are not known."""
        pixels = self.info.pixels
        return inputs if pixels is None else 2 * (inputs - pixels.black) / (pixels.white - pixels.black) - 1

    def count(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {"loss": float(len(batch))}

    def __call__(self, model: Any, batch: Batch) -> Outcome:
        """The discriminator's loss on a batch and as many generated pictures, and what `frechet` sums."""
        modules = model.discriminator.modules()
        if self.is_wasserstein and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in modules):
            text = "batch norm mixes samples, and the penalty of wgan_gp is of each; use group or none"
            raise ConfigError.of("model.norm", text, "model.norm=group")
        real, fake = self.scaled(batch.inputs), model.draw(len(batch))
        outcome = self._compare(model, real, fake)
        sums = moments(self.features(real), "real") | moments(self.features(fake), "fake")
        return replace(outcome, sums={**outcome.sums, **sums})

    def discriminator_loss(self, model: Any, batch: Batch) -> Outcome:
        """The loss, with the gradient penalty, on a batch and as many generated pictures."""
        real = self.scaled(batch.inputs)
        with torch.no_grad():
            fake = model.draw(len(batch))
        outcome = self._compare(model, real, fake)
        if not self.is_wasserstein:
            return outcome
        between = real.lerp(fake.to(real), torch.rand(len(real), 1, 1, 1, device=real.device))
        scores = model.discriminator(between.requires_grad_()).float()
        [slope] = torch.autograd.grad(scores.sum(), between, create_graph=True)
        penalty = self.gradient_penalty * (slope.flatten(1).norm(dim=1) - 1).square().sum()
        sums = {**outcome.sums, "gradient_penalty": penalty.detach()}
        return replace(outcome, terms={"loss": outcome.terms["loss"] + penalty}, sums=sums)

    def generator_loss(self, model: Any, batch: Batch) -> Outcome:
        """The generator's loss on as many pictures as a batch has."""
        scores = model.discriminator(model.draw(len(batch))).float()
        loss = (-scores if self.is_wasserstein else F.softplus(-scores)).sum()
        count = loss.new_full((), len(batch))
        return Outcome({"loss": loss}, {"generator_loss": loss.detach(), "generated": count})

    def _compare(self, model: Any, real: Tensor, fake: Tensor) -> Outcome:
        """The discriminator's loss, and its mean scores: probabilities of being real with dcgan."""
        of_real, of_fake = (model.discriminator(pictures).float() for pictures in (real, fake))
        scores = {"real_score": of_real.detach(), "fake_score": of_fake.detach()}
        if self.is_wasserstein:
            loss = of_fake.sum() - of_real.sum()
        else:
            loss = F.softplus(-of_real).sum() + F.softplus(of_fake).sum()
            scores = {name: score.sigmoid() for name, score in scores.items()}
        return Outcome({"loss": loss}, {name: score.sum() for name, score in scores.items()})

    def summarize(self, sums: Mapping[str, Tensor], num_samples: int) -> dict[str, float]:
        """Mean scores and losses; of a split `frechet`, too."""
        generated = float(sums.get("generated", 0))  # fewer than samples with several discriminator steps
        counts = dict.fromkeys(("real_score", "fake_score", "gradient_penalty"), float(num_samples))
        counts |= {"generator_loss": generated} if generated else {}
        metrics = {name: float(sums[name]) / count for name, count in counts.items() if name in sums}
        return metrics | ({"frechet": frechet(sums, num_samples)} if "real_sum" in sums else {})

    def predict(self, model: Any, inputs: Tensor) -> Tensor:
        """Raises ConfigError: a generator has nothing to say of given pictures."""
        raise ConfigError.of("task", "gan predicts nothing; trainrun.load(RUN).draw(16) draws pictures")


def moments(features: Tensor, name: str) -> dict[str, Tensor]:
    """The sums that mean and covariance are made of: (D,) and (D, D)."""
    exact = features.double()
    return {f"{name}_sum": exact.sum(0), f"{name}_products": exact.T @ exact}


def frechet(sums: Mapping[str, Tensor], count: int) -> float:
    """|m - n|^2 + tr(A + B - 2 (A B)^(1/2)) for means m, n and covariances A, B of `real` and `fake`."""
    means = {name: sums[f"{name}_sum"].cpu() / count for name in ("real", "fake")}
    squares = {name: sums[f"{name}_products"].cpu() / count for name in means}
    real, fake = (squares[name] - torch.outer(mean, mean) for name, mean in means.items())
    values, vectors = torch.linalg.eigh(real)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ fake @ root).clamp(min=0).sqrt().sum()
    apart = (means["real"] - means["fake"]).square().sum()
    return float((apart + real.trace() + fake.trace() - 2 * shared).clamp(min=0))
