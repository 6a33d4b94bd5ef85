"""Muon: orthogonalised momentum for hidden matrices; AdamW for all other parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainrun.optimizer.composite import CompositeOptimizer
from trainrun.optimizer.of_torch import Params, adamw
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Betas, Count, NonNegative, Positive, Rate

_QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's: slope largest at 0, singular values end in [0.7, 1.2]


class Muon(Optimizer):
    """w <- (1 - lr weight_decay) w - 0.2 lr sqrt(max(rows, columns)) O(m), with m <- b m + (1 - b) g.

    O orthogonalises Nesterov's look-ahead of m (Jordan et al., 2024). The factor gives updates the size
    of AdamW's (Liu et al., 2025), so that both take one learning rate. torch.optim.Muon with
    adjust_lr_fn="match_rms_adamw" does the same to matrices; here kernels are (out, rest) matrices.
    """

    def __init__(
        self, params: Params, lr: float, momentum: float, ns_steps: int, weight_decay: float
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "ns_steps": ns_steps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every matrix that has a gradient."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                mean = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))
                mean.lerp_(weight.grad, 1 - momentum)
                matrix = weight.grad.lerp(mean, momentum).flatten(1)
                update = orthogonalized(matrix, group["ns_steps"]).view(weight.shape)
                weight.mul_(1 - lr * group["weight_decay"])
                weight.add_(update, alpha=-0.2 * lr * max(matrix.shape) ** 0.5)
        return loss


def orthogonalized(matrix: Tensor, steps: int) -> Tensor:
    """(rows, columns) with its singular values near 1, by Newton and Schulz's iteration in bfloat16."""
    a, b, c = _QUINTIC
    x = matrix.bfloat16()
    is_tall = x.size(0) > x.size(1)
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if is_tall else x).to(matrix.dtype)


def muon(
    params: Params,
    model: nn.Module,
    lr: Positive,
    momentum: Rate,
    ns_steps: Count,
    betas: Betas,
    eps: Positive,
    weight_decay: NonNegative,
) -> Optimizer:
    """Orthogonalised momentum (Jordan et al., 2024) for hidden matrices and kernels.

    AdamW with `betas` and `eps` trains embeddings, the output layer, norms and biases.
    Raises ConfigError for a model without a hidden matrix.
    """
    hidden = _hidden(model)
    matrices, rest = _split(params, hidden)
    if not matrices:
        text = f"finds no hidden matrix to train in {type(model).__name__}; use adamw"
        raise ConfigError.of("optimizer", f"muon {text}", "optimizer=adamw")
    parts: list[Optimizer] = [Muon(matrices, lr, momentum, ns_steps, weight_decay)]
    return CompositeOptimizer([*parts, adamw(rest, lr, betas, eps, False, weight_decay)] if rest else parts)


def _hidden(model: nn.Module) -> set[Tensor]:
    """All matrices and kernels except those of embeddings and of the output layer."""
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd))]
    outer = [m for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))] + layers[-1:]
    spared = {p for module in outer for p in module.parameters(recurse=False)}
    return {p for p in model.parameters() if p.ndim > 1 and p not in spared}


def _split(params: Params, hidden: set[Tensor]) -> tuple[Params, Params]:
    """The same groups twice: with the parameters in `hidden`, and with all others."""
    matrices, rest = [], []
    for group in params:
        inner = [p for p in group["params"] if p in hidden]
        outer = [p for p in group["params"] if p not in hidden]
        if inner:
            matrices.append({**group, "params": inner, "name": f"muon, {group['name']}"})
        if outer:
            rest.append({**group, "params": outer})
    return matrices, rest
