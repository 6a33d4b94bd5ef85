"""What is drawn of a sweep: the artists' own data, against places computed here."""

from __future__ import annotations

import math
import random
import statistics
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_rgba
from sweeps import job, sweep_of

from trainrun.report.sweep import MOST, drawn, figure_of, picture

RED = to_rgba("#d62728")


def parallel(figure: Any) -> Any:
    return figure.subfigs[0].axes[0]


def panels(figure: Any) -> list[Any]:
    return list((figure.subfigs[1] if figure.subfigs else figure).axes)


def lines_of(axes: Any, points: int) -> list[Any]:
    """The lines with so many points."""
    return [line for line in axes.lines if len(line.get_xdata()) == points]


def dots(axes: Any, label: str) -> list[tuple[float, float]]:
    found = [one for one in axes.collections if one.get_label() == label]
    return [tuple(place) for one in found for place in one.get_offsets().tolist()]


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


def test_a_line_per_setting_from_axis_to_axis(grid: list[dict[str, Any]], tmp_path: Path) -> None:
    axes = parallel(figure_of(sweep_of(tmp_path, grid)))
    found = sorted(tuple(line.get_ydata()) for line in lines_of(axes, 3))
    # values run from 0 to 0.7; a setting's mean is 0.05 above its first seed
    expected = [(a / 2, float(b), (0.1 * a + 0.4 * b + 0.05) / 0.7) for a in range(3) for b in range(2)]
    assert found == [pytest.approx(one) for one in expected]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "optimizer.\nlr",
        "model.\nnorm",
        "val/accuracy",
    ]
    texts = {one.get_text() for one in axes.texts}
    assert {"0.001", "0.01", "0.1", "batch", "group"} <= texts


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_best_is_thick_and_red_and_the_better_the_darker(
    mode: str, grid: list[dict[str, Any]], tmp_path: Path
) -> None:
    axes = parallel(figure_of(sweep_of(tmp_path, grid, mode)))
    by_metric = sorted(lines_of(axes, 3), key=lambda line: line.get_ydata()[-1], reverse=mode == "max")
    best, *others = by_metric
    assert to_rgba(best.get_color()) == RED
    assert best.get_linewidth() > 2 * max(one.get_linewidth() for one in others)
    assert best.get_zorder() > max(one.get_zorder() for one in others)
    lightness = [sum(to_rgba(one.get_color())[:3]) for one in others]
    assert lightness == sorted(lightness) and lightness[0] < lightness[-1]


def test_the_spread_of_repetitions_stands_beside_the_last_axis(
    grid: list[dict[str, Any]], tmp_path: Path
) -> None:
    axes = parallel(figure_of(sweep_of(tmp_path, grid)))
    bars = [line for line in lines_of(axes, 2) if 2 < line.get_xdata()[0] == line.get_xdata()[1]]
    assert len(bars) == 6
    first = min(bars, key=lambda line: line.get_xdata()[0])
    spread = statistics.stdev([0.6, 0.7])
    # above the largest value there is nothing of the axis
    assert list(first.get_ydata()) == pytest.approx([(0.65 - spread) / 0.7, 1.0])
    alone = [one for one in grid if one["swept"]["seed"] == 0]
    axes = parallel(figure_of(sweep_of(tmp_path, alone)))
    assert not [line for line in lines_of(axes, 2) if line.get_xdata()[0] > 2]


def test_the_metric_against_each_setting(grid: list[dict[str, Any]], tmp_path: Path) -> None:
    rates, norms = panels(figure_of(sweep_of(tmp_path, grid)))
    assert (rates.get_xlabel(), norms.get_xlabel()) == ("optimizer.lr, logarithmic", "model.norm")
    completed, best = dots(rates, "completed"), dots(rates, "best")
    places = sorted(((math.log10(one["swept"]["optimizer.lr"]) + 3) / 2, one["value"] / 0.7) for one in grid)
    assert sorted(completed + best) == [pytest.approx(one) for one in places]
    assert sorted(best) == [pytest.approx((1, 0.6 / 0.7)), pytest.approx((1, 1))]
    means = sorted(tuple(line.get_ydata()) for line in lines_of(norms, 1))
    assert means == [pytest.approx((0.15 / 0.7,)), pytest.approx((0.55 / 0.7,))]
    assert [label.get_text() for label in norms.get_xticklabels()] == ["batch", "group"]


