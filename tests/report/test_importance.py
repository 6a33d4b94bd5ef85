"""What tells, and the share explained against scipy's Kruskal-Wallis test."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from scipy.stats import kruskal
from sweeps import job, sweep_of

from trainrun.report.importance import explained, importances, keys_of, repeats_of


def test_the_share_explained_is_that_of_kruskal_and_wallis() -> None:
    draw = random.Random(0)
    groups = [draw.choice("abc") for _ in range(40)]
    ys = [round({"a": 0, "b": 1, "c": 3}[group] + draw.gauss(0, 1), 1) for group in groups]
    h = kruskal(*([y for y, group in zip(ys, groups, strict=True) if group == kind] for kind in "abc"))
    assert explained(groups, ys) == pytest.approx((h.statistic - 2) / (40 - 3))
    assert explained(["a", "a", "b", "b"], [1, 1, 2, 2]) == pytest.approx(1.0)
    assert explained(["a", "b", "a", "b"], [1, 1, 2, 2]) == 0.0
    assert explained(["a", "b"], [1, 2]) == 0.0  # a group each explains nothing


def test_what_was_swept_and_what_repeated(tmp_path: Path) -> None:
    jobs = [job(n, {"a": n // 2, "b": 1, "seed": n % 2}, 0.5) for n in range(4)]
    sweep = sweep_of(tmp_path, jobs)
    assert (keys_of(sweep), repeats_of(sweep)) == (["a"], ["seed"])
    partial = sweep_of(tmp_path, [job(1, {"a": 1}, 0.5), job(2, {"a": 1, "b": 2}, 0.5)])
    assert keys_of(partial) == ["b"]  # which the first job lacks


def test_what_rises_what_turns_and_what_is_nothing(tmp_path: Path) -> None:
    draw = random.Random(1)
    jobs = []
    for n in range(60):
        swept = {"up": draw.random(), "turns": draw.random(), "nothing": draw.random(), "norm": n % 2 * "x"}
        value = 0.1 * swept["up"] - 2 * (swept["turns"] - 0.5) ** 2 + 0.05 * (n % 2)
        jobs.append(job(n, swept, value))
    by_key = {row.key: row for row in importances(sweep_of(tmp_path, jobs))}
    assert next(iter(by_key)) == "turns"
    assert (by_key["turns"].is_felt, by_key["turns"].is_steady) == (True, False)
    assert (by_key["nothing"].is_felt, by_key["nothing"].is_steady) == (False, False)
    assert by_key["norm"].correlation is None and not by_key["norm"].is_steady
    alone = [job(n, {"up": n, "b": n % 2}, 0.1 * n) for n in range(20)]
    up = next(row for row in importances(sweep_of(tmp_path, alone)) if row.key == "up")
    assert (up.is_felt, up.is_steady, up.correlation, up.best) == (True, True, pytest.approx(1), 19)
    down = next(row for row in importances(sweep_of(tmp_path, alone, "min")) if row.key == "up")
    assert (down.best, down.is_steady) == (0, True)


def test_of_many_settings_that_do_nothing_hardly_any_is_felt(tmp_path: Path) -> None:
    draw = random.Random(2)
    felt = 0
    for _ in range(40):
        jobs = [
            job(
                n,
                {f"k{key}": draw.random() if key % 2 else draw.choice("abc") for key in range(6)},
                draw.random(),
            )
            for n in range(30)
        ]
        felt += any(row.is_felt for row in importances(sweep_of(tmp_path, jobs)))
    assert felt <= 8  # a few of 40: correlation and share are looked at, each of them normal but roughly


def test_too_few_unfinished_or_equal_jobs_tell_nothing(tmp_path: Path) -> None:
    jobs = [job(n, {"a": n}, 0.1 * n) for n in range(8)]
    assert [row.count for row in importances(sweep_of(tmp_path, jobs))] == [8]
    assert not importances(sweep_of(tmp_path, jobs[:7]))
    assert not importances(sweep_of(tmp_path, [*jobs[:7], job(8, {"a": 8}, 0.8, "pruned")]))
    assert not importances(sweep_of(tmp_path, [*jobs[:7], job(8, {"a": 8}, None, "failed")]))
    assert not importances(sweep_of(tmp_path, [job(n, {"a": n}, 1.0) for n in range(20)]))


def test_a_peak_off_the_middle_is_no_direction_although_it_correlates(tmp_path: Path) -> None:
    jobs = [job(n, {"lr": n}, -abs(n - 12) + n / 1000) for n in range(40)]
    (row,) = importances(sweep_of(tmp_path, jobs))
    assert row.correlation is not None and row.correlation < -0.6
    assert (row.is_felt, row.is_steady, row.best) == (True, False, 12)
