"""Adam and AdamW by torch's fused kernels, with what a step works on gathered once instead of each time.

On a small model torch's bookkeeping takes a third of the step: it collects its lists anew, sorts them by
device and type, and counts every parameter's steps with a kernel of its own. Arithmetic, state, hooks and
what is stored are torch's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import optimizer

from trainrun.runtime import divided

_GLOBAL_HOOKS = (optimizer._global_optimizer_pre_hooks, optimizer._global_optimizer_post_hooks)
_plain_step: Callable[..., Any] = inspect.unwrap(torch.optim.Adam.step)  # below hooks and gradient mode


_AVERAGES = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")  # the last only with amsgrad
_SETTINGS = ("lr", "weight_decay", "eps", "amsgrad", "maximize")


class _Lists(NamedTuple):
    """The state of one parameter group, in its parameters' order."""

    averages: list[list[Tensor]]
    weights: list[Tensor]
    counters: Tensor  # (parameters,): the steps of each; what the state holds are its elements
    steps: list[Tensor]


class _Prepared(torch.optim.Adam):
    """Adam whose lists are kept; a step in which a parameter has no gradient is made torch's way."""

    _lists: list[_Lists] | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take another state, as loading does: what was gathered is of the one before."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._lists = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        hooks = (self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks, *_GLOBAL_HOOKS)
        return (_hooked_update if any(hooks) else _Prepared.update)(self, closure)

    # torch would put every step into a range of its profiler, which costs more than its bookkeeping.
    step.hooked = True  # type: ignore[attr-defined]

    @torch.no_grad()
    def update(self, closure: Callable[[], Any] | None) -> Any:
        """Make a step without hooks."""
        gradients = [[p.grad for p in group["params"]] for group in self.param_groups]
        is_partial = any(gradient is None for of_group in gradients for gradient in of_group)
        if self._lists is None or is_partial or closure is not None:
            loss = _plain_step(self, closure)
            self._lists = self._gathered()
            return loss
        for group, lists, of_group in zip(self.param_groups, self._lists, gradients, strict=True):
            lists.counters.add_(1)
            update: Any = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
            beta1, beta2 = group["betas"]
            settings = {name: group[name] for name in _SETTINGS}
            if (
                lists.weights[0] is not group["params"][0]
            ):  # shards: torch would unwrap every list in each step
                of_group = [*map(divided.local, of_group)]
            tensors = (lists.weights, of_group, *lists.averages, lists.steps)
            update(*tensors, beta1=beta1, beta2=beta2, **settings)
        return None

    def _gathered(self) -> list[_Lists] | None:
        """The lists of all groups; None where one has no state yet, or lies on several devices."""
        lists = []
        for group in self.param_groups:
            memories: list[dict[str, Tensor]] = [self.state.get(p, {}) for p in group["params"]]
            kinds = {(p.device, p.dtype) for p in group["params"]}
            if not group["fused"] or len(kinds) != 1 or not all(memories):
                return None
            counters = torch.stack([memory["step"] for memory in memories])
            steps = list(counters.unbind())
            for memory, step in zip(memories, steps, strict=True):
                memory["step"] = step
            averages = [
                [divided.local(memory[name]) for memory in memories if name in memory] for name in _AVERAGES
            ]
            lists.append(_Lists(averages, [*map(divided.local, group["params"])], counters, steps))
        return lists


_hooked_update = torch.optim.Optimizer.profile_hook_step(_Prepared.update)


class Adam(_Prepared):
    """torch.optim.Adam."""


class AdamW(_Prepared, torch.optim.AdamW):
    """torch.optim.AdamW."""
