"""The losses of a generator and a discriminator, and how far generated pictures are from real ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainrun import ranks
from trainrun.protocols import Batch, BatchSpec, Data, DataInfo, Outcome, Position
from trainrun.runtime.machine import seeded
from trainrun.task.frechet import PictureFeatures, frechet, moments
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Positive, Seed

_NEEDED = ("generator", "discriminator", "draw")  # of a model


class Adversarial:
    """A generator learns to make pictures that a discriminator cannot tell from real ones.

    `objective` dcgan is the logistic loss, the generator's not saturating (Goodfellow et al., 2014);
    wgan_gp is the difference of the mean scores, with `gradient_penalty` times the square by which the
    length of the score's gradient differs from 1 (Gulrajani et al., 2017). The model has `generator`,
    `discriminator` and `draw(count)`, and pictures from -1 to 1. Evaluation draws as many pictures as
    the split has; `frechet` compares them in features that follow from `features_seed` and the data.
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
        features_seed: Seed,
    ) -> None:
        if ranks.size() > 1:
            text = f"gan trains on one rank, got {ranks.size()}: its updates are not summed over ranks"
            raise ConfigError.of("task", text)
        if info.kind != "classes" or len(info.input_shape) != 3:
            text = f"gan needs pictures (C, H, W) with classes, from which val/frechet learns; {info.name}"
            raise ConfigError.of("task", f"{text} has {info.kind} and inputs of shape {info.input_shape}")
        self.info, self.seed = info, features_seed
        self.is_wasserstein, self.gradient_penalty = objective == "wgan_gp", gradient_penalty
        self.features = PictureFeatures(info.input_shape[0], info.num_targets, features_seed)

    def fit(self, data: Data) -> None:
        """Teach the classifier of `frechet`, once in a run: checkpoints hold its weights."""
        if not self.features.fitted:
            with seeded(self.seed):
                batches = data.train_batches(Position(), BatchSpec(64, 1), self.seed)
                self.features.fit(replace(batch, inputs=self.scaled(batch.inputs)) for batch in batches)

    def scaled(self, inputs: Tensor) -> Tensor:
        """Pictures from -1 to 1; as they are where black and white are not known."""
        pixels = self.info.pixels
        return inputs if pixels is None else 2 * (inputs - pixels.black) / (pixels.white - pixels.black) - 1

    def count(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {"loss": float(len(batch))}

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        """The discriminator's loss on a batch and as many generated pictures, and what `frechet` sums."""
        if missing := [name for name in _NEEDED if not hasattr(model, name)]:
            text = f"needs {', '.join(_NEEDED)} for task=gan; {type(model).__name__} lacks {missing[0]}"
            raise ConfigError.of("model", text)
        modules = model.discriminator.modules()
        if self.is_wasserstein and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in modules):
            text = "batch norm mixes samples, and the penalty of wgan_gp is of each; use group or none"
            raise ConfigError.of("model.norm", text, "model.norm=group")
        real, fake = self.scaled(batch.inputs), model.draw(len(batch))
        outcome = self._compare(model, real, fake)
        sums = moments(self.features(real), "real") | moments(self.features(fake), "fake")
        return replace(outcome, sums={**outcome.sums, **sums})

    def discriminator_loss(self, model: nn.Module, batch: Batch) -> Outcome:
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

    def generator_loss(self, model: nn.Module, batch: Batch) -> Outcome:
        """The generator's loss on as many pictures as a batch has."""
        scores = model.discriminator(model.draw(len(batch))).float()
        loss = (-scores if self.is_wasserstein else F.softplus(-scores)).sum()
        return Outcome({"loss": loss}, {"generator_loss": loss.detach(), "generated": loss.new_tensor(len(batch))})

    def _compare(self, model: nn.Module, real: Tensor, fake: Tensor) -> Outcome:
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
        means = {"real_score": num_samples, "fake_score": num_samples, "gradient_penalty": num_samples}
        means |= {"generator_loss": generated} if generated else {}
        metrics = {name: float(sums[name]) / count for name, count in means.items() if name in sums}
        return metrics | ({"frechet": frechet(sums, num_samples)} if "real_sum" in sums else {})

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """The discriminator's score, (N, 1)."""
        scores: Tensor = model(self.scaled(inputs))
        return scores
