"""What is drawn of a sweep: the artists' own data, against places computed here."""

from __future__ import annotations

import random
import statistics
from pathlib import Path
from typing import Any

import pytest
from sweeps import job, sweep_of

from trainrun.report.sweep import MOST, drawn, edge_of, figure_of, picture


def dots(axes: Any, label: str) -> list[tuple[float, float]]:
    collections = [drawn for drawn in axes.collections if drawn.get_label() == label]
    return sorted(tuple(place) for drawn in collections for place in drawn.get_offsets().tolist())


@pytest.fixture
def grid() -> list[dict[str, Any]]:
    """Three rates by two norms by two seeds; the metric is known by hand."""
    jobs = []
    for a, lr in enumerate((0.001, 0.01, 0.1)):
        for b, norm in enumerate(("batch", "group")):
            for seed in range(2):
                swept = {"optimizer.lr": lr, "model.norm": norm, "seed": seed}
                jobs.append(job(len(jobs), swept, 0.1 * a + 0.4 * b + 0.1 * seed))
    return jobs


def test_the_metric_against_each_setting(grid: list[dict[str, Any]], tmp_path: Path) -> None:
    rates, norms = figure_of(sweep_of(tmp_path, grid)).axes
    assert (rates.get_xlabel(), norms.get_xlabel()) == ("optimizer.lr", "model.norm")
    assert (rates.get_xscale(), rates.get_yscale()) == ("log", "linear")
    completed, best = dots(rates, "completed"), dots(rates, "of the best setting")
    places = sorted((job["swept"]["optimizer.lr"], job["value"]) for job in grid)
    assert sorted(completed + best) == [pytest.approx(place) for place in places]
    assert best == [pytest.approx((0.1, 0.6)), pytest.approx((0.1, 0.7))]
    medians = sorted(float(line.get_ydata()[0]) for line in norms.lines if len(line.get_xdata()) == 1)
    assert medians == pytest.approx([0.15, 0.55])
    first, _ = (line for line in norms.lines if len(line.get_xdata()) == 2)
    assert list(first.get_ydata()) == pytest.approx([0.1, 0.2])  # of 0, 0.1, 0.1, 0.2, 0.2 and 0.3
    assert [label.get_text() for label in norms.get_xticklabels()] == ["batch", "group"]
    assert all(abs(x - round(x)) < 0.2 for x, _ in dots(norms, "completed"))


def test_what_did_not_complete_is_hollow_and_what_failed_is_crossed(tmp_path: Path) -> None:
    jobs = [job(n, {"lr": n, "p": n % 2}, 0.1 * n) for n in range(4)]
    jobs += [job(4, {"lr": 4, "p": 0}, 0.05, "pruned"), job(5, {"lr": 5, "p": 0}, None, "failed")]
    jobs += [job(6, {"lr": 5, "p": 1}, None, "pending")]
    figure = figure_of(sweep_of(tmp_path, jobs))
    axes = figure.axes[0]
    (hollow,) = (drawn for drawn in axes.collections if drawn.get_label() == "not completed: pruned")
    assert hollow.get_facecolor().size == 0 and len(hollow.get_edgecolor()) == 1
    assert dots(axes, "not completed: pruned") == [(4, 0.05)]
    assert dots(axes, "failed, without a value") == [(5, 0)]
    assert len(dots(axes, "completed")) == 3
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {
        *("completed", "of the best setting", "not completed: pruned", "failed, without a value"),
        "median and quartiles at a value",
    }


def test_seeds_or_folds_alone_are_drawn_as_they_are(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, [job(n, {"data.fold": n}, 0.1 * n) for n in range(5)])
    assert drawn(sweep) == ["data.fold"]
    (axes,) = figure_of(sweep).axes
    assert len(dots(axes, "completed")) == 5 and not dots(axes, "of the best setting")
    assert drawn(sweep_of(tmp_path, [job(0, {"lr": 1}, 0.5)])) == []


