"""Frechet distance between pictures in the features of a small classifier (Heusel et al., 2017)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainrun.protocols import Batch
from trainrun.runtime.machine import seeded

_MOST_STEPS = 200  # some ten seconds: a better classifier orders generators no differently


class PictureFeatures(nn.Module):
    """A small CNN whose last hidden layer describes pictures, once `fit` has taught it their classes.

    Its weights follow from `seed` and the training split alone, so that runs can be compared.
    """

    fitted: Tensor

    def __init__(self, channels: int, num_classes: int, seed: int) -> None:
        super().__init__()
        with seeded(seed):
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
        self.zero_grad()
        self.requires_grad_(False).fitted.fill_(1)


def moments(features: Tensor, name: str) -> dict[str, Tensor]:
    """The sums that mean and covariance are made of: (D,) and (D, D)."""
    exact = features.double()
    return {f"{name}_sum": exact.sum(0), f"{name}_products": exact.T @ exact}


def frechet(sums: Mapping[str, Tensor], count: int) -> float:
    """|m - n|^2 + tr(A + B - 2 (A B)^(1/2)) for means m, n and covariances A, B of `real` and `fake`."""
    means = {name: sums[f"{name}_sum"].cpu() / count for name in ("real", "fake")}
    real, fake = (
        sums[f"{name}_products"].cpu() / count - torch.outer(mean, mean) for name, mean in means.items()
    )
    values, vectors = torch.linalg.eigh(real)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ fake @ root).clamp(min=0).sqrt().sum()
    apart = (means["real"] - means["fake"]).square().sum()
    return float((apart + real.trace() + fake.trace() - 2 * shared).clamp(min=0))
