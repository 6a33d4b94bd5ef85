"""Learning-rate schedules as pure functions of the update's index, over the run's own length.

A schedule has values at updates 0 .. T-1 and reaches its end value at T, as torch's own do. All
factors multiply the learning rate of each parameter group. `warmup` composes with every schedule:
factor (n + 1) / warmup on the way up from `warmup_start`. Cosine, linear, polynomial, wsd,
one_cycle and cosine_restarts span what follows the warm-up; step, multistep, exponential, noam
and cyclic count from the start of the run. `min_lr` is the value that a decay ends at.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from trainrun.errors import ConfigError
from trainrun.ranges import (
    Count,
    Fraction,
    Natural,
    NonNegative,
    Period,
    Positive,
    PositiveFraction,
    Rate,
    Steps,
)

Shape = Callable[[int], float]  # updates since its start -> factor of the learning rate


class Warmed:
    """`shape` after, or with `spans_rest` False under, a linear warm-up.

    `momentum` is the absolute momentum (or first beta) at an update, for schedules that set it.
    """

    def __init__(
        self,
        shape: Shape,
        warmup: int,
        warmup_start: float,
        spans_rest: bool,
        momentum: Callable[[int], float] | None = None,
    ) -> None:
        self.shape, self.momentum = shape, momentum
        self.warmup, self.warmup_start = warmup, warmup_start
        self.begins_at = warmup if spans_rest else 0

    def __call__(self, update: int) -> tuple[float, float | None]:
        since = max(0, update - self.begins_at)
        factor = self.shape(since)
        if update < self.warmup:
            factor *= self.warmup_start + (1 - self.warmup_start) * (update + 1) / self.warmup
        return factor, None if self.momentum is None else self.momentum(since)


def constant(warmup: Steps, warmup_start: Fraction) -> Warmed:
    """The learning rate itself, after the warm-up."""
    return Warmed(lambda n: 1.0, warmup, warmup_start, spans_rest=True)


def step(
    base_lr: float,
    every: Period,
    gamma: PositiveFraction,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Warmed:
    """Times `gamma` every `every`: gamma^floor(n / every)."""
    floor = _floor(min_lr, base_lr)
    return Warmed(lambda n: max(floor, gamma ** (n // every)), warmup, warmup_start, spans_rest=False)


def multistep(
    base_lr: float,
    at: list[Steps],
    gamma: PositiveFraction,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Warmed:
    """Times `gamma` at each of the given points of the run."""
    floor = _floor(min_lr, base_lr)
    shape = lambda n: max(floor, gamma ** sum(n >= point for point in at))  # noqa: E731
    return Warmed(shape, warmup, warmup_start, spans_rest=False)


def exponential(
    base_lr: float,
    gamma: PositiveFraction,
    every: Period,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Warmed:
    """Smoothly times `gamma` over every `every`: gamma^(n / every)."""
    floor = _floor(min_lr, base_lr)
    return Warmed(lambda n: max(floor, gamma ** (n / every)), warmup, warmup_start, spans_rest=False)


def linear(
    total_steps: int, base_lr: float, warmup: Steps, warmup_start: Fraction, min_lr: NonNegative
) -> Warmed:
    """A straight line down to `min_lr` at the end of the run; BERT's with a warm-up (Devlin et al., 2019)."""
    return polynomial(total_steps, base_lr, 1.0, warmup, warmup_start, min_lr)


