"""Learning-rate range test (LR finder): a run's own first steps at rates that rise from step to step."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from trainrun.assembly.build import Parts
from trainrun.assembly.schedule import schedule_over
from trainrun.check.context import loss_in
from trainrun.checkpoint.state import TrainState
from trainrun.loop.step import Step, WindowGradients
from trainrun.protocols import Window
from trainrun.runtime.signals import Signals
from trainrun.task.gan import Adversarial
from trainrun.vocabulary.errors import ConfigError

_MEMORY = 0.8  # of the running mean of losses: about the last five, so that one hard batch does not end it
_THROWN = 3.0  # times the first loss, or a larger best mean, above the best mean: noise stays below
_PLANNED = 1000  # steps of a schedule that are searched for its peak: finer than any warm-up needs


@dataclass(frozen=True)
class LRPoint:
    """One step: its learning rate, and the losses of its window before the update."""

    lr: float
    loss: float  # inf where not finite
    start: float  # of the first weights on the same samples, with the same random draws


def ramp(parts: Parts, low: float, high: float, steps: int) -> Iterator[LRPoint]:
    """Train with rates from `low` to `high`, each the same multiple of the one before (Smith, 2017).

    All else is the run's: windows, precision, clipping, regularisers, and every group's factor. The
    rates are those of a group whose factor is 1. Ends early where the loss diverges. Trains the
    parts themselves. Raises ConfigError where there is no rate to find, as `peak` does.
    """
    state, base, (_, momentum) = parts.state, parts.rates.lr, peak(parts)
    ratio = (high / low) ** (1 / (steps - 1))
    state.schedule = lambda update: (low * ratio**update / base, momentum)
    state.weight_average = None  # nothing is evaluated
    first, loop, watch = copy.deepcopy(state.model), parts.loop(Path(), "", None, Signals()), Divergence()
    windows = loop.windows(state)
    try:
        while state.applied < steps:
            update, window = state.applied, next(windows)
            start = _start(loop.step, replace(state, model=first), window)
            result = loop.step(state, window)
            loss = loss_in(result)
            if not result.applied and state.precision.skips and not math.isinf(loss):
                continue  # fp16's loss scaler skips the step, which is repeated
            if not result.applied or math.isinf(loss):
                loss = math.inf
            elif math.isnan(loss):
                continue  # nothing to average, such as no masked token
            yield LRPoint(low * ratio**update, loss, start)
            if watch.seen(loss):
                return
    finally:
        windows.close()
        loop.checkpoints.close()


@torch.no_grad()
def _start(step: Any, state: TrainState, window: Window) -> float:
    """The loss of a window as this step would draw it; 0 where the step is the user's own."""
    if not isinstance(step, Step):
        return 0.0
    changed = [step.changed(batch, state.step, index) for index, batch in enumerate(window)]
    gradients = WindowGradients(step, state, changed)
    outcomes = [gradients.forward(index, batch) for index, batch in enumerate(gradients.window)]
    terms = [term for outcome in outcomes for term in outcome.terms.items()]
    return sum(float(value) / (float(gradients.counts[name]) or math.inf) for name, value in terms)


class Divergence:
    """Detects a diverged loss: not finite, or its running mean far above the best one."""

    def __init__(self) -> None:
        self.count, self.sum, self.best, self.size = 0, 0.0, math.inf, 0.0

    def seen(self, loss: float) -> bool:
        """Whether the loss has diverged with this one."""
        if not math.isfinite(loss):
            return True
        self.count += 1
        self.sum = _MEMORY * self.sum + (1 - _MEMORY) * loss
        mean = self.sum / (1 - _MEMORY**self.count)
        self.best, self.size = min(self.best, mean), self.size or abs(loss)
        return mean > self.best + _THROWN * max(self.size, abs(self.best))


def peak(parts: Parts) -> tuple[float, float | None]:
    """The schedule's largest factor, and its momentum there. Raises ConfigError without a rate to find."""
    if isinstance(parts.state.optimizer, torch.optim.LBFGS):
        text = "L-BFGS has no rate to find: it searches the length of each step itself, from lr 1"
        raise ConfigError.of("optimizer", text)
    if str(parts.settings["optimizer"]["_target_"]).endswith(".configure_optimizers"):
        raise ConfigError.of("optimizer", "own has no rate to find: configure_optimizers sets it")
    if isinstance(parts.task, Adversarial):
        raise ConfigError.of(
            "task", "gan has two losses, and a rate that lowers one tells nothing of the other"
        )
    total = parts.pace.total_steps or _PLANNED
    updates = range(0, total, max(1, total // _PLANNED))
    schedule = parts.rates.over(total)
    factor, momentum = max(map(schedule, updates), key=lambda factors: factors[0])
    maximize = parts.monitor is None or parts.monitor.maximize
    other = schedule_over(parts.make, parts.pace, 2 * parts.rates.lr, maximize)(total)
    if max(other(update)[0] for update in updates) < 0.75 * factor:
        text = "sets the learning rates itself, whatever optimizer.lr is: there is no rate to find"
        raise ConfigError.of("scheduler", text)
    return factor, momentum
