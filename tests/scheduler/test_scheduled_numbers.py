"""Numbers on a schedule: exact ends, the formula between, planned anew where the end moves."""

from __future__ import annotations

import math

import pytest

from trainrun.scheduler import constant, cosine
from trainrun.scheduler.scheduled_numbers import Course, ScheduledNumbers


def course(total: int) -> dict[str, Course]:
    return {"a.b": Course(0.2, 0.1, cosine(total, 1.0, 0, 0.0, 0.0))}


def test_a_number_starts_and_ends_exactly_and_follows_the_formula_between() -> None:
    way = course(10)["a.b"]
    assert (way(0), way(10)) == (0.2, 0.1)
    for update in range(10):
        factor = (1 + math.cos(math.pi * update / 10)) / 2
        assert way(update) == pytest.approx(0.1 + 0.1 * factor, abs=1e-15)


def test_setting_calls_each_number_with_its_value_and_a_longer_run_is_planned_anew() -> None:
    values: list[float] = []
    numbers = ScheduledNumbers({"a.b": "cosine"}, course, {"a.b": values.append})
    numbers.set(5, 10)
    numbers.set(5, 20)
    numbers.set(5, 10)
    assert values[0] == values[2] == numbers.at(5, 10)["a.b"] == pytest.approx(0.15)
    assert values[1] == pytest.approx(0.1 + 0.1 * (1 + math.cos(math.pi / 4)) / 2)


def test_what_does_not_move_stays_to_the_last_bit() -> None:
    assert Course(0.1, 0.7, constant(0, 0.0))(123) == 0.1
