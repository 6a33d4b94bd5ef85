"""The order of things: step, log, evaluate, save; and at the end the test split, once."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from trainrun.budget import ClockBudget
from trainrun.checkpoint import Checkpoints
from trainrun.evaluate import evaluate
from trainrun.events import CheckpointSaved, Evaluated, Event, Finished, Interrupted, Progressed, StepsLogged
from trainrun.metrics import Totals
from trainrun.protocols import Batch, Cut, Data, Step, Task, Window
from trainrun.ranges import Count, Period
from trainrun.run.signals import Signals, Stopped
from trainrun.state import TrainState

PROGRESS_EVERY_S = 0.2


@dataclass(frozen=True)
class Monitor:
    """Which metric of the validation split decides: `name` without its `val/`."""

    name: str
    maximize: bool


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Drives a TrainState to the end of its budget and yields what happens.

    `accumulate` micro-batches make one optimizer step. The run ends early when the monitored
    metric reaches `stop_at`.
    """

    accumulate: Count
    eval_every: Period
    log_every: Period
    stop_at: float | None
    step: Step
    task: Task
    data: Data
    cut: Cut
    seed: int
    budget: ClockBudget | None  # None: the budget is total_steps itself
    monitor: Monitor | None  # None: there is no validation split
    checkpoints: Checkpoints
    signals: Signals

    def train(self, state: TrainState) -> Iterator[Event]:
        """From where `state` stands to the end of the run, or to a signal."""
        clock = Clock(state)
        try:
            yield from self._due(state, clock)  # what an interruption left undone at this step
            windows = self._windows(state)
            while state.step < state.total_steps and state.stop_reason is None:
                self.signals.check()
                with self.signals.interruptible():
                    window = clock.fetch(windows)
                state.meter.add(self.step(state, window))
                clock.stepped()
                if self.budget and (event := self.budget.replan(state, clock.seconds_with_end)):
                    yield event
                if clock.progress_is_due():
                    yield Progressed(step=state.step, samples_per_s=clock.samples_per_s(state))
                yield from self._due(state, clock)
            yield from self._finish(state, clock)
        except Stopped as stopped:
            yield from self._save(state, clock)
            yield from self.checkpoints.wait()
            yield Interrupted(step=state.step, signal=stopped.reason)

    def _windows(self, state: TrainState) -> Iterator[Window]:
        """Micro-batches gathered to windows; one never crosses the end of an epoch."""
        window: list[Batch] = []
        for batch in self.data.train_batches(state.position, self.cut, self.seed):
            window.append(batch)
            if len(window) == self.accumulate or batch.position.offset == 0:
                yield window
                window = []

    def _due(self, state: TrainState, clock: Clock) -> Iterator[Event]:
        """What this step's cadence asks for and has not happened yet; then saves that came to their end."""
        at, last = state.step, state.step == state.total_steps
        if at > state.logged_at and (last or at % self.log_every == 0):
            yield self._log(state, clock)
        improved = False
        if self.monitor and at > state.evaluated_at and (last or at % self.eval_every == 0):
            event = self._evaluate(state, self.monitor)
            clock.judging_s = event.seconds
            improved = event.is_best
            yield event
        asked = self.signals.take_save()
        if asked or improved or last or state.stop_reason or self.checkpoints.is_due(at):
            yield from self._save(state, clock)
        yield from self.checkpoints.finished()

    def _log(self, state: TrainState, clock: Clock) -> StepsLogged:
        totals = state.meter.read_log()
        state.logged_at = state.step
        rates: dict[str, float] = {g["name"]: g["lr"] for g in state.optimizer.param_groups}
        applied = totals.applied or math.nan  # where all steps were skipped there is no norm to average
        logged = StepsLogged(
            step=state.step,
            epoch=self._epoch(state),
            loss=totals.loss,
            lr=rates,
            grad_norm=totals.norm / applied,
            grad_norm_after=totals.norm_after / applied if self._clips else None,
            clipped=totals.clipped / applied if self._clips else None,
            skipped=state.skipped,
            metrics=self._train_metrics(totals),
            samples_per_s=clock.samples_per_s(state),
            data_wait=clock.data_wait(),
        )
        clock.restart(state)
        return logged

    def _evaluate(self, state: TrainState, monitor: Monitor) -> Evaluated:
        began = time.perf_counter()
        batches = self.data.eval_batches("val")
        with self.signals.interruptible():
            metrics = evaluate(state.judged_model, self.task, batches, state.precision)
        totals = state.meter.read_eval()
        state.evaluated_at = state.step
        value, loss = metrics[monitor.name], metrics["loss"]
        is_best = state.is_better(value, loss, monitor.maximize)
        if is_best:
            state.best, state.best_step = value, state.step
            state.best_loss = math.inf if math.isnan(loss) else loss  # any number is better than none
        self._steer(state, monitor, value)
        return Evaluated(
            step=state.step,
            epoch=self._epoch(state),
            split="val",
            weights=state.judged_name,
            metrics=metrics,
            train={"loss": totals.loss} | self._train_metrics(totals) if totals.steps else {},
            lr=state.optimizer.param_groups[0]["lr"],
            is_best=is_best,
            seconds=time.perf_counter() - began,
        )

    def _steer(self, state: TrainState, monitor: Monitor, value: float) -> None:
        """What the monitored metric decides: plateau, stop_at, early stopping."""
        observe = getattr(state.schedule, "observe", None)
        if observe is not None:
            observe(value)
        if self.stop_at is not None and (
            value >= self.stop_at if monitor.maximize else value <= self.stop_at
        ):
            state.stop_reason = "stop_at"
        if state.stopper is not None and state.stopper.observe(value, monitor.maximize):
            state.stop_reason = state.stop_reason or state.stopper.name

    def _save(self, state: TrainState, clock: Clock) -> Iterator[CheckpointSaved]:
        state.seconds = clock.seconds()
        yield from self.checkpoints.begin(state)

    def _finish(self, state: TrainState, clock: Clock) -> Iterator[Event]:
        """Judge the kept weights on the test split, where there is one; nothing selects on it."""
        yield from self.checkpoints.wait()
        model, step, weights = self._kept(state)
        if self.data.info.sizes.get("test", 0) != 0:  # None is a stream's
            began = time.perf_counter()
            with self.signals.interruptible():
                metrics = evaluate(model, self.task, self.data.eval_batches("test"), state.precision)
            yield Evaluated(
                step=step,
                epoch=None,
                split="test",
                weights=weights,
                metrics=metrics,
                seconds=time.perf_counter() - began,
            )
        yield Finished(
            step=state.step,
            reason=state.stop_reason or "budget",
            skipped=state.skipped,
            monitor=f"val/{self.monitor.name}" if self.monitor else "",
            best=state.best,
            best_step=state.best_step,
            seconds=clock.seconds(),
        )

    def _kept(self, state: TrainState) -> tuple[nn.Module, int, str]:
        """(model, step, which weights): the best on the validation split, else the last."""
        wants_last = not self.checkpoints.keep_best or (state.stopper and not state.stopper.restore_best)
        if state.best_step is None or state.best_step == state.step or wants_last:
            return state.judged_model, state.step, state.judged_name
        model = copy.deepcopy(state.model)
        weights = self.checkpoints.load_weights(model, state.best_step)
        return model, state.best_step, weights

    @property
    def _clips(self) -> bool:
        policy = getattr(self.step, "policy", None)
        return bool(policy and policy.clip)

    def _train_metrics(self, totals: Totals) -> dict[str, float]:
        """The task's metrics over training samples, and the penalties' mean."""
        metrics = self.task.summarize(totals.sums, totals.samples) if totals.sums else {}
        return metrics | ({"penalty": totals.penalty / totals.steps} if totals.penalty else {})

    def _epoch(self, state: TrainState) -> float | None:
        size = self.data.info.sizes["train"]
        return None if size is None else round(state.position.epoch + state.position.offset / size, 4)


