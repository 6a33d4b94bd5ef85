"""Schedule-free AdamW: an average of the iterates in place of a decaying learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainrun.optimizer.of_torch import Params
from trainrun.vocabulary.ranges import Betas, NonNegative, Positive


class ScheduleFreeAdamW(Optimizer):
    """Three points (Defazio et al., 2024): z walks, x averages z, gradients are taken at y between them.

    y = (1 - b1) z + b1 x is what the model holds; z <- z - lr (g / sqrt(v) + weight_decay y);
    x <- (1 - c) x + c z, where c is this step's share of the sum of the squared largest learning
    rates so far. x is what is to be evaluated, and follows from y and z.
    """

    def __init__(
        self, params: Params, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"updates": 0, "lr_max": 0.0, "weight_sum": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of y, z and the second moments."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            group["updates"] += 1
            group["lr_max"] = max(group["lr_max"], group["lr"])
            group["weight_sum"] += group["lr_max"] ** 2
            share = group["lr_max"] ** 2 / group["weight_sum"] if group["weight_sum"] else 0.0
            if weights := [p for p in group["params"] if p.grad is not None]:
                self._update(group, weights, share)
        return loss

    def _update(self, group: dict[str, Any], weights: list[Tensor], share: float) -> None:
        (beta1, beta2), lr = group["betas"], group["lr"]
        gradients = [p.grad for p in weights if p.grad is not None]
        walking, squares = [self._memory(p, "z") for p in weights], [self._memory(p, "v") for p in weights]
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        roots = torch._foreach_div(squares, 1 - beta2 ** group["updates"])
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, group["eps"])
        steps = torch._foreach_div(gradients, roots)
        torch._foreach_add_(steps, weights, alpha=group["weight_decay"])
        torch._foreach_lerp_(weights, walking, share)  # y of the new share, from the old z
        torch._foreach_add_(weights, steps, alpha=-lr * (1 - beta1 * (1 - share)))
        torch._foreach_add_(walking, steps, alpha=-lr)

    @torch.no_grad()
    def average_into(self, copies: Mapping[Tensor, Tensor]) -> None:
        """Write x into the copy of every weight; what has not been trained is copied."""
        for group in self.param_groups:
            beyond = 1 - 1 / group["betas"][0]  # x lies on the line through z and y, beyond y
            for weight in group["params"]:
                z = self.state[weight].get("z", weight) if weight in self.state else weight
                torch.lerp(weight, z, beyond, out=copies[weight])

    def _memory(self, weight: Tensor, name: str) -> Tensor:
        memory = self.state[weight]
        if name not in memory:
            memory[name] = weight.clone() if name == "z" else torch.zeros_like(weight)
        tensor: Tensor = memory[name]
        return tensor


def schedule_free_adamw(
    params: Params, lr: Positive, betas: Betas, eps: Positive, weight_decay: NonNegative
) -> Optimizer:
    """AdamW that averages instead of following a schedule (Defazio et al., 2024).

    The average is evaluated, monitored and kept. It needs a warm-up and then a constant rate, somewhat
    larger than AdamW's. betas[0] must be greater than 0: gradients are taken between w and the average.
    """
    if betas[0] == 0:
        raise ValueError("optimizer.betas: the first must be greater than 0, got 0")
    return ScheduleFreeAdamW(params, lr, betas, eps, weight_decay)