def test_what_did_not_complete_is_hollow_and_what_failed_is_crossed(tmp_path: Path) -> None:
    jobs = [job(n, {"lr": n, "p": n % 2}, 0.1 * n) for n in range(4)]
    jobs += [job(4, {"lr": 4, "p": 0}, 0.05, "pruned"), job(5, {"lr": 5, "p": 0}, None, "failed")]
    jobs += [job(6, {"lr": 5, "p": 1}, None, "pending")]
    figure = figure_of(sweep_of(tmp_path, jobs))
    axes = panels(figure)[0]
    (hollow,) = (one for one in axes.collections if one.get_label() == "not completed")
    assert hollow.get_facecolor().size == 0 and len(hollow.get_edgecolor()) == 1
    assert dots(axes, "not completed") == [pytest.approx((0.8, 0.05 / 0.3))]
    ((x, y),) = dots(axes, "failed")
    assert x == 1 and y < 0
    strokes = {line.get_linestyle() for line in parallel(figure).lines if len(line.get_xdata()) == 3}
    assert strokes == {"-", "--"}
    dotted = [line for line in lines_of(parallel(figure), 2) if line.get_linestyle() == ":"]
    assert sorted(tuple(line.get_ydata()) for line in dotted) == [(1, 0), (1, 1)]
    (legend,) = figure.subfigs[1].legends
    assert [one.get_text() for one in legend.get_texts()][:4] == [
        "completed job",
        "of the best setting",
        "not completed: pruned",
        "failed, without a value",
    ]


def test_one_setting_needs_no_parallel_axes(tmp_path: Path) -> None:
    jobs = [job(n, {"optimizer": "ab"[n // 2], "seed": n % 2}, 0.1 * n) for n in range(4)]
    figure = figure_of(sweep_of(tmp_path, jobs))
    (axes,) = figure.axes
    assert axes.get_xlabel() == "optimizer"
    assert sorted(dots(axes, "completed") + dots(axes, "best")) == [
        pytest.approx((n // 2, n / 3)) for n in range(4)
    ]


def test_seeds_or_folds_alone_are_drawn_as_they_are(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, [job(n, {"data.fold": n}, 0.1 * n) for n in range(5)])
    assert drawn(sweep) == ["data.fold"]
    (axes,) = figure_of(sweep).axes
    assert len(dots(axes, "completed")) == 5 and not dots(axes, "best")
    assert drawn(sweep_of(tmp_path, [job(0, {"lr": 1}, 0.5)])) == []


def test_of_many_settings_the_most_telling_are_drawn(tmp_path: Path) -> None:
    draw = random.Random(0)
    jobs = []
    for n in range(60):
        swept = {f"key_{k:02}": draw.random() for k in range(20)}
        jobs.append(job(n, swept, swept["key_19"]))
    figure = figure_of(sweep := sweep_of(tmp_path, jobs))
    assert len(drawn(sweep)) == len(panels(figure)) == MOST and drawn(sweep)[-1] == "key_19"
    assert len(lines_of(parallel(figure), MOST + 1)) == 60
    assert "the 12 most telling settings, not the other 8" in figure._suptitle.get_text()


def test_a_crowd_at_few_values_is_spread_and_stays_in_its_order(tmp_path: Path) -> None:
    jobs = [job(n, {"batch_size": 32 * (n % 2 + 1), "lr": 0.1 + n}, n / 100) for n in range(40)]
    figure = figure_of(sweep_of(tmp_path, jobs))
    places = [x for x, _ in dots(panels(figure)[0], "completed")]
    assert len(set(places)) == len(places) == 39
    assert all(min(abs(x), abs(x - 1)) < 0.03 for x in places)
    ys = [line.get_ydata()[0] for line in lines_of(parallel(figure), 3)]
    assert len(set(ys)) == 40 and all(min(abs(y), abs(y - 1)) < 0.03 for y in ys)


def test_no_text_is_a_formula_and_any_letter_is_drawn(tmp_path: Path) -> None:
    jobs = [job(n, {"$x_{$": f"$a_{{{n}", "long" * 30: "word " * 100 + str(n)}, 0.1 * n) for n in range(3)]
    picture(sweep_of(tmp_path, jobs), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_equal_values_and_a_single_one_are_drawn(tmp_path: Path) -> None:
    for jobs in (
        [job(n, {"a": n, "b": -n}, 1.0) for n in range(3)],
        [job(0, {"a": 0, "b": 1}, 0.5), job(1, {"a": 1, "b": 0}, None, "failed")],
    ):
        figure = figure_of(sweep_of(tmp_path, jobs))
        assert {y for _, y in dots(panels(figure)[0], "best")} == {0.5}


def test_where_the_worst_stand_at_the_edge_the_middle_is_the_median(tmp_path: Path) -> None:
    values = [0.9 + n / 100 for n in range(10)] + [0.1, 0.1]
    jobs = [job(n, {"norm": "ab"[n % 2]}, value) for n, value in enumerate(values)]
    (axes,) = figure_of(sweep_of(tmp_path, jobs)).axes
    # two thirds are 0.92 or better: the axis begins at 0.85
    assert sorted(y for _, y in dots(axes, "completed") + dots(axes, "best"))[:2] == [0, 0]
    medians = [(statistics.median(values[first::2]) - 0.85) / 0.14 for first in (0, 1)]
    assert sorted(line.get_ydata()[0] for line in lines_of(axes, 1)) == pytest.approx(sorted(medians))