def test_of_many_settings_the_most_important_are_drawn(tmp_path: Path) -> None:
    draw = random.Random(0)
    jobs = []
    for n in range(60):
        swept = {f"key_{k:02}": draw.random() for k in range(20)}
        jobs.append(job(n, swept, swept["key_19"]))
    figure = figure_of(sweep := sweep_of(tmp_path, jobs))
    assert len(drawn(sweep)) == len(figure.axes) == MOST and drawn(sweep)[-1] == "key_19"
    assert "the 12 most important settings, not the other 8" in figure._suptitle.get_text()
    first = [{**job, "swept": {k: v for k, v in job["swept"].items() if k < "key_12"}} for job in jobs]
    assert len(drawn(sweep_of(tmp_path, first))) == MOST  # as many as there is room for


def test_texts_and_numbers_of_one_setting_stand_side_by_side(tmp_path: Path) -> None:
    jobs = [job(n, {"clip": value}, 0.1 * n) for n, value in enumerate((5, None, 1, 3, "auto"))]
    (axes,) = figure_of(sweep_of(tmp_path, jobs)).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["null", "auto", "1", "3", "5"]
    lacking = [job(0, {"lr": 1.0}, 0.1), job(1, {"lr": 2.0, "decay": 0.5}, 0.2)]
    axes = figure_of(sweep_of(tmp_path, lacking)).axes[1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["-", "0.5"]


def test_only_a_metric_to_be_small_is_drawn_by_logarithms(tmp_path: Path) -> None:
    jobs = [job(n, {"lr": n}, value) for n, value in enumerate((0.001, 0.1, 10.0))]
    for mode, scale in (("min", "log"), ("max", "linear")):
        (axes,) = figure_of(sweep_of(tmp_path, jobs, mode)).axes
        assert axes.get_yscale() == scale


def test_no_text_is_a_formula_and_any_letter_is_drawn(tmp_path: Path) -> None:
    jobs = [job(n, {"$x_{$": f"$a_{{{n}", "long" * 30: "word " * 100 + str(n)}, 0.1 * n) for n in range(3)]
    picture(sweep_of(tmp_path, jobs), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_equal_values_and_a_single_one_are_drawn(tmp_path: Path) -> None:
    for jobs in (
        [job(n, {"a": n, "b": -n}, 1.0) for n in range(3)],
        [job(0, {"a": 0, "b": 1}, 0.5), job(1, {"a": 1, "b": 0}, None, "failed")],
    ):
        axes = figure_of(sweep_of(tmp_path, jobs)).axes[0]
        assert {y for _, y in dots(axes, "of the best setting")} == {jobs[0]["value"]}


@pytest.mark.parametrize("mode", ["max", "min"])
def test_few_far_worse_values_stand_at_the_edge(mode: str, tmp_path: Path) -> None:
    sign = 1 if mode == "max" else -1
    values = [sign * (0.9 + n / 100) for n in range(9)] + [sign * 0.1, sign * 0.2]
    jobs = [job(n, {"norm": "ab"[n % 2]}, value) for n, value in enumerate(values)]
    sweep = sweep_of(tmp_path, jobs, mode)
    # the eighth best of eleven is 0.91, which is two thirds of them: 0.98 - 2 * 0.07
    assert edge_of(sweep) == pytest.approx(sign * 0.84)
    figure = figure_of(sweep)
    (axes,) = figure.axes
    heights = [y for label in ("completed", "of the best setting") for _, y in dots(axes, label)]
    worst = min(heights) if mode == "max" else max(heights)
    assert worst == pytest.approx(sign * 0.84) and len(heights) == 11
    assert "at the edge: " in figure._supylabel.get_text()
    medians = [line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    assert sorted(medians) == pytest.approx(sorted(statistics.median(values[n::2]) for n in (0, 1)))


def test_no_edge_where_little_is_won_or_values_are_few_or_most_are_equal(tmp_path: Path) -> None:
    far = [*[0.9 + n / 100 for n in range(7)], 0.1]
    cases = {
        "little is won": ([n / 10 for n in range(11)], False),
        "few": (far[1:], False),
        "just enough": (far, True),
        "most are equal": ([1.0] * 9 + [0.1], False),
    }
    for name, (values, has_edge) in cases.items():
        sweep = sweep_of(tmp_path, [job(n, {"lr": n}, value) for n, value in enumerate(values)])
        assert (edge_of(sweep) is not None) is has_edge, name
