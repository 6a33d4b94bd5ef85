"""The training loop: step, log, evaluate, save; at the end the test split is evaluated once."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

from trainrun import ranks
from trainrun.checkpoint.state import TrainState
from trainrun.checkpoint.store import Checkpoints
from trainrun.loop.budget import ClockBudget
from trainrun.loop.clock import Clock
from trainrun.loop.evaluate import sample_text
from trainrun.loop.evaluator import Evaluator, last_weights
from trainrun.loop.health import measure_health
from trainrun.loop.probes import run_probes
from trainrun.loop.rollback import handle_nonfinite
from trainrun.loop.step import Policy
from trainrun.loop.windows import Windows
from trainrun.protocols import Step, StepResult, Window
from trainrun.runtime.signals import Signals, Stopped
from trainrun.runtime.usage import largest_peaks, machine_use
from trainrun.vocabulary import events
from trainrun.vocabulary.errors import ConfigError, ResumeError
from trainrun.vocabulary.ranges import Period


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Drives a TrainState to the end of its budget and yields what happens."""

    eval_every: Period
    log_every: Period
    health: bool  # of the step that ends a log window
    step: Step
    policy: Policy
    windows: Windows
    budget: ClockBudget | None  # None: the budget is total_steps itself
    evaluator: Evaluator
    checkpoints: Checkpoints
    signals: Signals
    clock: Callable[[TrainState], Clock]

    def train(self, state: TrainState) -> Iterator[events.Event]:
        """Train from where `state` stands to the end of the run, or to a signal."""
        with closing(self.clock(state)) as clock, closing(self._train(state, clock)) as happening:
            for event in happening:
                with clock.part("logging"):  # whoever follows the events works now
                    yield event

    def _train(self, state: TrainState, clock: Clock) -> Generator[events.Event]:
        windows = self.windows(state)
        try:
            if self.policy.nonfinite == "rollback" and state.step == 0:
                yield from self._save(state, clock)  # to roll back to
            yield from self._log_evaluate_save(state, clock)  # what an interruption left undone at this step
            while state.step < state.total_steps and state.stop_reason is None:
                window = self._fetch(windows, clock)
                result = self._run_step(state, window)
                state.meter.add(result)
                clock.record_step()
                self.checkpoints.prepare(state)
                if result.finding is not None:
                    yield from handle_nonfinite(state, result.finding, self.policy, self.checkpoints, clock)
                if self.budget and (event := self.budget.replan(state, clock.seconds_with_end)):
                    yield event
                if clock.progress_is_due():
                    yield events.Progressed(step=state.step, samples_per_s=clock.samples_per_s(state))
                yield from self._log_evaluate_save(state, clock)
            yield from self._finish(state, clock)
        except Stopped as stopped:
            yield from self._save(state, clock)
            yield from self.checkpoints.wait()
            yield from clock.account()
            spent, by_part = state.seconds, state.seconds_by_part
            yield events.Interrupted(
                step=state.step, signal=stopped.reason, seconds=spent, seconds_by_part=by_part
            )
        finally:
            windows.close()  # and with it loader processes: an error's frames would keep them

    def _fetch(self, windows: Iterator[Window], clock: Clock) -> Window:
        """Fetch the next window. Of several ranks none is interrupted while it waits: all make the step."""
        if ranks.size() > 1:
            self.signals.check_agreed()
            return clock.fetch(windows)
        with self.signals.interruptible():
            return clock.fetch(windows)

    def _run_step(self, state: TrainState, window: Window) -> StepResult:
        before, meetings = state.step, ranks.num_meetings()
        is_measured = self.health and self._ends_log(state, before + 1)
        result = measure_health(self.step, state, window) if is_measured else self.step(state, window)
        if ranks.size() > 1 and ranks.num_meetings() == meetings:
            ranks.add_numbers([])  # a step of the user's own that adds nothing up; signals are shared here
        if not isinstance(result, StepResult):
            text = f"must return a StepResult, got {type(result).__name__}"
            raise ConfigError.of("loop.step", f"{type(self.step).__name__} {text}")
        if state.step == before:
            text = "has not counted its window; call self.account(state, window, result)"
            raise ConfigError.of("loop.step", f"{type(self.step).__name__} {text}")
        return result

    def _ends_log(self, state: TrainState, step: int) -> bool:
        return step == state.total_steps or step % self.log_every == 0

    def _log_evaluate_save(self, state: TrainState, clock: Clock) -> Iterator[events.Event]:
        """Do what this step's cadence asks for and has not happened yet; then report saves that finished."""
        step, is_last = state.step, state.step == state.total_steps
        if step > state.logged_at and self._ends_log(state, step):
            yield self._log(state, clock)
            if text := clock.starved(self.windows.data):
                yield events.Warned(step=step, text=text)
        improved, monitor = False, self.evaluator.monitor
        if monitor and step > state.evaluated_at and (is_last or step % self.eval_every == 0):
            with clock.part("evaluation"):
                event = self.evaluator.validate(state, monitor)
                is_kept = step in state.best_steps(self.checkpoints.keep_best)
                clock.evaluation_s, improved = event.seconds, event.is_best or is_kept
                yield event
                if self.evaluator.probes:
                    with ranks.main_first():
                        if ranks.is_main_process():
                            yield run_probes(self.evaluator.probes, state, self.windows.data)
                if text := sample_text(state.eval_model, self.evaluator.task, state.precision):
                    yield events.Sampled(step=step, text=text)
        asked = self.signals.take_save()
        if asked or improved or is_last or state.stop_reason or self.checkpoints.is_due(step):
            yield from self._save(state, clock)
        yield from self.checkpoints.finished()

    def _log(self, state: TrainState, clock: Clock) -> events.StepsLogged:
        use = machine_use(state.precision.device)
        totals, health = state.meter.read_log(), state.meter.read_health()
        state.logged_at = state.step
        applied = totals.applied or math.nan  # where all steps were skipped there is no norm to average
        logged = events.StepsLogged(
            step=state.step,
            epoch=self.windows.epoch(state.position),
            loss=totals.loss,
            lr={group["name"]: group["lr"] for group in state.optimizer.param_groups},
            grad_norm=totals.norm / applied,
            grad_norm_after=totals.norm_after / applied if self.policy.clip else None,
            clipped=totals.clipped / applied if self.policy.clip else None,
            skipped=state.skipped,
            spikes=state.meter.spikes.count,
            update_ratio=health.get("update_ratio", {}),
            dead_units=health.get("dead_units"),
            metrics=self.evaluator.train_metrics(totals, state) | _scheduled(state),
            samples_per_s=clock.samples_per_s(state),
            data_wait=clock.data_wait(),
            machine=use | largest_peaks(use),
        )
        clock.restart(state)
        return logged

    def _save(self, state: TrainState, clock: Clock) -> Iterator[events.CheckpointSaved]:
        state.seconds, state.seconds_by_part = clock.seconds(), clock.seconds_by_part()
        with clock.part("save"):
            yield from self.checkpoints.begin(state)

    def _finish(self, state: TrainState, clock: Clock) -> Iterator[events.Event]:
        """Evaluate the kept weights on the test split, where there is one."""
        with clock.part("save"):
            yield from self.checkpoints.wait()
        try:
            kept = self.evaluator.kept_weights(state)
        except ResumeError as error:  # hours of training are not thrown away with one file
            text = f"the best weights are lost, the last are evaluated: {error}"
            yield events.Warned(step=state.step, text=text)
            kept = last_weights(state)
        if self.windows.data.info.sizes.get("test", 0) != 0:  # None is a stream's
            with clock.part("evaluation"):
                yield self.evaluator.evaluate(state, kept, "test")
        yield from clock.account()
        monitor = self.evaluator.monitor
        yield events.Finished(
            step=state.step,
            reason=state.stop_reason or "budget",
            skipped=state.skipped,
            samples=state.samples,
            parameters=sum(p.numel() for p in state.model.parameters()),
            monitor=f"val/{monitor.name}" if monitor else "",
            best=state.best,
            best_step=state.best_step,
            kept_step=kept.step,
            kept_weights=kept.weights,
            seconds=clock.seconds(),
            seconds_by_part=clock.seconds_by_part(),
        )


def _scheduled(state: TrainState) -> dict[str, float]:
    """Further numbers on a schedule, as of the last update."""
    return state.numbers.at(max(0, state.applied - 1), state.total_steps) if state.numbers else {}
