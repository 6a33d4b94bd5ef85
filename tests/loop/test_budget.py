"""Budgets by the clock: the run ends in its time, and its schedule ends with it, at whatever pace."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toy import Toy, ToyTask, mlp, new_state

from trainrun.checkpoint.state import TrainState
from trainrun.loop.budget import FAR, ClockBudget
from trainrun.scheduler import Warmed, constant, cosine, linear, plateau
from trainrun.vocabulary.events import Evaluated, Finished, Replanned, StepsLogged

Pace = Callable[[int], float]  # step -> the seconds it takes


def linear_over(total: int) -> Warmed:
    """The factor is 1 - the place in the course."""
    return linear(total, 1.0, warmup=0, warmup_start=0.0, min_lr=0.0)


def state_over(budget: ClockBudget) -> TrainState:
    return new_state(mlp(), schedule=budget.schedule_over(FAR), total_steps=FAR)


def drive(
    state: TrainState, budget: ClockBudget, pace: Pace, until: int = 10**9
) -> list[tuple[float, float]]:
    """(seconds, learning-rate factor) of every update until the run ends, as the loop makes them."""
    rates = []
    while state.step < min(state.total_steps, until):
        rates.append((state.seconds, state.schedule(state.applied)[0]))
        state.seconds += pace(state.step)
        state.step, state.applied = state.step + 1, state.applied + 1
        budget.replan(state, lambda: state.seconds)
    return rates


PACES: dict[str, Pace] = {
    "even": lambda step: 0.01,
    "a slow start, as compiling makes it": lambda step: 8.0 if step == 0 else 0.01,
    "an evaluation now and then": lambda step: 0.51 if step % 150 == 149 else 0.01,
    "ever slower": lambda step: 0.01 + 1e-5 * step,
    "three times as fast halfway": lambda step: 0.03 if step < 400 else 0.01,
    "long steps": lambda step: 0.7,
}


@pytest.mark.parametrize("name", PACES)
def test_the_run_ends_in_its_time_and_the_schedule_with_it(name: str) -> None:
    budget = ClockBudget(30.0, linear_over)
    state = state_over(budget)
    rates = drive(state, budget, PACES[name])
    last = PACES[name](state.step - 1)
    assert 30.0 * 0.99 - last <= state.seconds <= 30.0 + 2 * last
    assert state.total_steps == state.step
    # what linear_over(the steps that there were) ends with, but for the plan's tolerance and the last step
    assert rates[-1][1] == pytest.approx(1 / state.step, abs=0.01 + last / 30.0)
    warm = next(pace_s for pace_s in (PACES[name](0), 0.2) if pace_s)
    for seconds, factor in rates[20:]:  # from where its pace is known the course follows the clock
        assert factor == pytest.approx(1 - (seconds - warm) / (30.0 - warm), abs=0.035)


def test_one_step_that_takes_the_whole_time_is_the_run() -> None:
    budget = ClockBudget(1.0, linear_over)
    state = state_over(budget)
    drive(state, budget, lambda step: 2.0)
    assert (state.step, state.total_steps) == (1, 1)


def test_a_resumed_run_goes_on_from_its_place_at_another_pace() -> None:
    budget = ClockBudget(30.0, linear_over)
    state = state_over(budget)
    before = drive(state, budget, lambda step: 0.01, until=1000)
    resumed, plan = ClockBudget(30.0, linear_over), state.total_steps
    resumed.restore(state)
    assert state.total_steps == plan
    after = drive(state, resumed, lambda step: 3.0 if step == 1000 else 0.04)  # the first one compiles
    factors = [factor for _, factor in (*before[-100:], *after)]
    assert max(abs(factor - other) for factor, other in itertools.pairwise(factors)) < 0.02
    assert 29.7 <= state.seconds <= 30.2
    assert factors[-1] < 0.02


def test_another_budget_is_planned_anew_from_the_share_of_time_used() -> None:
    budget = ClockBudget(10.0, linear_over)
    state = state_over(budget)
    drive(state, budget, lambda step: 0.01)
    ended_at = state.step
    longer = ClockBudget(40.0, linear_over)
    longer.restore(state)
    assert state.total_steps == pytest.approx(4 * ended_at, rel=0.01)
    assert state.schedule(state.applied)[0] == pytest.approx(0.75, abs=0.01)
    drive(state, longer, lambda step: 0.01)
    assert state.seconds == pytest.approx(40.0, abs=0.3)
    shorter = ClockBudget(20.0, linear_over)
    shorter.restore(state)
    assert state.total_steps == state.step  # its time is used


def test_a_run_killed_before_its_first_plan_begins_as_a_new_one() -> None:
    state = state_over(ClockBudget(10.0, linear_over))
    budget = ClockBudget(10.0, linear_over)
    budget.restore(state)
    assert (state.total_steps, state.planned_s) == (FAR, 0.0)
    drive(state, budget, lambda step: 0.01)
    assert state.step == pytest.approx(1000, rel=0.02)


def test_a_run_that_goes_back_to_a_checkpoint_still_ends_in_its_time() -> None:
    budget = ClockBudget(30.0, linear_over)
    state = state_over(budget)
    drive(state, budget, lambda step: 0.01, until=1500)
    state.step = state.applied = 400  # the time is spent all the same
    rates = drive(state, budget, lambda step: 0.01)
    assert 29.7 <= state.seconds <= 30.05
    assert state.step == pytest.approx(400 + 1500, rel=0.02)
    assert rates[-1][1] < 0.02


def test_a_warm_up_longer_than_the_run_does_not_end_it() -> None:
    over = lambda total: cosine(total, 1.0, warmup=500, warmup_start=0.0, min_lr=0.0)  # noqa: E731
    budget = ClockBudget(1.0, over)
    state = state_over(budget)
    rates = drive(state, budget, lambda step: 0.01)
    assert rates[-1][1] == pytest.approx(len(rates) / 500)  # still on its way up


def test_what_a_schedule_has_seen_of_the_metric_survives_planning() -> None:
    def over(total: int) -> Any:
        values = {"factor": 0.5, "patience": 0, "threshold": 0.0, "cooldown": 0}
        return plateau(1.0, True, **values, warmup=total // 20, warmup_start=0.0, min_lr=0.0)

    budget = ClockBudget(10.0, over)
    state = state_over(budget)
    drive(state, budget, lambda step: 0.01, until=300)
    state.schedule.observe(0.9)
    state.schedule.observe(0.8)  # worse: halved
    drive(state, budget, lambda step: 0.02)
    assert state.schedule(state.applied)[0] == 0.5


def test_the_clock_is_read_a_few_times_a_second_and_at_the_end_at_every_step() -> None:
    budget = ClockBudget(10.0, lambda total: constant(0, 0.0))
    state, asked = state_over(budget), []
    while state.step < state.total_steps:
        state.seconds, state.step = state.seconds + 0.001, state.step + 1
        budget.replan(state, lambda: asked.append(state.step) or state.seconds)
    assert len(asked) < 0.03 * state.step
    assert asked[-2:] == [state.step - 1, state.step]


class Slow(ToyTask):
    """0.05 s a micro-batch in training and 0.2 in evaluation, by a clock of its own."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.clock = clock

    def __call__(self, model: Any, batch: Any) -> Any:
        self.clock[0] += 0.05 if model.training else 0.2
        return super().__call__(model, batch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [100.0]
    monkeypatch.setattr("trainrun.loop.clock.time.perf_counter", lambda: now[0])
    return now


@pytest.mark.usefixtures("quick_disk")
def test_the_loop_keeps_time_over_processes_and_reserves_its_last_evaluation(
    tmp_path: Path, clock: list[float]
) -> None:
    over = lambda total: cosine(total, 0.05, warmup=0, warmup_start=0.0, min_lr=0.0)  # noqa: E731
    toy = Toy(
        tmp_path / "run",
        state={"schedule": lambda: over(FAR), "total_steps": FAR},
        task=lambda: Slow(clock),
        budget=lambda: ClockBudget(60.0, over),
        eval_every=16,
        log_every=1,
    )
    first = toy.train(signal_at=150)
    clock[0] += 1000  # nobody trains
    second = toy.train()
    finished = second.of(Finished)[0]
    judging = sum(1 for e in second.of(Evaluated) if e.split == "test") * 3 * 0.2
    assert 60 * 0.98 <= finished.seconds - judging <= 60 + 3 * 0.05
    assert second.of(Evaluated)[-2].step == finished.step  # judged at the end, within the time
    logs = [*first.of(StepsLogged), *second.of(StepsLogged)]
    total = finished.step
    assert logs[-1].lr["all"] <= 0.05 * (1 + math.cos(math.pi * 0.97)) / 2
    assert second.of(Replanned)[-1].total_steps == total
    assert [plan.is_first for plan in second.of(Replanned)].count(True) == 1
    assert second.state.planned_s == 60.0
