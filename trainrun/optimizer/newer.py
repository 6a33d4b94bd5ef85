"""Lion, Muon and schedule-free AdamW, which torch.optim lacks or restricts to matrices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainrun.optimizer.of_torch import Params, adamw
from trainrun.optimizer.sam import CompositeOptimizer
from trainrun.runtime import divided
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Betas, Count, NonNegative, Positive, Rate

_QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's: slope largest at 0, singular values end in [0.7, 1.2]


class _ByGroup(Optimizer, ABC):
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every weight that has a gradient."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            self._update(group, [p for p in group["params"] if p.grad is not None])
        return loss

    @abstractmethod
    def _update(self, group: dict[str, Any], weights: list[Any]) -> None: ...

    def _memory(
        self, weight: Tensor, name: str, start: Callable[[Tensor], Tensor] = torch.zeros_like
    ) -> Tensor:
        memory: dict[str, Tensor] = self.state[weight]
        if name not in memory:
            memory[name] = start(weight)
        return memory[name]


class Lion(_ByGroup):
    """u = sign(b1 m + (1 - b1) g); w <- w - lr (u + weight_decay w); m <- b2 m + (1 - b2) g."""

    def __init__(self, params: Params, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def _update(self, group: dict[str, Any], weights: list[Any]) -> None:
        if not weights:
            return
        gradients, means = [p.grad for p in weights], [self._memory(p, "exp_avg") for p in weights]
        (beta1, beta2), lr = group["betas"], group["lr"]
        updates = torch._foreach_lerp(means, gradients, 1 - beta1)
        torch._foreach_sign_(updates)
        torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        torch._foreach_add_(weights, updates, alpha=-lr)
        torch._foreach_lerp_(means, gradients, 1 - beta2)


def lion(params: Params, lr: Positive, betas: Betas, weight_decay: NonNegative) -> Optimizer:
    """The sign of a running mean (Chen et al., 2023).

    Needs a third to a tenth of AdamW's lr, and three to ten times its weight_decay.
    """
    return Lion(params, lr, betas, weight_decay)


class ScheduleFreeAdamW(_ByGroup):
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

    def _update(self, group: dict[str, Any], weights: list[Any]) -> None:
        (beta1, beta2), lr = group["betas"], group["lr"]
        group["updates"] += 1
        group["lr_max"] = max(group["lr_max"], lr)
        group["weight_sum"] += group["lr_max"] ** 2
        share = group["lr_max"] ** 2 / group["weight_sum"] if group["weight_sum"] else 0.0
        if not weights:
            return
        gradients = [p.grad for p in weights]
        walking = [self._memory(p, "z", torch.clone) for p in weights]
        squares = [self._memory(p, "v") for p in weights]
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


class Muon(_ByGroup):
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

    def _update(self, group: dict[str, Any], weights: list[Any]) -> None:
        lr, momentum = group["lr"], group["momentum"]
        for weight in weights:
            mean = self._memory(weight, "momentum_buffer")
            mean.lerp_(weight.grad, 1 - momentum)
            ahead = divided.whole(weight.grad.lerp(mean, momentum))  # each rank has all of it
            matrix = ahead.flatten(1)
            update = divided.part(orthogonalized(matrix, group["ns_steps"]).view(weight.shape), weight)
            weight.mul_(1 - lr * group["weight_decay"])
            divided.local(weight).add_(update, alpha=-0.2 * lr * max(matrix.shape) ** 0.5)


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
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd))]
    outer = [m for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))] + layers[-1:]
    spared = {p for module in outer for p in module.parameters(recurse=False)}
    hidden = {p for p in model.parameters() if p.ndim > 1 and p not in spared}
    matrices, rest = [], []
    for group in params:
        if inner := [p for p in group["params"] if p in hidden]:
            matrices.append({**group, "params": inner, "name": f"muon, {group['name']}"})
        if others := [p for p in group["params"] if p not in hidden]:
            rest.append({**group, "params": others})
    if not matrices:
        text = f"finds no hidden matrix to train in {type(model).__name__}; use adamw"
        raise ConfigError.of("optimizer", f"muon {text}", "optimizer=adamw")
    parts: list[Optimizer] = [Muon(matrices, lr, momentum, ns_steps, weight_decay)]
    return CompositeOptimizer([*parts, adamw(rest, lr, betas, eps, False, weight_decay)] if rest else parts)
