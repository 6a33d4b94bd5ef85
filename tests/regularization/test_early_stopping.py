"""Early stopping: patience, min_delta, and values that are never an improvement."""

from __future__ import annotations

import math

import pytest

from trainrun.regularization.early_stopping import EarlyStopping

NAN, INF = math.nan, math.inf


def stops_at(values: list[float], maximize: bool, patience: int = 2, min_delta: float = 0.0) -> int | None:
    """The number of the evaluation, from 1, that ends the run."""
    stopper = EarlyStopping(patience, min_delta, restore_best=True)
    return next((n for n, value in enumerate(values, 1) if stopper.observe(value, maximize)), None)


@pytest.mark.parametrize(
    ("values", "maximize", "patience", "min_delta", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0], True, 1, 0.0, None),
        ([4.0, 3.0, 2.0, 1.0], False, 1, 0.0, None),
        ([1.0, 2.0, 3.0], False, 2, 0.0, 3),
        ([5.0, 5.0, 5.0, 5.0], False, 3, 0.0, 4),  # a constant loss ends the run
        ([1.0, 0.9, 1.1, 1.0, 1.0], True, 2, 0.0, 5),  # an improvement starts the count anew
        ([1.0, 1.05, 1.09, 1.2], True, 3, 0.1, None),  # small gains add up to a large one
        ([1.0, 1.05, 1.09, 1.25], True, 3, 0.25, 4),  # exactly min_delta is none
        ([1.0, 0.95, 0.85, 0.8, 0.78], False, 2, 0.1, 5),
        ([NAN, NAN, NAN], True, 3, 0.0, 3),
        ([NAN, 1.0, NAN, NAN], True, 2, 0.0, 4),
        ([INF, 1.0, 2.0], True, 5, 0.0, None),
        ([INF, INF], True, 2, 0.0, 2),
        ([-INF, -INF], False, 2, 0.0, 2),
        ([-5.0, -4.0, -3.0], True, 1, 0.0, None),
    ],
)
def test_when_it_stops(
    values: list[float], maximize: bool, patience: int, min_delta: float, expected: int | None
) -> None:
    assert stops_at(values, maximize, patience, min_delta) == expected


def test_nan_and_infinity_are_never_the_best() -> None:
    stopper = EarlyStopping(10, 0.0, True)
    for value in (NAN, INF, 0.5, NAN, INF, 0.4):
        stopper.observe(value, True)
    assert stopper.best == 0.5


@pytest.mark.parametrize("restored_after", range(5))
def test_a_restored_count_goes_on_where_it_stood(restored_after: int) -> None:
    values = [1.0, 2.0, 1.5, 1.4, 1.3]
    first, second = EarlyStopping(3, 0.0, True), EarlyStopping(3, 0.0, True)
    decisions = [first.observe(value, True) for value in values[:restored_after]]
    second.load_state_dict(first.state_dict())
    decisions += [second.observe(value, True) for value in values[restored_after:]]
    assert decisions == [False, False, False, False, True]
