"""The learning-rate range test: a built run's own first steps, while its rate rises from step to step."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainrun.assembly.build import Parts
from trainrun.assembly.schedule import schedule_over
from trainrun.check.context import loss_in
from trainrun.checkpoint.state import TrainState
from trainrun.loop.step import Step, WindowGradients
from trainrun.protocols import Window
from trainrun.runtime.signals import Signals
from trainrun.vocabulary.errors import ConfigError

_MEMORY = 0.8  # of the running mean that says whether the loss has diverged
_THROWN = 3.0  # times the first loss, above the best one
_PLANNED = 1000  # steps of a schedule that are looked at for its peak


@dataclass(frozen=True)
class LRPoint:
    """One step: its learning rate, and the loss of its window before the update; inf where not finite.

    `start` is the loss that the first weights have on the same samples, with the same random draws.
    """

    lr: float
    loss: float
    start: float


@dataclass(frozen=True)
class Peak:
    """What the run's schedule makes of its learning rate where it is largest."""

    factor: float
    momentum: float | None  # that the schedule sets there


def ramp(parts: Parts, low: float, high: float, steps: int) -> Iterator[LRPoint]:
    """Train with rates from `low` to `high`, each the same multiple of the one before (Smith, 2017).

    All else is the run's: windows, precision, clipping, regularisers, and every group's factor. The
    rates are those of a group whose factor is 1. Ends early where the loss diverges. Trains the
    parts themselves. Raises ConfigError where there is no rate to find, as `peak` does.
    """
    state, base, momentum = parts.state, parts.rates.lr, peak(parts).momentum
    ratio = (high / low) ** (1 / (steps - 1))
    state.schedule = lambda update: (low * ratio**update / base, momentum)
    state.weight_average = None  # nothing is judged
    watch = Divergence()
    for update, loss, start in _stepped(parts, copy.deepcopy(state.model), steps):
        yield LRPoint(low * ratio**update, loss, start)
        if watch.seen(loss):
            return


def _stepped(parts: Parts, first: nn.Module, steps: int) -> Iterator[tuple[int, float, float]]:
    """(update, loss, start) of each update. Steps that a scaler of fp16 skips are made again."""
    state, loop = parts.state, parts.loop(Path(), "", None, Signals())
    windows = loop.windows(state)
    try:
        while state.applied < steps:
            at, window = state.applied, next(windows)
            start = _start(loop.step, replace(state, model=first), window)
            result = loop.step(state, window)
            loss = loss_in(result)
            if not result.applied and state.precision.skips and not math.isinf(loss):
                continue
            if not result.applied or math.isinf(loss):
                yield at, math.inf, start
                return
            if not math.isnan(loss):  # nan: nothing to average, such as no masked token
                yield at, loss, start
    finally:
        windows.close()
        loop.checkpoints.close()


@torch.no_grad()
def _start(step: Any, state: TrainState, window: Window) -> float:
    """The loss of a window as this step would draw it; 0 where the step is the user's own."""
    if not isinstance(step, Step):
        return 0.0
    pass_ = WindowGradients(
        step, state, [step.changed(batch, state.step, at) for at, batch in enumerate(window)]
    )
    outcomes = [pass_.forward(at, batch) for at, batch in enumerate(pass_.window)]
    terms = [term for outcome in outcomes for term in outcome.terms.items()]
    return sum(float(value) / (float(pass_.counts[name]) or math.inf) for name, value in terms)


class Divergence:
    """Whether a loss has left its course: not finite, or its running mean above the best one by three
    times the size of the first.
    """

    def __init__(self) -> None:
        self.count, self.sum, self.best, self.size = 0, 0.0, math.inf, 0.0

    def seen(self, loss: float) -> bool:
        if not math.isfinite(loss):
            return True
        self.count += 1
        self.sum = _MEMORY * self.sum + (1 - _MEMORY) * loss
        mean = self.sum / (1 - _MEMORY**self.count)
        self.best, self.size = min(self.best, mean), self.size or abs(loss)
        return mean > self.best + _THROWN * max(self.size, abs(self.best))


def peak(parts: Parts) -> Peak:
    """Where the schedule is at its largest.

    Raises ConfigError where there is no rate to find: the optimizer searches, or the schedule sets it.
    """
    if isinstance(parts.state.optimizer, torch.optim.LBFGS):
        text = "L-BFGS has no rate to find: it searches the length of each step itself, from lr 1"
        raise ConfigError.one("optimizer", text)
    total = parts.pace.total_steps or _PLANNED
    updates = range(0, total, max(1, total // _PLANNED))
    schedule = parts.rates.over(total)
    planned = [schedule(update) for update in updates]
    found = Peak(*max(planned, key=lambda one: one[0]))
    maximize = parts.monitor is None or parts.monitor.maximize
    other = schedule_over(parts.make, parts.pace, 2 * parts.rates.lr, maximize)(total)
    if max(other(update)[0] for update in updates) < 0.75 * found.factor:
        text = "sets the learning rates itself, whatever optimizer.lr is: none would be found for it"
        raise ConfigError.one("scheduler", text)
    return found
