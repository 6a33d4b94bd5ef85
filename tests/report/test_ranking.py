"""The table of a sweep: ranked, within its width, and silent where nothing can be said."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from sweeps import job, sweep_of

from trainrun.report.ranking import lines


def text(folder: Path, jobs: list[dict[str, Any]], width: int = 80, mode: str = "max") -> list[str]:
    return [line.plain for line in lines(sweep_of(folder, jobs, mode), width)]


@pytest.fixture
def seeds() -> list[dict[str, Any]]:
    """Three seeds of each of two optimizers."""
    values = {"sgd": (0.5, 0.6, 0.7), "adamw": (0.8, 0.9, 1.0)}
    pairs = [(name, seed) for name in values for seed in range(3)]
    return [
        job(n, {"optimizer": name, "seed": seed}, values[name][seed]) for n, (name, seed) in enumerate(pairs)
    ]


def test_settings_are_ranked_with_mean_and_spread(seeds: list[dict[str, Any]], tmp_path: Path) -> None:
    rows = text(tmp_path, seeds, 200)
    assert rows[:3] == [
        f"{tmp_path}  6 jobs: 6 completed",
        "val/accuracy, larger is better; mean and standard deviation over seed",
        "",
    ]
    assert [line.split() for line in rows[3:6]] == [
        ["optimizer", "accuracy", "+/-", "jobs"],
        ["1", "adamw", "0.9000", "0.1000", "3"],
        ["2", "sgd", "0.6000", "0.1000", "3"],
    ]


def test_the_least_is_first_where_smaller_is_better(seeds: list[dict[str, Any]], tmp_path: Path) -> None:
    rows = [line.split() for line in text(tmp_path, seeds, 200, "min")]
    assert [row[1] for row in rows if row and row[0] in ("1", "2")] == ["sgd", "adamw"]


def test_what_completed_stands_first_and_the_rest_is_marked(tmp_path: Path) -> None:
    jobs = [job(0, {"lr": 1}, 0.5), job(1, {"lr": 2}, 0.9, "pruned"), job(2, {"lr": 3}, 0.95, "pruned")]
    jobs += [job(3, {"lr": 4}, 0.6), job(4, {"lr": 5}, None, "failed")]
    lines = text(tmp_path, jobs, 200)
    assert [line.split() for line in lines[4:8]] == [
        ["1", "4", "0.6000"],
        ["2", "1", "0.5000"],
        ["3", "3", "0.9500", "so", "far"],
        ["4", "2", "0.9000", "so", "far"],
    ]
    assert lines[8] == "  1 job without a value"


def test_seeds_or_folds_alone_are_a_row_each_and_their_mean(tmp_path: Path) -> None:
    jobs = [job(n, {"data.fold": n}, value) for n, value in enumerate((0.5, 0.7, 0.6))]
    lines = text(tmp_path, jobs, 200)
    assert "mean 0.6000 +/- 0.1000 over data.fold, 3 jobs" in lines
    rows = [line.split() for line in lines if line.split()[:1] in (["1"], ["2"], ["3"])]
    assert rows == [["1", "1", "0.7000"], ["2", "2", "0.6000"], ["3", "0", "0.5000"]]
    jobs[1]["state"] = "interrupted"
    rows = [line.split() for line in text(tmp_path, jobs, 200)[5:8]]
    assert [row[1] for row in rows] == ["2", "0", "1"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_many_settings_and_jobs_fit(width: int, tmp_path: Path) -> None:
    draw = random.Random(0)
    jobs = []
    for n in range(200):
        swept = {f"group_{k}.a_long_name_{k}": draw.random() for k in range(12)}
        swept["regularization"] = draw.choice(["[]", "[mixup,cutmix,label_smoothing,early_stopping]"])
        jobs.append(job(n, swept, swept["group_3.a_long_name_3"], draw.choice(["completed", "pruned"])))
    lines = text(tmp_path, jobs, width)
    assert max(map(len, lines)) <= width and len(lines) < 50
    head = next(line for line in lines if " accuracy" in line and "a_long_name" in line)
    assert "a_long_name_3" in head  # the most important one
    assert any(line.startswith("  only in the picture: ") for line in lines)
    assert "  190 more below" in lines
    (row,) = (line for line in lines if line.strip().startswith("group_3.a_long_name_3 "))
    assert "+1.00" in row


def test_which_way_a_number_drives_the_metric(tmp_path: Path) -> None:
    draw = random.Random(0)
    jobs = [
        job(n, {"optimizer.lr": 10**-n, "model.norm": norm, "seed": seed}, n / 10 + draw.random() / 100)
        for n, (_, norm, seed) in enumerate((a, b, c) for a in range(3) for b in ("x", "y") for c in range(3))
    ]
    (line,) = (line for line in text(tmp_path, jobs, 120) if line.startswith("  optimizer.lr  "))
    assert line.split("%")[1].split(maxsplit=1) == ["-1.00", "accuracy falls with it; try below 1e-17"]
    (line,) = (line for line in text(tmp_path, jobs, 120, "min") if line.startswith("  optimizer.lr  "))
    assert line.endswith("accuracy falls with it; try above 1")


def test_a_best_in_the_middle_has_no_direction(tmp_path: Path) -> None:
    jobs = [job(n, {"width": n}, 1 - (n - 20) ** 2 / 400 + n / 10_000) for n in range(41)]
    (line,) = (line for line in text(tmp_path, jobs) if "rank corr" not in line and "%" in line)
    assert line.endswith("both ways; best at 20")


def test_texts_are_listed_with_their_means(tmp_path: Path) -> None:
    jobs = [job(n, {"norm": "ab"[n % 2]}, n % 2 / 2 + n / 1000) for n in range(10)]
    (line,) = (line for line in text(tmp_path, jobs) if "%" in line)
    assert line.endswith("mean b 0.5050, a 0.0040")


def test_too_few_equal_or_unfinished_jobs_are_said(tmp_path: Path) -> None:
    few = [job(n, {"lr": n}, 0.1 * n) for n in range(7)]
    said = "which settings matter is shown from 8 completed jobs on; there are 7"
    assert text(tmp_path, few)[-1] == said
    enough = [*few, job(7, {"lr": 7}, 0.7)]
    assert text(tmp_path, enough)[-1].endswith("accuracy rises with it; try above 7")
    same = [job(n, {"lr": n}, 0.5) for n in range(9)]
    assert text(tmp_path, same)[-1] == (
        "all 9 completed jobs reached the same val/accuracy: no setting matters"
    )
    begun = [job(n, {"lr": n}, 0.1 * n, "interrupted") for n in range(9)]
    lines = text(tmp_path, [*begun, job(9, {"lr": 9}, None, "pending")])
    assert lines[-1].endswith("there are 0")
    assert sum("so far" in line for line in lines) == 9
    assert "  1 job without a value" in lines
