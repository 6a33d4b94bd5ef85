"""Optimizers made of others: several as one, each for a module, and SAM, at the worst point nearby."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from trainrun.optimizer.of_torch import Params
from trainrun.runtime import divided
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import NonNegative, Positive


class CompositeOptimizer(Optimizer):
    """Several optimizers of different parameters as one; they share its groups and its state.

    `modules` are those of named modules, which a step of one's own may update one at a time.
    """

    def __init__(self, parts: Sequence[Optimizer], names: Sequence[str] = ()) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts, self.modules = list(parts), dict(zip(names, parts, strict=False))
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


def per_module(
    params: Params,
    model: nn.Module,
    modules: dict[str, Callable[[Params, float, float], Optimizer]],
    lr: Positive,
    weight_decay: NonNegative,
) -> Optimizer:
    """Each module of the model by its name, such as `generator`, with the optimizer that is named for it."""
    children, owners = dict(model.named_modules()), dict[Any, str]()
    for name in modules:
        if name not in children:
            known = ", ".join(child for child, _ in model.named_children())
            raise ConfigError.of(f"optimizer.modules.{name}", f"the model has no such module; it has {known}")
        owners |= dict.fromkeys(children[name].parameters(), name)
    trained = {p for group in params for p in group["params"]}  # some of them only later
    if left := [n for n, p in model.named_parameters() if p in trained and p not in owners]:
        text = f"leave {left[0]} without an optimizer; name its module, too, or freeze it"
        raise ConfigError.of("optimizer.modules", text)
    parts: dict[str, Optimizer] = {}
    for name, make in modules.items():
        shares = [(group, [p for p in group["params"] if owners[p] == name]) for group in params]
        groups = [{**group, "params": own, "module": name} for group, own in shares if own]
        for group in groups:  # by these names the log has the learning rates
            group["name"] = name if len(groups) == 1 else f"{name}, {group['name']}"
        parts[name] = make(groups, lr, weight_decay)
    return CompositeOptimizer([*parts.values()], [*parts])


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
                torch._foreach_copy_([*map(divided.local, weights)], [*map(divided.local, before)])
        self.parts[0].step()
        return loss

    @torch.no_grad()
    def _climb(self, weights: list[torch.Tensor]) -> None:
        gradients = [p.grad for p in weights if p.grad is not None]
        if self.adaptive:
            gradients = list(torch._foreach_mul(gradients, torch._foreach_abs(weights)))
        scale = self.rho / (divided.whole(torch.nn.utils.get_total_norm(gradients)) + 1e-12)
        moves = torch._foreach_mul([*map(divided.local, gradients)], scale)
        parts = [*map(divided.local, weights)]
        if self.adaptive:
            torch._foreach_mul_(moves, torch._foreach_abs(parts))
        torch._foreach_add_(parts, moves)


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