class Clock:
    """Wall time of one process of a run: for people and for timing.jsonl, never for arithmetic."""

    def __init__(self, state: TrainState) -> None:
        self.before, self.began = state.seconds, time.perf_counter()
        self.last_progress = self.began
        self.judging_s = 0.0  # what the last evaluation took
        self.restart(state)

    def restart(self, state: TrainState) -> None:
        """Begin a log window."""
        self.samples_then, self.waited, self.stepping = state.samples, 0.0, 0.0

    def fetch(self, windows: Iterator[Window]) -> Window:
        """The next window, its time counted as waiting for data."""
        self.fetching = time.perf_counter()
        window = next(windows)
        self.waited += time.perf_counter() - self.fetching
        return window

    def stepped(self) -> None:
        """A step that began with `fetch` is done. Evaluating and saving are no part of any."""
        self.stepping += time.perf_counter() - self.fetching

    def progress_is_due(self) -> bool:
        now = time.perf_counter()
        due = now - self.last_progress >= PROGRESS_EVERY_S
        if due:
            self.last_progress = now
        return due

    def samples_per_s(self, state: TrainState) -> float:
        """Trained on since the last log, by the time that steps took."""
        return (state.samples - self.samples_then) / max(self.stepping, 1e-9)

    def data_wait(self) -> float:
        """Share of the time of the steps since the last log that was spent waiting for data."""
        return self.waited / max(self.stepping, 1e-9)

    def seconds(self) -> float:
        """Spent training by all processes of the run so far."""
        return self.before + time.perf_counter() - self.began

    def seconds_with_end(self) -> float:
        """The same and a last evaluation: what the run will have used if it ends now."""
        return self.seconds() + self.judging_s
