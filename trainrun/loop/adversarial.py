"""A step of two networks in turn: the discriminator on every window, the generator on every so-many-th."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from trainrun.checkpoint.state import TrainState
from trainrun.loop.nonfinite import locate_nonfinite
from trainrun.loop.step import Step, set_learning_rates, total
from trainrun.protocols import StepResult, Window
from trainrun.runtime.machine import seed_forward

_DRAWS = {"discriminator": 0xD15C, "generator": 0x6E4E}  # so that each update draws noise of its own


class AdversarialStep(Step):
    """Every window updates the discriminator, every `task.discriminator_steps`-th one the generator after it.

    Each has an optimizer of its own, and is clipped by itself. Loss and norm are the discriminator's.
    """

    def __call__(self, state: TrainState, window: Window) -> StepResult:
        set_learning_rates(state)
        state.set_modes()
        task, result = cast(Any, self.task), self._update("discriminator", state, window)
        if result.applied and (state.step + 1) % task.discriminator_steps == 0:
            second = self._update("generator", state, window)
            norm, sums = result.norm if second.applied else second.norm, {**result.sums, **second.sums}
            result = replace(result, sums=sums, norm=norm, applied=second.applied)
        if not result.applied:
            result = replace(result, finding=locate_nonfinite(state.model, window, result.norm, None))
        self.account(state, window, result)
        return result

    def _update(self, name: str, state: TrainState, window: Window) -> StepResult:
        """Update one network by the mean of its loss over a window, if its gradient is finite."""
        optimizer: Any = state.optimizer
        optimizer.zero_grad(set_to_none=True)
        part, size = optimizer.modules[name], sum(len(batch) for batch in window)
        weights = [p for group in part.param_groups for p in group["params"]]
        outcomes = []
        for micro, batch in enumerate(window):
            seed_forward(self.seed ^ _DRAWS[name], self.count(state.step, micro), state.precision.device)
            with state.precision.autocast():
                outcome = getattr(self.task, f"{name}_loss")(state.model, batch)
            (outcome.terms["loss"] / size).backward(inputs=weights)  # and none in the other network
            outcomes.append(({"loss": outcome.terms["loss"].detach()}, outcome.sums))
        weights = [p for p in weights if p.grad is not None]
        gradients = [p.grad for p in weights]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        norm_after: float | Tensor = norm
        if applied := math.isfinite(norm):
            norm_after = self.policy.clip(gradients, weights, norm)
            part.step()
        terms, sums = map(total, zip(*outcomes, strict=True))
        return StepResult(size, terms, {"loss": float(size)}, sums, norm, norm_after, applied)
