"""Totals against a brute-force loop, and a meter that does not mind when it is read."""

from __future__ import annotations

import random

import pytest
import torch

from trainrun.protocols import StepResult
from trainrun.task.metrics import Meter, Totals


def results(count: int, seed: int = 0) -> list[StepResult]:
    draw = random.Random(seed)
    steps = []
    for index in range(count):
        size = draw.randint(1, 9)
        norm = draw.uniform(0.1, 3)
        after = torch.tensor(norm / 2) if index % 3 == 0 else norm  # every third step was clipped
        steps.append(
            StepResult(
                num_samples=size,
                terms={"loss": torch.tensor(draw.uniform(0, 5) * size), "extra": torch.tensor(draw.random())},
                counts={"loss": float(size), "extra": torch.tensor(draw.uniform(1, 2))},
                sums={"correct": torch.tensor(draw.randint(0, size))},
                norm=norm,
                norm_after=after,
                applied=index % 4 != 3,
                penalties={"l2": torch.tensor(draw.random())},
            )
        )
    return steps


def test_totals_are_those_of_a_brute_force_loop() -> None:
    meter, given = Meter(), results(23)
    for result in given:
        meter.add(result)
    totals = meter.read_log()
    applied = [r for r in given if r.applied]
    assert (totals.steps, totals.applied) == (23, len(applied))
    assert totals.samples == sum(r.num_samples for r in given)
    assert totals.norm == pytest.approx(sum(r.norm for r in applied))
    assert totals.norm_after == pytest.approx(sum(float(r.norm_after) for r in applied))
    assert totals.clipped == sum(float(r.norm_after) < r.norm for r in applied) > 0
    assert totals.penalty == pytest.approx(sum(float(r.penalties["l2"]) for r in given))
    assert totals.sums["correct"] == sum(int(r.sums["correct"]) for r in given)
    loss, extra = (
        sum(float(r.terms[name]) for r in given) / sum(float(r.counts[name]) for r in given)
        for name in ("loss", "extra")
    )
    assert totals.loss == pytest.approx(loss + extra)


def test_the_loss_is_the_mean_over_samples_not_over_steps() -> None:
    meter = Meter()
    for size, mean in ((9, 1.0), (1, 11.0)):
        term = {"loss": torch.tensor(size * mean)}
        meter.add(StepResult(size, term, {"loss": float(size)}, {}, 1.0, 1.0, True))
    assert meter.read_log().loss == pytest.approx(2.0)  # the plain mean of the two would be 6


@pytest.mark.parametrize("cadence", [1, 7, 40])
def test_reading_at_different_moments_gives_identical_totals(cadence: int) -> None:
    def read(every: int) -> tuple[Totals, list[Totals]]:
        meter, logs = Meter(), []
        for number, result in enumerate(results(120), 1):
            meter.add(result)
            if number % every == 0:
                meter.flush()
            if number % 40 == 0:
                logs.append(meter.read_log())
        return meter.read_eval(), logs

    assert read(cadence) == read(every=40)  # dataclass equality is exact to the last bit


def test_a_stored_meter_goes_on_to_identical_totals() -> None:
    straight, first, second = Meter(), Meter(), Meter()
    for number, result in enumerate(results(30)):
        straight.add(result)
        (first if number < 13 else second).add(result)
        if number == 12:
            second.load_state_dict(first.state_dict())
    assert second.read_log() == straight.read_log()
    assert second.read_eval() == straight.read_eval()


def test_reading_begins_anew_each_in_its_own_time() -> None:
    meter = Meter()
    for result in results(5):
        meter.add(result)
    assert meter.read_log().steps == 5
    assert meter.read_log() == Totals()
    assert meter.read_eval().steps == 5


def test_what_is_pending_is_bounded() -> None:
    meter = Meter()
    result = results(1)[0]
    for _ in range(2500):
        meter.add(result)
    assert meter.since_log.steps == 2000
    assert meter.read_log().steps == 2500


def step_of(loss: float, size: int = 4) -> StepResult:
    return StepResult(size, {"loss": torch.tensor(loss * size)}, {"loss": float(size)}, {}, 1.0, 1.0, True)


def test_leaps_of_the_loss_are_counted_as_a_brute_force_loop_counts_them() -> None:
    draw = random.Random(1)
    losses = [2 + draw.gauss(0, 0.1) for _ in range(600)]
    for index in (10, 100, 300, 301, 599):
        losses[index] += 5
    losses[200] = float("nan")
    mean, mean_square, expected = 0.0, 0.0, []
    finite = [(index, loss) for index, loss in enumerate(losses) if loss == loss]
    for count, (index, loss) in enumerate(finite, 1):
        weight = max(0.02, 1 / count)
        spread = max(0.0, mean_square - mean * mean) ** 0.5
        if count > 50 and loss > mean + 5 * spread:
            expected.append(index)
        mean, mean_square = (
            old + weight * (new - old) for old, new in ((mean, loss), (mean_square, loss**2))
        )
    meter = Meter()
    for loss in losses:
        meter.add(step_of(loss))
    meter.flush()
    assert meter.spikes.count == len(expected)
    assert {100, 300, 599} <= set(expected) and len(expected) <= 5


@pytest.mark.parametrize(("deviations", "count"), [(4.6, 0), (5.4, 1)])
def test_a_leap_is_one_of_five_standard_deviations(deviations: float, count: int) -> None:
    meter = Meter()
    for index in range(400):  # mean 2, to 0.001, and standard deviation 0.1
        meter.add(step_of(2.1 if index % 2 else 1.9))
    meter.add(step_of(2 + deviations / 10))
    meter.flush()
    assert meter.spikes.count == count


def test_counted_leaps_are_the_same_whenever_they_are_read_or_stored() -> None:
    draw = random.Random(2)
    losses = [draw.expovariate(1.0) ** 3 for _ in range(400)]
    whole, parts = Meter(), Meter()
    for index, loss in enumerate(losses):
        whole.add(step_of(loss))
        parts.add(step_of(loss))
        if index % 7 == 0:
            parts.read_log()
        if index == 123:
            stored, parts = parts.state_dict(), Meter()
            parts.load_state_dict(stored)
    whole.flush(), parts.flush()
    assert whole.spikes == parts.spikes
    assert whole.spikes.count > 0
