"""Accumulate loss and metric sums: tensors stay on the device until a log or an evaluation reads them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainrun.protocols import StepResult

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
    terms: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    sums: dict[str, Any] = field(default_factory=dict)

    def add(self, result: StepResult, numbers: Mapping[str, Any]) -> None:
        """Add a step; `numbers` are the tensors of `result` as numbers, by part."""
        self.steps += 1
        self.samples += result.num_samples
        if result.applied:
            norm_after = numbers["norm_after"]
            self.applied += 1
            self.norm += result.norm
            self.norm_after += norm_after
            self.clipped += norm_after < result.norm * (1 - 1e-6)
        for part, into in (("terms", self.terms), ("counts", self.counts), ("sums", self.sums)):
            for name, value in numbers[part].items():
                into[name] = into.get(name, 0.0) + value
        for value in numbers["penalties"].values():
            self.penalty += value

    @property
    def loss(self) -> float:
        """Every term averaged over its own count, added up; without penalties."""
        return sum(total / self.counts[name] for name, total in self.terms.items() if self.counts[name])


@dataclass
class Spikes:
    """Count steps whose loss is finite and 5 standard deviations above its mean over some 50 steps."""

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
    """Collect step results; copy them from the device when they are read, which changes no bit of a mean."""

    def __init__(self) -> None:
        self.since_log, self.since_eval, self.spikes = Totals(), Totals(), Spikes()
        self._health: dict[str, Any] = {}  # of the last step that was looked at
        self._pending: list[StepResult] = []

    def add(self, result: StepResult) -> None:
        self._pending.append(result)
        if len(self._pending) >= _MOST_PENDING:
            self.flush()

    def flush(self) -> None:
        """Copy all pending results to the host in one transfer."""
        if not self._pending:
            return
        for result, numbers in zip(self._pending, _on_host(self._pending), strict=True):
            self._health = numbers["health"] or self._health
            self.spikes.add(mean_loss(numbers["terms"], numbers["counts"]))
            for totals in (self.since_log, self.since_eval):
                totals.add(result, numbers)
        self._pending.clear()

    def read_log(self) -> Totals:
        """Totals since the last call."""
        self.flush()
        totals, self.since_log = self.since_log, Totals()
        return totals

    def read_health(self) -> dict[str, Any]:
        """What was measured since the last call, without what is no number; most steps are not looked at."""
        self.flush()
        health, self._health = self._health, {}
        return _finite(health)

    def read_eval(self) -> Totals:
        self.flush()
        totals, self.since_eval = self.since_eval, Totals()
        return totals

    def state_dict(self) -> dict[str, Any]:
        self.flush()
        return {name: asdict(getattr(self, name)) for name in ("since_log", "since_eval", "spikes")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._pending.clear()
        self._health.clear()
        self.since_log = Totals(**deepcopy(state["since_log"]))
        self.since_eval = Totals(**deepcopy(state["since_eval"]))
        self.spikes = Spikes(**state["spikes"])


def mean_loss(terms: Mapping[str, Any], counts: Mapping[str, Any]) -> float:
    """Every term averaged over its own count, added up; nan where nothing counts, as no masked token."""
    return sum(float(term) / (float(counts[name]) or math.nan) for name, term in terms.items())


_PARTS = ("norm_after", "terms", "counts", "sums", "penalties", "health")  # may still be on the device


def _on_host(results: Sequence[StepResult]) -> list[dict[str, Any]]:
    """The parts of each result as numbers, brought to the host in one transfer."""
    trees = [{part: getattr(result, part) for part in _PARTS} for result in results]
    tensors: list[Tensor] = []
    for tree in trees:
        _collect(tree, tensors)
    copied = iter(torch.stack(tensors).tolist() if tensors else ())
    return [_numbers(tree, copied) for tree in trees]


def _collect(tree: Any, tensors: list[Tensor]) -> None:
    """Append the tensors of a tree, each as one float32 number."""
    if isinstance(tree, Tensor):
        is_number = tree.ndim == 0 and tree.dtype == torch.float32 and not tree.requires_grad
        tensors.append(tree if is_number else tree.detach().float().reshape(()))
    elif not isinstance(tree, (float, int)):
        for value in tree.values():
            _collect(value, tensors)


def _numbers(tree: Any, copied: Iterator[float]) -> Any:
    """A tree with the next of `copied` in place of each tensor, in the order of `_collect`."""
    if isinstance(tree, (Tensor, float, int)):
        return next(copied) if isinstance(tree, Tensor) else float(tree)
    return {key: _numbers(value, copied) for key, value in tree.items()}


def _finite(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _finite(value) if isinstance(value, Mapping) else value
        for key, value in tree.items()
        if isinstance(value, Mapping) or math.isfinite(value)
    }
