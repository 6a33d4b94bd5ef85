"""Evaluation during training: validation and test, the best weights, early stopping and plateau."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor, nn

from trainrun.checkpoint.state import TrainState
from trainrun.checkpoint.store import Checkpoints
from trainrun.data.faults import refuse_not_finite
from trainrun.loop.evaluate import MetricError, confusion_of, evaluate, is_divided, shared_batches
from trainrun.loop.probes import Probe
from trainrun.loop.windows import Windows
from trainrun.protocols import DataInfo, TaskProtocol
from trainrun.regularization.penalty import near_zero
from trainrun.runtime.compiler import uncompiled
from trainrun.runtime.machine import is_out_of_memory
from trainrun.runtime.signals import Signals
from trainrun.task.metrics import Totals
from trainrun.vocabulary.errors import ConfigError, EvaluationOutOfMemoryError
from trainrun.vocabulary.events import Evaluated


@dataclass(frozen=True)
class Monitor:
    """Which metric of the validation split decides: `name` without its `val/`."""

    name: str
    maximize: bool

    def __str__(self) -> str:
        """`val/accuracy (max)`."""
        return f"val/{self.name} ({'max' if self.maximize else 'min'})"


def monitor_of(settings: Mapping[str, Any], info: DataInfo, task: TaskProtocol) -> Monitor | None:
    """The metric that decides, and which way is better. Raises ConfigError for one that will not exist."""
    if info.sizes.get("val") == 0:
        return None
    name, mode = settings["monitor"].removeprefix("val/"), settings["monitor_mode"]
    modes = dict(task.metric_modes)
    is_own = name.partition("/")[0] in task.own_metrics or getattr(task, "logs_more", False)
    if name not in modes and not is_own:
        available = ", ".join(f"val/{metric}" for metric in (*modes, *task.own_metrics))
        fix = "monitor=val/loss" if "loss" in modes else None
        raise ConfigError.of("monitor", f"the task has no metric {name}; there are {available}", fix)
    if mode == "auto" and name not in modes:
        other = "; or choose by the loss: monitor=val/loss" if "loss" in modes else ""
        raise ConfigError.of("monitor_mode", f"must be max or min for your own metric {name}{other}")
    return Monitor(name, (modes[name] if mode == "auto" else mode) == "max")


class KeptWeights(NamedTuple):
    """The weights that a run ends with."""

    model: nn.Module
    step: int  # that they are of
    weights: str  # which of that step: "raw", "ema"


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Evaluates a state's weights, keeps the best, and steers training by the monitored metric.

    The run ends early when the monitored metric reaches `stop_at`.
    """

    task: TaskProtocol
    windows: Windows
    monitor: Monitor | None  # None: there is no validation split
    stop_at: float | None
    probes: Sequence[Probe]  # the user's, run after each evaluation
    clone: Callable[[nn.Module], nn.Module]  # a copy of a model wherever its weights lie
    checkpoints: Checkpoints
    signals: Signals

    def validate(self, state: TrainState, monitor: Monitor) -> Evaluated:
        """Evaluate the validation split and act on the monitored metric."""
        began = time.perf_counter()
        if state.weight_average is not None:
            with self.signals.interruptible(), uncompiled():
                batches, autocast = self.windows.first_epoch(), state.precision.autocast
                state.weight_average.update_bn(batches, autocast, state.model)
        event = self.evaluate(state, last_weights(state), "val")
        metrics, totals = event.metrics, state.meter.read_eval()
        state.evaluated_at = state.step
        followed = getattr(state.schedule, "monitor", None) or monitor.name
        if missing := {monitor.name, followed} - metrics.keys():
            raise MetricError(f"monitor: the metrics of step {state.step} have no {' and no '.join(missing)}")
        value, loss = metrics[monitor.name], metrics["loss"]
        state.rank(value, loss, monitor.maximize, max(1, self.checkpoints.keep_best))
        if observe := getattr(state.schedule, "observe", None):
            observe(metrics[followed])
        goal = self.stop_at
        if goal is not None and (value >= goal if monitor.maximize else value <= goal):
            state.stop_reason = "stop_at"
        if state.stopper is not None and state.stopper.observe(value, monitor.maximize):
            state.stop_reason = state.stop_reason or state.stopper.name
        return replace(
            event,
            epoch=self.windows.epoch(state.position),
            train={"loss": totals.loss} | self.train_metrics(totals, state) if totals.steps else {},
            lr=state.optimizer.param_groups[0]["lr"],
            is_best=state.best_step == state.step,
            seconds=time.perf_counter() - began,
        )

    def evaluate(self, state: TrainState, kept: KeptWeights, split: str) -> Evaluated:
        """Evaluate weights on a split. Raises DataError where inputs are why the loss is not a number."""
        began = time.perf_counter()
        data, sums = self.windows.data, dict[str, Tensor]()
        if state.features is not None:
            self.task.fit(data)  # type: ignore[attr-defined]  # what its metric compares in
        batches = shared_batches(data, split, in_step=is_divided(kept.model))
        interruptible = self.signals.interruptible
        try:
            metrics = evaluate(kept.model, self.task, batches, state.precision, interruptible, sums.update)
        except Exception as error:
            if is_out_of_memory(error):
                text = f"out of memory while evaluating the {split} split"
                raise EvaluationOutOfMemoryError(text) from error
            raise
        if not math.isfinite(metrics["loss"]):
            with interruptible():
                refuse_not_finite(shared_batches(data, split), split, data.info.name)
        return Evaluated(
            step=kept.step,
            epoch=None,
            split=split,
            weights=kept.weights,
            metrics=metrics,
            confusion=confusion_of(sums),
            seconds=time.perf_counter() - began,
        )

    def kept_weights(self, state: TrainState) -> KeptWeights:
        """Return the best weights on the validation split, else the last. Raises ResumeError."""
        wants_last = not self.checkpoints.keep_best or (state.stopper and not state.stopper.restore_best)
        if state.best_step is None or state.best_step == state.step or wants_last:
            return last_weights(state)
        model = self.clone(state.model)
        weights = self.checkpoints.load_weights(model, state.best_step)
        return KeptWeights(model, state.best_step, weights)

    def train_metrics(self, totals: Totals, state: TrainState) -> dict[str, float]:
        """The task's metrics over training samples, and what penalties came to."""
        metrics = self.task.summarize(totals.sums, totals.samples) if totals.sums else {}
        if not totals.penalty:
            return metrics
        penalty = totals.penalty / totals.steps
        share = penalty / (penalty + abs(totals.loss))
        return metrics | {"penalty": penalty, "penalty_share": share, "near_zero": near_zero(state.model)}


def last_weights(state: TrainState) -> KeptWeights:
    """The weights that a state would be evaluated with now."""
    return KeptWeights(state.eval_model, state.step, state.eval_weights)
