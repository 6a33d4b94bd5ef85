"""A sweep's table against scipy's own intervals and tests, and against numbers from a printed table of t."""

from __future__ import annotations

import json
import math
import random
import statistics
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from sweeps import job, sweep_of

from trainrun.report.sweep_table import latex, lines, measured, paired_test, records, student
from trainrun.sweep.folder import StoredSweep

ADAMW = (0.91, 0.95, 0.93, 0.97, 0.92)
SGD = (0.90, 0.93, 0.925, 0.94, 0.915)


def two(folder: Path, first: Any = ADAMW, second: Any = SGD, more: Any = ()) -> StoredSweep:
    """A setting for each tuple of accuracies, over seeds; None is a job that failed."""
    values = {"adamw": first, "s_g%d": second}
    pairs = [(name, seed, value) for name, row in values.items() for seed, value in enumerate(row)]
    jobs = [
        job(number, {"optimizer": name, "seed": seed}, value, "completed" if value else "failed")
        | {"test": {"accuracy": value - 0.1} if value else {}}
        for number, (name, seed, value) in enumerate(pairs, 1)
    ]
    for entry in jobs:
        status = {"state": "completed", "best": {"metrics": {"accuracy": entry["value"], "loss": 2.0}}}
        (folder / entry["folder"]).mkdir(parents=True)
        (folder / entry["folder"] / "status.json").write_text(json.dumps(status))
    return sweep_of(folder, [*jobs, *more])


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_an_interval_and_a_test_are_scipys(count: int) -> None:
    draw = random.Random(count)
    values, others = ([draw.gauss(0.9, 0.02) for _ in range(count)] for _ in range(2))
    mean, half, _, _ = student(values)
    low, high = stats.t.interval(0.95, count - 1, loc=statistics.fmean(values), scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-12)
    paired = stats.ttest_rel(values, others)
    difference, half, t, p = student(a - b for a, b in zip(values, others, strict=True))
    assert (t, p) == pytest.approx((paired.statistic, paired.pvalue), rel=1e-9)
    truth = paired.confidence_interval(0.95)
    assert (difference - half, difference + half) == pytest.approx((truth.low, truth.high), rel=1e-9)


def test_an_interval_is_that_of_a_printed_table() -> None:
    """t at 97.5 % and two degrees of freedom is 4.303; of 1, 2, 3 the standard error is 1 / sqrt 3."""
    mean, half, t, p = student([1.0, 2.0, 3.0])
    assert (mean, t) == pytest.approx((2.0, 2 * math.sqrt(3)))
    assert half == pytest.approx(4.303 / math.sqrt(3), rel=1e-4) and p == pytest.approx(0.0742, abs=1e-4)


def test_without_a_spread_nothing_is_claimed() -> None:
    assert student([0.5])[0] == 0.5 and all(math.isnan(figure) for figure in student([0.5])[1:])
    mean, half, t, p = student([0.3 - 0.2, 0.2 - 0.1, 0.1 - 0.0])  # equal but for rounding
    assert mean == pytest.approx(0.1) and half < 1e-12 and math.isnan(t) and math.isnan(p)


def test_every_metric_of_a_setting_has_its_mean_and_interval(tmp_path: Path) -> None:
    sweep = two(tmp_path)
    text = [line.plain for line in lines(sweep, measured(sweep), 100)]
    assert text[:3] == [
        f"{tmp_path}  10 jobs: 10 completed",
        "val/accuracy, larger is better; mean and 95 % confidence interval over seed",
        "",
    ]
    halves = [stats.t.ppf(0.975, 4) * stats.sem(values) for values in (ADAMW, SGD)]
    cells = [f"{statistics.fmean(v):.4f} +/- {h:.4f}" for v, h in zip((ADAMW, SGD), halves, strict=True)]
    tests = [
        f"{statistics.fmean(v) - 0.1:.4f} +/- {h:.4f}" for v, h in zip((ADAMW, SGD), halves, strict=True)
    ]
    assert [" ".join(line.split()) for line in text[3:]] == [
        "1 2",
        "optimizer adamw s_g%d",
        "jobs 5 5",
        f"val/accuracy {' '.join(cells)}",
        "val/loss 2.0000 +/- 0.0000 2.0000 +/- 0.0000",
        f"test/accuracy {' '.join(tests)}",
    ]


