"""The order of things: step, log, evaluate, save; and at the end the test split, once."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from trainrun import ranks
from trainrun.checkpoint.state import TrainState
from trainrun.checkpoint.store import Checkpoints
from trainrun.data.faults import refuse_not_finite
from trainrun.loop.budget import ClockBudget
from trainrun.loop.clock import Clock
from trainrun.loop.evaluate import MetricFailed, confusion_of, evaluate, sampled, shared_batches
from trainrun.loop.health import measured
from trainrun.loop.step import Policy
from trainrun.protocols import (
    Batch,
    BatchSpec,
    Data,
    NonFiniteReport,
    Position,
    Step,
    StepResult,
    TaskProtocol,
    Window,
)
from trainrun.regularization.penalty import near_zero
from trainrun.runtime.machine import is_out_of_memory
from trainrun.runtime.signals import Signals, Stopped
from trainrun.task.metrics import Totals
from trainrun.vocabulary.errors import (
    CannotResume,
    DataError,
    EvaluationOutOfMemory,
    NonFinite,
    TrainrunError,
)
from trainrun.vocabulary.events import (
    CheckpointSaved,
    Evaluated,
    Event,
    Finished,
    Interrupted,
    NotFinite,
    Progressed,
    RolledBack,
    Sampled,
    StepsLogged,
    Warned,
    shown,
)
from trainrun.vocabulary.ranges import Count, Period


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
    health: bool  # of the step that ends a log window
    stop_at: float | None
    step: Step
    policy: Policy
    task: TaskProtocol
    data: Data
    batch_spec: BatchSpec
    seed: int
    budget: ClockBudget | None  # None: the budget is total_steps itself
    monitor: Monitor | None  # None: there is no validation split
    checkpoints: Checkpoints
    signals: Signals

    def train(self, state: TrainState) -> Iterator[Event]:
        """From where `state` stands to the end of the run, or to a signal."""
        clock, windows = Clock(state), self.windows(state)
        try:
            if self.policy.nonfinite == "rollback" and state.step == 0:
                yield from self._save(state, clock)  # to roll back to
            yield from self._due(state, clock)  # what an interruption left undone at this step
            while state.step < state.total_steps and state.stop_reason is None:
                with self.signals.interruptible():
                    window = clock.fetch(windows)
                result = self._stepped(state, window)
                state.meter.add(result)
                clock.stepped()
                if result.finding is not None:
                    yield from self._answer(state, clock, result.finding)
                if self.budget and (event := self.budget.replan(state, clock.seconds_with_end)):
                    yield event
                if clock.progress_is_due():
                    yield Progressed(step=state.step, samples_per_s=clock.samples_per_s(state))
                yield from self._due(state, clock)
            yield from self._finish(state, clock)
        except Stopped as stopped:
            yield from self._save(state, clock)
            yield from self.checkpoints.wait()
            yield Interrupted(step=state.step, signal=stopped.reason, seconds=state.seconds)
        finally:
            windows.close()  # and with it loader processes: an error's frames would keep them

    def _stepped(self, state: TrainState, window: Window) -> StepResult:
        if self.health and self._ends_log(state, state.step + 1):
            return measured(self.step, state, window)
        return self.step(state, window)

    def _ends_log(self, state: TrainState, step: int) -> bool:
        return step == state.total_steps or step % self.log_every == 0

    def windows(self, state: TrainState) -> Generator[Window]:
        """Micro-batches gathered to windows; one never crosses the end of an epoch."""
        begun, window = state.rollbacks, list[Batch]()
        for batch in self.data.train_batches(state.position, self.batch_spec, self.seed):
            window.append(batch)
            if len(window) == self.accumulate or batch.position.offset == 0:
                yield window
                window = []
                if state.rollbacks > begun:
                    break
        if state.rollbacks > begun:
            yield from self.windows(state)

    def _one_epoch(self) -> Iterator[Batch]:
        """Batches of the first epoch, the same ones on every rank; of a stream the first hundred."""
        batch_spec = BatchSpec(self.batch_spec.batch_size, 1)
        for count, batch in enumerate(self.data.train_batches(Position(), batch_spec, self.seed), 1):
            yield batch
            if batch.position.offset == 0 or (count == 100 and self.data.info.sizes["train"] is None):
                return

    def _answer(self, state: TrainState, clock: Clock, found: NonFiniteReport) -> Iterator[Event]:
        """What the policy has for a gradient that is not finite.

        Raises NonFinite where the run ends, DataError where it ends for what the data hold.
        """
        policy, at = self.policy, state.step
        so_far = {"stop": math.inf, "skip": state.skipped_in_a_row - 1, "rollback": state.rollbacks}
        goes_on = so_far[policy.nonfinite] < policy.nonfinite_limit
        yield NotFinite(
            step=at,
            norm=found.norm,
            where=found.where,
            samples=found.samples,
            answer=policy.nonfinite if goes_on else "stop",
            replay=found.replay,
        )
        if not goes_on:
            raise _error(at, found, policy)
        if policy.nonfinite == "skip":
            return
        yield from self.checkpoints.wait()
        counters = state.rollbacks + 1, state.lr_factor * policy.rollback_lr
        self._reload(state)
        state.rollbacks, state.lr_factor = counters
        state.rolled_back_to = state.step
        clock.restart(state)
        yield RolledBack(step=at, to=state.step, lr_factor=state.lr_factor)

    def _reload(self, state: TrainState) -> None:
        """The newest checkpoint, or the one before where going back to it did not help; the plan stays."""
        if ranks.is_main_process() and state.rolled_back_to is not None:
            self.checkpoints.forget_for_older(state.rolled_back_to)
        stored = (self.checkpoints.load_newest(warnings.warn) if ranks.is_main_process() else None) or {}
        stored.pop("metrics_bytes", None)  # the record tells of all that happened
        total = state.total_steps
        state.load_state_dict(ranks.broadcast_object(stored))
        state.total_steps = total

    def _due(self, state: TrainState, clock: Clock) -> Iterator[Event]:
        """What this step's cadence asks for and has not happened yet; then saves that came to their end."""
        at, last = state.step, state.step == state.total_steps
        if at > state.logged_at and self._ends_log(state, at):
            yield self._log(state, clock)
            if told := clock.starved(self.data):
                yield Warned(step=at, text=told)
        improved = False
        if self.monitor and at > state.evaluated_at and (last or at % self.eval_every == 0):
            event = self._evaluate(state, self.monitor)
            clock.evaluation_s = event.seconds
            improved = event.is_best
            yield event
            if text := sampled(state.eval_model, self.task, state.precision):
                yield Sampled(step=at, text=text)
        asked = self.signals.take_save()
        if asked or improved or last or state.stop_reason or self.checkpoints.is_due(at):
            yield from self._save(state, clock)
        yield from self.checkpoints.finished()

    def _log(self, state: TrainState, clock: Clock) -> StepsLogged:
        totals, health = state.meter.read_log(), state.meter.read_health()
        state.logged_at = state.step
        rates: dict[str, float] = {g["name"]: g["lr"] for g in state.optimizer.param_groups}
        applied = totals.applied or math.nan  # where all steps were skipped there is no norm to average
        logged = StepsLogged(
            step=state.step,
            epoch=self._epoch(state),
            loss=totals.loss,
            lr=rates,
            grad_norm=totals.norm / applied,
            grad_norm_after=totals.norm_after / applied if self.policy.clip else None,
            clipped=totals.clipped / applied if self.policy.clip else None,
            skipped=state.skipped,
            spikes=state.meter.spikes.count,
            update_ratio={name[13:]: x for name, x in health.items() if name.startswith("update_ratio/")},
            dead_units=health.get("dead_units"),
            metrics=self._train_metrics(totals, state),
            samples_per_s=clock.samples_per_s(state),
            data_wait=clock.data_wait(),
        )
        clock.restart(state)
        return logged

    def _evaluate(self, state: TrainState, monitor: Monitor) -> Evaluated:
        began = time.perf_counter()
        if state.weight_average is not None:
            with self.signals.interruptible():
                state.weight_average.update_bn(self._one_epoch(), state.precision.autocast)
        metrics, confusion = self._judge(state.eval_model, "val", state)
        totals = state.meter.read_eval()
        state.evaluated_at = state.step
        if monitor.name not in metrics:
            raise MetricFailed(f"monitor: the metrics of step {state.step} have no {monitor.name}")
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
            weights=state.eval_weights,
            metrics=metrics,
            train={"loss": totals.loss} | self._train_metrics(totals, state) if totals.steps else {},
            lr=state.optimizer.param_groups[0]["lr"],
            is_best=is_best,
            confusion=confusion,
            seconds=time.perf_counter() - began,
        )

    def _judge(
        self, model: nn.Module, split: str, state: TrainState
    ) -> tuple[dict[str, float], list[list[int]] | None]:
        """The metrics of a split, and which class was taken for which.

        Raises DataError where inputs are why the loss is no number.
        """
        batches, sums = shared_batches(self.data, split), dict[str, Tensor]()
        interruptible = self.signals.interruptible
        try:
            metrics = evaluate(model, self.task, batches, state.precision, interruptible, sums.update)
        except Exception as error:
            if is_out_of_memory(error):
                raise EvaluationOutOfMemory(f"out of memory while evaluating the {split} split") from error
            raise
        if not math.isfinite(metrics["loss"]):
            with self.signals.interruptible():
                refuse_not_finite(shared_batches(self.data, split), split, self.data.info.name)
        return metrics, confusion_of(sums)

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
        try:
            model, step, weights = self._kept(state)
        except CannotResume as error:  # hours of training are not thrown away with one file
            text = f"the best weights are lost, the last are judged: {error}"
            yield Warned(step=state.step, text=text)
            model, step, weights = state.eval_model, state.step, state.eval_weights
        if self.data.info.sizes.get("test", 0) != 0:  # None is a stream's
            began = time.perf_counter()
            metrics, confusion = self._judge(model, "test", state)
            yield Evaluated(
                step=step,
                epoch=None,
                split="test",
                weights=weights,
                metrics=metrics,
                confusion=confusion,
                seconds=time.perf_counter() - began,
            )
        yield Finished(
            step=state.step,
            reason=state.stop_reason or "budget",
            skipped=state.skipped,
            samples=state.samples,
            parameters=sum(p.numel() for p in state.model.parameters()),
            monitor=f"val/{self.monitor.name}" if self.monitor else "",
            best=state.best,
            best_step=state.best_step,
            kept_step=step,
            kept_weights=weights,
            seconds=clock.seconds(),
        )

    def _kept(self, state: TrainState) -> tuple[nn.Module, int, str]:
        """(model, step, which weights): the best on the validation split, else the last."""
        wants_last = not self.checkpoints.keep_best or (state.stopper and not state.stopper.restore_best)
        if state.best_step is None or state.best_step == state.step or wants_last:
            return state.eval_model, state.step, state.eval_weights
        model = copy.deepcopy(state.model)
        weights = self.checkpoints.load_weights(model, state.best_step)
        return model, state.best_step, weights

    def _train_metrics(self, totals: Totals, state: TrainState) -> dict[str, float]:
        """The task's, over training samples; and what penalties came to."""
        metrics = self.task.summarize(totals.sums, totals.samples) if totals.sums else {}
        if not totals.penalty:
            return metrics
        penalty = totals.penalty / totals.steps
        share = penalty / (penalty + abs(totals.loss))
        return metrics | {"penalty": penalty, "penalty_share": share, "near_zero": near_zero(state.model)}

    def _epoch(self, state: TrainState) -> float | None:
        size = self.data.info.sizes["train"]
        return None if size is None else round(state.position.epoch + state.position.offset / size, 4)


def _error(step: int, found: NonFiniteReport, policy: Policy) -> TrainrunError:
    if policy.nonfinite == "stop" and found.where in ("the inputs", "the targets"):
        text = f"{found.where} are not finite ({shown(found.samples)}), met at step {step}"
        return DataError(f"data: {text}; no weight was changed; mend them, or leave them out")
    text = f"the gradient's norm is {found.norm} at step {step}; first not finite: {found.where}"
    text += f" ({shown(found.samples)})"
    if policy.nonfinite != "stop":
        limit = "steps in a row were skipped" if policy.nonfinite == "skip" else "rollbacks did not help"
        text += f"; loop.nonfinite_limit: {policy.nonfinite_limit} {limit}"
    advice = "lower optimizer.lr, clip with loop.clip.norm=1, or set loop.nonfinite=rollback"
    return NonFinite(f"{text}; no weight was changed by it; {advice}")
