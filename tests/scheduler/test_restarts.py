"""Cosines with restarts: torch's own where they fill the run, and always at the end with the run."""

from __future__ import annotations

from itertools import pairwise

import pytest
from curves import LENGTHS, assert_same, factors, from_yaml, torch_curve
from torch.optim import lr_scheduler as torch_schedulers

from trainrun import scheduler
from trainrun.scheduler.closed_form import Cycles

WHOLE = [(1, 1, 1), (10, 10, 1), (100, 5, 1), (1000, 8, 1), (7, 1, 2), (70, 10, 2), (1001, 77, 3)]


@pytest.mark.parametrize(("total", "first", "mult"), WHOLE)
@pytest.mark.parametrize("min_lr", [0.0, 0.05])
def test_cycles_that_fill_the_run_are_torchs(total: int, first: int, mult: int, min_lr: float) -> None:
    ours = scheduler.cosine_restarts(total, 1.0, first, mult, 0, 0.0, min_lr)
    make = torch_schedulers.CosineAnnealingWarmRestarts
    theirs = torch_curve(lambda o: make(o, first, mult, min_lr), total)
    assert_same(factors(ours, total), [lr for lr, _ in theirs])


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize("first", [1, 2, 5, 33, 250, 5000])
@pytest.mark.parametrize("mult", [1, 2, 3, 10])
@pytest.mark.parametrize("warmup", [0, 0.3])
def test_the_last_cosine_ends_with_the_run_at_min_lr(
    total: int, first: int, mult: int, warmup: float
) -> None:
    ahead = int(warmup * total)
    ours = scheduler.cosine_restarts(total, 1.0, first, mult, ahead, 0.0, 0.01)
    curve, cycles = factors(ours, total + 3)[ahead:], ours.cycles
    assert curve[total - ahead :] == pytest.approx([0.01] * 3)
    starts = [cycles.start(cycle) for cycle in range(cycles.count + 1)]
    assert starts == sorted(set(starts)) and (starts[0], starts[-1]) == (0, total - ahead)
    tops = [n for n, factor in enumerate(curve) if factor == 1.0]
    assert tops == starts[:-1]  # each begins at the whole learning rate
    lengths = [after - before for before, after in pairwise(starts)]
    for shorter, longer in pairwise(lengths):
        assert abs(longer - mult * shorter) <= mult + 1  # but for rounding


@pytest.mark.parametrize(
    ("span", "first", "mult", "lengths"),
    [
        (100, 25, 2, [34, 66]),  # 25 + 50 stretched, nearer than 25 + 50 + 100 shortened
        (100, 60, 1, [50, 50]),
        (100, 75, 1, [100]),
        (100, 500, 2, [100]),
        (90, 30, 1, [30, 30, 30]),
    ],
)
def test_as_many_cycles_as_bring_the_first_nearest_to_what_was_asked(
    span: int, first: int, mult: int, lengths: list[int]
) -> None:
    cycles = Cycles(span, first, mult)
    starts = [cycles.start(cycle) for cycle in range(cycles.count + 1)]
    assert [after - before for before, after in pairwise(starts)] == lengths


def test_the_option_ends_low_whatever_the_length_of_the_run() -> None:
    for total in (20, 80, 799, 800, 801):
        curve = factors(from_yaml("cosine_restarts", total), total + 1)
        assert curve[-1] == 0 and curve[-2] < 0.03


def test_a_million_steps_of_short_cycles_are_planned_at_once() -> None:
    """No list of cycles is kept: a budget by the clock plans a million steps before it knows its pace."""
    assert Cycles(1_000_000, 1, 1).progress(999_999) == 0.0
    assert Cycles(1_000_000, 3, 1).count == 333_333
