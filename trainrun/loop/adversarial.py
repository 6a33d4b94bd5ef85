"""A step of two networks in turn: the discriminator on every window, the generator on every so-many-th."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from trainrun.checkpoint.state import TrainState
from trainrun.loop.nonfinite import locate_nonfinite
from trainrun.loop.step import Policy, Step, set_learning_rates, total
from trainrun.protocols import DataInfo, StepResult, Window
from trainrun.regularization.kinds import BatchChange, Penalty
from trainrun.runtime.machine import seed_forward
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Count

_DRAWS = {"discriminator": 0xD15C, "generator": 0x6E4E}  # that each network's noise is its own


class AdversarialStep(Step):
    """(state, window) -> StepResult of two networks, each with its own optimizer (optimizer=per_module).

    A window updates the discriminator, and every `discriminator_steps`-th one the generator after it.
    Loss and gradient norm are the discriminator's. Each gradient is clipped by itself, and a window's
    micro-batches add up in both.
    """

    def __init__(
        self,
        task: Any,
        policy: Policy,
        batch_changes: Sequence[BatchChange],
        penalties: Mapping[str, Penalty],
        info: DataInfo,
        accumulate: int,
        seed: int,
        discriminator_steps: Count,
    ) -> None:
        super().__init__(task, policy, batch_changes, penalties, info, accumulate, seed)
        if batch_changes or penalties:
            text = "what changes batches or adds to the loss has no place in a step of two losses"
            raise ConfigError.of("regularization", text)
        self.losses = {name: getattr(task, f"{name}_loss") for name in _DRAWS}
        self.discriminator_steps = discriminator_steps

    def __call__(self, state: TrainState, window: Window) -> StepResult:
        set_learning_rates(state)
        state.set_modes()
        result = self._update("discriminator", state, window)
        if result.applied and (state.step + 1) % self.discriminator_steps == 0:
            second = self._update("generator", state, window)
            norm = result.norm if second.applied else second.norm
            result = replace(
                result, sums={**result.sums, **second.sums}, norm=norm, applied=second.applied
            )
        if not result.applied:
            report = locate_nonfinite(state.model, window, result.norm, None)
            result = replace(result, finding=report)
        self.account(state, window, result)
        return result

    def _update(self, name: str, state: TrainState, window: Window) -> StepResult:
        """Update one network by the mean of its loss over a window, if its gradient is finite."""
        optimizer: Any = state.optimizer
        optimizer.zero_grad(set_to_none=True)
        part, size = optimizer.modules[name], sum(len(batch) for batch in window)
        weights = [p for group in part.param_groups for p in group["params"] if p.requires_grad]
        outcomes = []
        for micro, batch in enumerate(window):
            seed_forward(self.seed ^ _DRAWS[name], self.count(state.step, micro), state.precision.device)
            with state.precision.autocast():
                outcome = self.losses[name](state.model, batch)
            (outcome.terms["loss"] / size).backward(inputs=weights)  # none in the other network
            outcomes.append(outcome)
        gradients = [p.grad for p in weights if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        applied, norm_after = math.isfinite(norm), norm
        if applied:
            weights = [p for p in weights if p.grad is not None]
            norm_after = self.policy.clip(gradients, weights, norm)
            part.step()
        terms = total([{key: term.detach() for key, term in o.terms.items()} for o in outcomes])
        sums = total([o.sums for o in outcomes])
        return StepResult(size, terms, {"loss": float(size)}, sums, norm, norm_after, applied)
