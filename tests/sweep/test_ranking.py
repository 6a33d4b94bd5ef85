"""Means, spreads and order against figures reckoned by hand."""

from __future__ import annotations

from typing import Any

from trainrun.sweep.outcome import JobOutcome
from trainrun.sweep.ranking import RankedJob, best_of, exit_code, ranked


def entry(
    number: int, value: float | None, state: str = "completed", code: int = 0, **swept: Any
) -> RankedJob:
    swept = {key.replace("_", "."): value for key, value in swept.items()}
    return RankedJob(f"key{number}", number, (), swept, JobOutcome(state, value, exit_code=code))


JOBS = [
    entry(1, 0.5, lr=0.1, seed=0),
    entry(2, 0.7, lr=0.1, seed=1),
    entry(3, 0.9, lr=0.2, seed=0),
    entry(4, 0.8, lr=0.2, seed=1),
    entry(5, 0.99, "interrupted", 130, lr=0.2, seed=2),
    entry(6, None, "failed", 7, lr=0.3, seed=0),
]


def test_seeds_are_replicates_of_one_setting() -> None:
    best, second, none = ranked(JOBS, maximize=True)
    assert (best.swept, best.values) == ({"lr": 0.2}, [0.9, 0.8])  # what did not come to its end is no value
    assert abs(best.mean - 0.85) < 1e-12 and abs(best.std - 0.1 / 2**0.5) < 1e-12  # type: ignore[operator]
    assert abs(second.mean - 0.6) < 1e-12  # type: ignore[operator]
    assert (none.swept, none.mean, none.std) == ({"lr": 0.3}, None, None)
    assert best.record["jobs"] == ["key3", "key4", "key5"] and best.record["count"] == 2


def test_less_is_better_where_it_is() -> None:
    assert [setting.swept["lr"] for setting in ranked(JOBS, maximize=False)] == [0.1, 0.2, 0.3]


def test_the_best_job_is_the_best_of_the_best_setting() -> None:
    jobs = [*JOBS, entry(7, 0.95, lr=0.1, seed=2)]  # mean 0.717, below 0.85
    best = best_of(ranked(jobs, maximize=True), maximize=True)
    assert best is not None and best.key == "key3"
    assert best_of(ranked([JOBS[5]], maximize=True), maximize=True) is None


def test_a_single_value_has_no_spread_and_folds_are_replicates_too() -> None:
    (setting,) = ranked([entry(1, 0.5, data_fold=0), entry(2, 0.6, data_fold=1)], maximize=True)
    assert setting.swept == {} and len(setting.values) == 2
    (single,) = ranked([entry(1, 0.5, lr=1)], maximize=True)
    assert single.std is None


def test_1_and_true_are_two_settings() -> None:
    assert len(ranked([entry(1, 0.5, a=1), entry(2, 0.6, a=True)], maximize=True)) == 2


def test_the_exit_code_is_the_first_failures_then_an_interruptions() -> None:
    assert exit_code(JOBS) == 7
    assert exit_code(JOBS[:5]) == 130
    assert exit_code(JOBS[:4]) == 0
    assert exit_code([entry(1, None, "pruned"), entry(2, None, "paused")]) == 0
    assert exit_code([entry(1, 0.5), entry(2, None, "pending")]) == 1  # what never began is no success


def test_a_setting_one_of_whose_seeds_failed_is_behind_those_that_hold() -> None:
    jobs = [entry(1, 0.9, a=1, seed=0), entry(2, None, "failed", 7, a=1, seed=1), entry(3, 0.5, a=2, seed=0)]
    assert [setting.swept["a"] for setting in ranked(jobs, maximize=True)] == [2, 1]
