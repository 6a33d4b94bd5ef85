"""L1, L2 and elastic-net penalties on matrices and kernels, added to the loss once per step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainrun.regularization.kinds import Penalty
from trainrun.runtime import divided
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Fraction, NonNegative

_NEAR_ZERO = 1e-3  # far below a weight at its first value, about 1 / sqrt(fan_in): it contributes nothing


class L1Penalty(Penalty):
    """strength x sum |w|. Its subgradient makes weights small; it leaves few exactly zero."""

    def __init__(self, strength: NonNegative) -> None:
        self.strength = strength

    def penalty(self, model: nn.Module) -> Tensor:
        return self.strength * _total([w.abs().sum() for w in decayed(model)])


class L2(Penalty):
    """strength x sum w^2: for plain SGD the same as weight_decay = 2 x strength."""

    def __init__(self, strength: NonNegative) -> None:
        self.strength = strength

    def penalty(self, model: nn.Module) -> Tensor:
        return self.strength * _total([w.square().sum() for w in decayed(model)])


class Elastic(Penalty):
    """strength x (share sum |w| + (1 - share) sum w^2) (Zou and Hastie, 2005)."""

    def __init__(self, strength: NonNegative, l1_share: Fraction) -> None:
        self.l1, self.l2 = L1Penalty(strength * l1_share), L2(strength * (1 - l1_share))

    def penalty(self, model: nn.Module) -> Tensor:
        return self.l1.penalty(model) + self.l2.penalty(model)


def decayed(model: nn.Module) -> list[Tensor]:
    """The trained matrices and kernels of a model, on which penalties act: not norms and biases."""
    weights: list[Any] = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    # A sum may gather what is divided; its gradient is then divided again.
    return [w.redistribute(placements=w.placements) if hasattr(w, "placements") else w for w in weights]


def near_zero(model: nn.Module) -> float:
    """The share of penalised weights that are smaller than 1e-3."""
    weights = [w.detach() for w in decayed(model)] or [torch.ones(1)]
    small = divided.whole(torch.stack([(w.abs() < _NEAR_ZERO).sum() for w in weights]).sum())
    return float(small) / sum(w.numel() for w in weights)


def _total(sums: list[Tensor]) -> Tensor:
    if not sums:
        raise ConfigError.of("regularization", "a penalty needs a trained matrix or kernel, there is none")
    return torch.stack(sums).sum()