def test_a_narrow_terminal_has_several_blocks(tmp_path: Path) -> None:
    sweep = two(tmp_path)
    text = [line.plain for line in lines(sweep, measured(sweep), 50)]
    assert max(map(len, text[2:])) <= 50 and sum("optimizer" in line for line in text) == 2


def test_two_settings_are_tested_over_the_seeds_that_both_have(tmp_path: Path) -> None:
    sweep = two(tmp_path, ADAMW, (None, *SGD[1:]))
    text = [line.plain.split() for line in paired_test(measured(sweep), 1, 2)]
    truth = stats.ttest_rel(ADAMW[1:], SGD[1:])
    difference = statistics.fmean(ADAMW[1:]) - statistics.fmean(SGD[1:])
    half = truth.confidence_interval(0.95).high - difference
    row = ["4", f"{difference:+.4g}", "+/-", f"{half:.2g}", f"{truth.statistic:.3g}", f"{truth.pvalue:.2g}"]
    assert ["val/accuracy", *row] in text and ["test/accuracy", *row] in text
    assert ["val/loss", "4", "+0", "+/-", "0", "nan", "nan"] in text
    back = [line.plain.split() for line in paired_test(measured(sweep), 2, 1)]
    assert [
        "val/accuracy",
        "4",
        f"{-difference:+.4g}",
        "+/-",
        f"{half:.2g}",
        f"{-truth.statistic:.3g}",
        row[-1],
    ] in back


def test_fewer_than_three_pairs_are_not_tested(tmp_path: Path) -> None:
    sweep = two(tmp_path, ADAMW[:3], (None, *SGD[1:3]))
    text = "".join(line.plain for line in paired_test(measured(sweep), 1, 2))
    assert text.endswith("needs 3 pairs or more, there are 2")


def test_a_setting_without_a_result_has_no_column_and_a_single_job_no_interval(tmp_path: Path) -> None:
    more = [job(90, {"optimizer": "lion", "seed": 0}, None, "failed")]
    sweep = two(tmp_path, ADAMW[:1], (None,), more)
    assert [(swept["optimizer"], list(metrics)) for swept, metrics in measured(sweep)] == [
        ("adamw", ["val/accuracy", "val/loss", "test/accuracy"])
    ]
    assert [line.plain.split() for line in lines(sweep, measured(sweep), 100)][-1] == [
        "test/accuracy",
        "0.8100",
    ]


def test_latex_is_a_tabular_of_booktabs_with_its_signs_escaped(tmp_path: Path) -> None:
    sweep = two(tmp_path)
    text = latex(sweep, measured(sweep))
    assert text[:4] == [
        r"\begin{tabular}{llrrrr}",
        r"\toprule",
        r" & optimizer & jobs & val/accuracy & val/loss & test/accuracy \\",
        r"\midrule",
    ]
    half = stats.t.ppf(0.975, 4) * stats.sem(SGD)
    assert text[5].startswith(rf"2 & s\_g\%d & $5$ & ${statistics.fmean(SGD):.4f} \pm {half:.4f}$ & ")
    assert text[-2:] == [r"\bottomrule", r"\end{tabular}"]
    assert all(row.count(" & ") == 5 and row.endswith(r" \\") for row in text[2:3] + text[4:6])


def test_a_csv_has_a_line_for_each_metric_in_full_precision(tmp_path: Path) -> None:
    sweep = two(tmp_path)
    heads, *rows = records(sweep, measured(sweep))
    assert heads == ["setting", "optimizer", "metric", "jobs", "mean", "ci95"]
    assert [row[:4] for row in rows[3:5]] == [[2, "s_g%d", "val/accuracy", 5], [2, "s_g%d", "val/loss", 5]]
    half = stats.t.ppf(0.975, 4) * stats.sem(SGD)
    assert rows[3][4:] == pytest.approx([statistics.fmean(SGD), half], rel=1e-12)


def test_latex_has_negative_and_small_numbers_as_mathematics(tmp_path: Path) -> None:
    sweep = two(tmp_path, (-0.5, -0.5), (-0.00002, -0.00004))
    values = [row.split(" & ")[3] for row in latex(sweep, measured(sweep))[4:6]]
    half = f"{12.7062047 * 0.00001:.3g}"  # t at 97.5 % and one degree of freedom
    assert sorted(values) == [
        r"$-0.5000 \pm 0.0000$",
        r"$-3 \cdot 10^{-5} \pm " + f"{half}$",
    ]