def polynomial(
    total_steps: int,
    base_lr: float,
    power: Positive,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Warmed:
    """(1 - n / T)^power down to `min_lr`."""
    rest, floor = _rest(total_steps, warmup), _floor(min_lr, base_lr)
    shape = lambda n: floor + (1 - floor) * (1 - min(n, rest) / rest) ** power  # noqa: E731
    return Warmed(shape, warmup, warmup_start, spans_rest=True)


def cosine(
    total_steps: int, base_lr: float, warmup: Steps, warmup_start: Fraction, min_lr: NonNegative
) -> Warmed:
    """Half a cosine to `min_lr` at the end of the run (Loshchilov and Hutter, 2017); it never rises again."""
    rest, floor = _rest(total_steps, warmup), _floor(min_lr, base_lr)
    shape = lambda n: floor + (1 - floor) * _cosine(min(n, rest) / rest)  # noqa: E731
    return Warmed(shape, warmup, warmup_start, spans_rest=True)


def cosine_restarts(
    base_lr: float,
    first: Period,
    mult: Count,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Warmed:
    """SGDR: cosines one after another, the first `first` long, each `mult` times the one before
    (Loshchilov and Hutter, 2017).
    """
    floor = _floor(min_lr, base_lr)

    def shape(n: int) -> float:
        length = first
        while n >= length:
            n, length = n - length, length * mult
            if mult == 1:
                n %= length
        return floor + (1 - floor) * _cosine(n / length)

    return Warmed(shape, warmup, warmup_start, spans_rest=True)


def noam(
    base_lr: float, d_model: Count | None, warmup: Period, warmup_start: Fraction, min_lr: NonNegative
) -> Warmed:
    """Rises linearly for `warmup`, then falls as n^-0.5 (Vaswani et al., 2017, section 5.3).

    With `d_model` it is the paper's: lr d_model^-0.5 min(n^-0.5, n warmup^-1.5), n from 1, and
    optimizer.lr a mere factor (1 in the paper). Without, optimizer.lr is the peak.
    """
    floor = _floor(min_lr, base_lr)
    peak = 1.0 if d_model is None else 1 / math.sqrt(d_model * warmup)
    shape = lambda n: max(floor, peak * min(1.0, math.sqrt(warmup / (n + 1))))  # noqa: E731
    return Warmed(shape, warmup, warmup_start, spans_rest=False)


def one_cycle(
    total_steps: int,
    base_lr: float,
    rise: Fraction,
    div: Positive,
    final_div: Positive,
    momentum_high: Rate | None,
    momentum_low: Rate | None,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Warmed:
    """Up from lr / div over the share `rise` of the run, then down to lr / (div final_div), as
    cosines; momentum the other way (Smith and Topin, 2018). The last update, not one after it,
    has the end value.
    """
    rest, floor = _rest(total_steps, warmup), _floor(min_lr, base_lr)
    top, end = rise * rest - 1, rest - 1
    low, final = max(floor, 1 / div), max(floor, 1 / (div * final_div))

    def between(n: int, start: float, peak: float, last: float) -> float:
        n = min(n, end)
        if n <= top:
            return peak + (start - peak) * _cosine(n / top if top else 1.0)
        return last + (peak - last) * _cosine((n - top) / (end - top))

    shape = lambda n: between(n, low, 1.0, final)  # noqa: E731
    momentum = _momentum(momentum_high, momentum_low, lambda n: between(n, 0.0, 1.0, 0.0))
    return Warmed(shape, warmup, warmup_start, spans_rest=True, momentum=momentum)


def cyclic(
    base_lr: float,
    up: Period,
    down: Period | None,
    mode: Literal["triangular", "triangular2", "exp_range"],
    gamma: PositiveFraction,
    low: Fraction,
    momentum_high: Rate | None,
    momentum_low: Rate | None,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Warmed:
    """Up and down between low x lr (or `min_lr`, if that is more) and lr (Smith, 2017); triangular2
    halves each cycle's height, exp_range multiplies it by gamma^n. Momentum goes the other way.
    """
    bottom = max(low, _floor(min_lr, base_lr))
    period = up + (down or up)

    def height(n: int) -> float:
        cycle, at = divmod(n, period)
        triangle = at / up if at <= up else (period - at) / (period - up)
        return triangle * {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": gamma**n}[mode]

    shape = lambda n: bottom + (1 - bottom) * height(n)  # noqa: E731
    momentum = _momentum(momentum_high, momentum_low, height)
    return Warmed(shape, warmup, warmup_start, spans_rest=False, momentum=momentum)


def wsd(
    total_steps: int,
    base_lr: float,
    decay: Steps,
    curve: Literal["linear", "cosine", "sqrt"],
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Warmed:
    """Warm-up, stable, decay: constant until the last `decay` of the run (Hu et al., 2024).

    `sqrt` is 1 - sqrt(x), which ended best in Haegele et al., 2024.
    """
    rest, floor = _rest(total_steps, warmup), _floor(min_lr, base_lr)
    if warmup + decay > total_steps + 1:  # two shares of a run, each rounded up, may overlap by one step
        text = f"of {decay} steps and the warm-up of {warmup} exceed the run's {total_steps}"
        raise ConfigError.one("scheduler.decay", text)
    decay = min(decay, rest)

    def shape(n: int) -> float:
        x = max(0.0, (min(n, rest) - (rest - decay)) / decay) if decay else 0.0
        return floor + (1 - floor) * {"linear": 1 - x, "cosine": _cosine(x), "sqrt": 1 - math.sqrt(x)}[curve]

    return Warmed(shape, warmup, warmup_start, spans_rest=True)


class Plateau:
    """Times `factor` when the monitored metric has not improved for more than `patience` evaluations.

    As torch's ReduceLROnPlateau, except that a metric that is not finite is ignored, and that
    `threshold`, the improvement that counts, is a share of the best's size: torch takes a constant
    negative metric for an improving one. After a drop `cooldown` evaluations are not counted.
    """

    def __init__(
        self,
        after: Warmed,
        floor: float,
        maximize: bool,
        factor: float,
        patience: int,
        threshold: float,
        cooldown: int,
    ) -> None:
        self.after, self.floor, self.maximize, self.factor = after, floor, maximize, factor
        self.patience, self.threshold, self.cooldown = patience, threshold, cooldown
        self.scale, self.bad, self.resting = 1.0, 0, 0
        self.best: float | None = None

    def __call__(self, update: int) -> tuple[float, float | None]:
        warm, _ = self.after(update)
        return warm * max(self.scale, self.floor), None

    def observe(self, metric: float) -> None:
        if not math.isfinite(metric):
            return
        if self.best is None or self._better(metric, self.best):
            self.best, self.bad = metric, 0
        else:
            self.bad += 1
        if self.resting > 0:
            self.resting, self.bad = self.resting - 1, 0
        if self.bad > self.patience:
            self.scale, self.bad, self.resting = self.scale * self.factor, 0, self.cooldown

    def _better(self, metric: float, best: float) -> bool:
        least = self.threshold * abs(best)
        return metric > best + least if self.maximize else metric < best - least

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self.scale, "best": self.best, "bad": self.bad, "resting": self.resting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scale, self.best = state["scale"], state["best"]
        self.bad, self.resting = state["bad"], state["resting"]


def plateau(
    base_lr: float,
    maximize: bool,
    factor: Rate,
    patience: Natural,
    threshold: NonNegative,
    cooldown: Natural,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Plateau:
    """Lower the learning rate when the monitored metric stalls."""
    after, floor = constant(warmup, warmup_start), _floor(min_lr, base_lr)
    return Plateau(after, floor, maximize, factor, patience, threshold, cooldown)


class FromTorch:
    """Any `torch.optim.lr_scheduler` class, driven on a stand-in optimizer; its values are read off.

    Its state is the torch scheduler's own; it cannot go back, so resuming loads that state.
    ReduceLROnPlateau follows the monitored metric, and `maximize` unless a mode is given.
    """

    def __init__(
        self, target: type[LRScheduler], base_lr: float, maximize: bool, arguments: Mapping[str, Any]
    ) -> None:
        parameter = torch.nn.Parameter(torch.zeros(()))
        self.optimizer = torch.optim.SGD([parameter], base_lr, momentum=0.9, foreach=False)
        self.needs_metric = issubclass(target, lr_scheduler.ReduceLROnPlateau)
        if self.needs_metric:
            arguments = {"mode": "max" if maximize else "min", **arguments}
        try:
            self.scheduler = target(self.optimizer, **arguments)
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError.one("scheduler", f"{target.__name__}: {error}") from None
        self.optimizer.step()  # torch warns where a scheduler steps before its optimizer
        self.base_lr, self.at = base_lr, 0
        self.sets_momentum = getattr(self.scheduler, "cycle_momentum", False)

    def __call__(self, update: int) -> tuple[float, float | None]:
        if update < self.at:
            raise ValueError(f"a torch scheduler cannot go back from update {self.at} to {update}")
        while self.at < update:
            if not self.needs_metric:
                self.scheduler.step()
            self.at += 1
        group = self.optimizer.param_groups[0]
        return float(group["lr"]) / self.base_lr, float(group["momentum"]) if self.sets_momentum else None

    def observe(self, metric: float) -> None:
        if self.needs_metric and math.isfinite(metric):
            self.scheduler.step(metric)  # type: ignore[arg-type]  # ReduceLROnPlateau takes a metric

    def state_dict(self) -> dict[str, Any]:
        group = {key: value for key, value in self.optimizer.param_groups[0].items() if key != "params"}
        return {"at": self.at, "scheduler": self.scheduler.state_dict(), "group": group}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.at = state["at"]
        self.scheduler.load_state_dict(state["scheduler"])
        self.optimizer.param_groups[0].update(state["group"])


def from_torch(base_lr: float, maximize: bool, name: str, arguments: dict[str, Any]) -> FromTorch:
    """The class `name` of `torch.optim.lr_scheduler`, called with `arguments`."""
    known = {
        name: thing
        for name, thing in vars(lr_scheduler).items()
        if isinstance(thing, type) and issubclass(thing, LRScheduler) and not name.endswith("LRScheduler")
    }
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(sorted(known))}"
        raise ConfigError.one("scheduler.name", f"torch.optim.lr_scheduler has no {name!r}; {hint}")
    return FromTorch(known[name], base_lr, maximize, arguments)


def _cosine(x: float) -> float:
    """From 1 at x = 0 to 0 at x = 1."""
    return (1 + math.cos(math.pi * x)) / 2


def _floor(min_lr: float, base_lr: float) -> float:
    """`min_lr` as a factor of the learning rate."""
    if min_lr > base_lr:
        raise ConfigError.one("scheduler.min_lr", f"is above the learning rate {base_lr:g}, got {min_lr:g}")
    return min_lr / base_lr


def _rest(total_steps: int, warmup: int) -> int:
    """The updates after the warm-up, at least 1.

    A warm-up may take the whole run, as 5 % of a run of one step does; nothing is left to decay.
    """
    if warmup > total_steps:
        text = f"takes {warmup} steps, the whole run only {total_steps}; shorten it"
        raise ConfigError.one("scheduler.warmup", text)
    return max(1, total_steps - warmup)


def _momentum(high: float | None, low: float | None, height: Shape) -> Callable[[int], float] | None:
    """`high` at the bottom of a cycle and `low` at its top, where `height` is 1."""
    if high is None and low is None:
        return None
    if high is None or low is None:
        raise ConfigError.one("scheduler.momentum_low", "and momentum_high: give both, or null for both")
    start, fall = high, high - low
    return lambda n: start - fall * height(n)
