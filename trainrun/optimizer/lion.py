"""Lion: the sign of a momentum, with one number of memory per weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from trainrun.optimizer.of_torch import Params
from trainrun.vocabulary.ranges import Betas, NonNegative, Positive


class Lion(Optimizer):
    """u = sign(b1 m + (1 - b1) g); w <- w - lr (u + weight_decay w); m <- b2 m + (1 - b2) g."""

    def __init__(self, params: Params, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update: every weight moves by lr, whatever the size of its gradient."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            gradients = [p.grad for p in weights]
            means = [self._mean(p) for p in weights]
            (beta1, beta2), lr = group["betas"], group["lr"]
            updates = torch._foreach_lerp(means, gradients, 1 - beta1)
            torch._foreach_sign_(updates)
            torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
            torch._foreach_add_(weights, updates, alpha=-lr)
            torch._foreach_lerp_(means, gradients, 1 - beta2)
        return loss

    def _mean(self, weight: torch.Tensor) -> torch.Tensor:
        if "exp_avg" not in self.state[weight]:
            self.state[weight]["exp_avg"] = torch.zeros_like(weight)
        mean: torch.Tensor = self.state[weight]["exp_avg"]
        return mean


def lion(params: Params, lr: Positive, betas: Betas, weight_decay: NonNegative) -> Optimizer:
    """The sign of a running mean (Chen et al., 2023).

    Needs a third to a tenth of AdamW's lr, and three to ten times its weight_decay.
    """
    return Lion(params, lr, betas, weight_decay)
