"""Events cannot be changed, and their lines are strict JSON."""

from __future__ import annotations

import dataclasses
import json
import typing

import pytest

from trainrun.vocabulary import events
from trainrun.vocabulary.events import (
    Event,
    Progressed,
    metrics_record,
    timing_record,
    to_line,
    without_nonfinite,
)

KINDS = typing.get_args(Event)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_event_is_frozen_and_made_by_name(kind: type) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    fields = dataclasses.fields(kind)
    assert all(field.kw_only for field in fields)
    assert "step" in {field.name for field in fields}


def test_every_event_of_the_module_is_one_that_loggers_get() -> None:
    defined = {thing for thing in vars(events).values() if dataclasses.is_dataclass(thing)}
    assert defined - {events.Histogram} == set(KINDS)  # which is a part of one


def test_a_sign_of_life_is_recorded_nowhere() -> None:
    event = Progressed(step=1, samples_per_s=2.0)
    assert metrics_record(event) is None
    assert timing_record(event) is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("nested", [False, True])
def test_a_line_is_strict_json_whatever_the_numbers(bad: float, nested: bool) -> None:
    record = {"a": {"b": bad} if nested else bad, "c": 1.5, "d": None, "e": "nan"}
    line = to_line(record)
    assert line.endswith("}\n") and line.count("\n") == 1
    read = json.loads(line, parse_constant=lambda name: pytest.fail(name))
    assert read == {"a": {"b": None} if nested else None, "c": 1.5, "d": None, "e": "nan", "nonfinite": True}


def test_a_line_of_finite_numbers_says_nothing_of_it() -> None:
    record = {"loss": 0.1 + 0.2, "lr": {"a": 1e-300}, "epoch": None, "step": 3}
    assert json.loads(to_line(record)) == record  # to the last bit


def test_cleaning_leaves_the_original() -> None:
    record = {"a": {"b": float("nan")}}
    assert without_nonfinite(record) == {"a": {"b": None}}
    assert record["a"]["b"] != record["a"]["b"]


@pytest.mark.parametrize(
    ("ratios", "dead", "expected"),
    [
        ({}, None, {}),
        ({"all": 0.001}, 0.25, {"update_ratio": 0.001, "dead_units": 0.25}),
        ({"a": 0.001, "b": 0.0}, 0.0, {"update_ratio": {"a": 0.001, "b": 0.0}, "dead_units": 0.0}),
    ],
)
def test_a_log_tells_of_health_where_it_was_measured(
    ratios: dict[str, float], dead: float | None, expected: dict[str, object]
) -> None:
    numbers = {"step": 1, "epoch": 1.0, "loss": 0.5, "lr": {"all": 0.1}, "grad_norm": 1.0, "skipped": 0}
    rest = {"grad_norm_after": None, "clipped": None, "samples_per_s": 1.0, "data_wait": 0.0}
    event = events.StepsLogged(**numbers, **rest, update_ratio=ratios, dead_units=dead)  # type: ignore[arg-type]
    record = metrics_record(event)
    assert record is not None
    assert {key: value for key, value in record.items() if key in ("update_ratio", "dead_units")} == expected
