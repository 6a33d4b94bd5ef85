"""Accumulate step results: tensors stay on the device until a log or an evaluation reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainrun.protocols import StepResult

Sums = dict[str, float]

_WINDOW = 50  # steps of the running averages: long against noise, short against the fall of the loss
_SPIKE_STD = 5  # by chance one step in three million of a normal loss
_MOST_PENDING = 1000  # results that wait on the device: bounds memory where nothing is logged for long


@dataclass
class Totals:
    """Sums over a number of steps, on the host."""

    steps: int = 0
    applied: int = 0
    samples: int = 0
    clipped: int = 0
    norm: float = 0.0
    norm_after: float = 0.0
    penalty: float = 0.0
    terms: Sums = field(default_factory=dict)
    counts: Sums = field(default_factory=dict)
    sums: dict[str, Any] = field(default_factory=dict)

    def add(self, result: StepResult, values: Mapping[str, float], norm_after: float) -> None:
        """`values` are the tensors of `result` as numbers, named `kind/name`."""
        self.steps += 1
        self.samples += result.num_samples
        if result.applied:
            self.applied += 1
            self.norm += result.norm
            self.norm_after += norm_after
            self.clipped += norm_after < result.norm * (1 - 1e-6)
        for name, value in values.items():
            kind, _, key = name.partition("/")
            if kind == "penalties":
                self.penalty += value
            else:
                into = {"terms": self.terms, "counts": self.counts, "sums": self.sums}[kind]
                into[key] = into.get(key, 0.0) + value

    @property
    def loss(self) -> float:
        """Every term averaged over its own count, added up; without penalties."""
        return sum(total / self.counts[name] for name, total in self.terms.items() if self.counts[name])

    def state_dict(self) -> dict[str, Any]:
        return {key: dict(v) if isinstance(v, dict) else v for key, v in vars(self).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for key in vars(self):
            value = state[key]
            setattr(self, key, dict(value) if isinstance(value, dict) else value)


@dataclass
class Spikes:
    """Count loss spikes: steps whose loss is more than 5 standard deviations above its running mean.

    Both are exponential averages over some 50 steps. A loss that is not finite is counted elsewhere.
    """

    count: int = 0
    seen: int = 0  # finite losses so far
    mean: float = 0.0
    variance: float = 0.0

    def add(self, loss: float) -> None:
        if not math.isfinite(loss):
            return
        self.seen += 1
        away = loss - self.mean
        if self.seen > _WINDOW and away > _SPIKE_STD * math.sqrt(self.variance):
            self.count += 1
        weight = max(1 / _WINDOW, 1 / self.seen)
        self.mean += weight * away
        self.variance = (1 - weight) * (self.variance + weight * away * away)


class Meter:
    """Collect step results; copy them from the device only when they are read.

    Adding a step appends to a list. The order of additions, and so every bit of a mean, does not
    depend on when results are read.
    """

    def __init__(self) -> None:
        self.since_log, self.since_eval, self.spikes = Totals(), Totals(), Spikes()
        self._health: Sums = {}  # of the last step that was inspected
        self._pending: list[StepResult] = []

    def add(self, result: StepResult) -> None:
        self._pending.append(result)
        if len(self._pending) >= _MOST_PENDING:
            self.flush()

    def flush(self) -> None:
        """Copy all pending results to the host in one transfer."""
        if not self._pending:
            return
        tensors: list[Tensor] = []
        for result in self._pending:
            tensors += [t for t in _tensors(result).values() if isinstance(t, Tensor)]
        numbers = iter(
            torch.stack([t.detach().float().reshape(()) for t in tensors]).tolist() if tensors else []
        )
        for result in self._pending:
            values = {
                n: next(numbers) if isinstance(t, Tensor) else float(t) for n, t in _tensors(result).items()
            }
            norm_after = values.pop("norm_after")
            health = [name for name in values if name.startswith("health/")]
            self._health = {name[7:]: values.pop(name) for name in health} or self._health
            self.spikes.add(_loss(values))
            for totals in (self.since_log, self.since_eval):
                totals.add(result, values, norm_after)
        self._pending.clear()

    def read_log(self) -> Totals:
        """Totals since the last call."""
        self.flush()
        totals, self.since_log = self.since_log, Totals()
        return totals

    def read_health(self) -> Sums:
        """Finite health values of the last inspected step since the last call; most steps have none."""
        self.flush()
        health, self._health = self._health, {}
        return {name: value for name, value in health.items() if math.isfinite(value)}

    def read_eval(self) -> Totals:
        self.flush()
        totals, self.since_eval = self.since_eval, Totals()
        return totals

    def state_dict(self) -> dict[str, Any]:
        self.flush()
        totals = {"since_log": self.since_log.state_dict(), "since_eval": self.since_eval.state_dict()}
        return {**totals, "spikes": vars(self.spikes).copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._pending.clear()
        self._health.clear()
        self.since_log.load_state_dict(state["since_log"])
        self.since_eval.load_state_dict(state["since_eval"])
        self.spikes = Spikes(**state["spikes"])


def _loss(values: Mapping[str, float]) -> float:
    """The loss of one step, without penalties."""
    terms = {name[6:]: value for name, value in values.items() if name.startswith("terms/")}
    return sum(value / (values[f"counts/{name}"] or math.nan) for name, value in terms.items())


def _tensors(result: StepResult) -> dict[str, Any]:
    """All values that may still be on the device, named `kind/name`."""
    named: dict[str, Any] = {"norm_after": result.norm_after}
    for kind in ("terms", "counts", "sums", "penalties", "health"):
        named |= {f"{kind}/{key}": value for key, value in getattr(result, kind).items()}
    return named
