"""Optimizers made of others: several as one, and SAM, any of them at the worst point nearby."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from trainrun.optimizer.of_torch import Params
from trainrun.vocabulary.ranges import NonNegative, Positive


class CompositeOptimizer(Optimizer):
    """Several optimizers of different parameters as one; they share its groups and its state."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = list(parts)
        for part in parts:
            self.defaults |= part.defaults
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every part; all see the gradients of one evaluation."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)  # which makes new groups and a new state
        self._share()

    def _share(self) -> None:
        groups = iter(self.param_groups)
        for part in self.parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state
            if isinstance(part, CompositeOptimizer):
                part._share()


class SAM(CompositeOptimizer):
    """e = rho g / |g|; `base` steps from w with the gradient at w + e (Foret et al., 2021).

    `adaptive` scales by each weight's size: e = rho w^2 g / |w g| (Kwon et al., 2021).
    """

    def __init__(self, base: Optimizer, rho: float, adaptive: bool) -> None:
        super().__init__([base])
        self.rho, self.adaptive = rho, adaptive

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Two evaluations and one update; returns the first one's loss."""
        if closure is None:
            raise RuntimeError("SAM.step needs a closure")
        with torch.enable_grad():
            loss = closure()
        weights = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before = [p.detach().clone() for p in weights]
        try:
            self._climb(weights)
            with torch.enable_grad():
                closure()
        finally:
            with torch.no_grad():
                torch._foreach_copy_(weights, before)
        self.parts[0].step()
        return loss

    @torch.no_grad()
    def _climb(self, weights: list[torch.Tensor]) -> None:
        gradients = [p.grad for p in weights if p.grad is not None]
        if self.adaptive:
            gradients = list(torch._foreach_mul(gradients, torch._foreach_abs(weights)))
        scale = self.rho / (torch.nn.utils.get_total_norm(gradients) + 1e-12)
        moves = torch._foreach_mul(gradients, scale)
        if self.adaptive:
            torch._foreach_mul_(moves, torch._foreach_abs(weights))
        torch._foreach_add_(weights, moves)


def sam(
    params: Params,
    base: Callable[[Params, float, float], Optimizer],
    lr: Positive,
    weight_decay: NonNegative,
    rho: Positive,
    adaptive: bool,
) -> Optimizer:
    """Sharpness-aware minimisation (Foret et al., 2021) around the optimizer that `base` makes.

    A step evaluates its window twice, and so takes twice the time.
    """
    return SAM(base(params, lr, weight_decay), rho, adaptive)


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether a step evaluates the window several times (L-BFGS, SAM)."""
    return isinstance(optimizer, (torch.optim.LBFGS, SAM))
