"""What is drawn of a range test lies where its rates are."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from trainrun.report.range_test import RangeTest, chart, picture, table
from trainrun.tune.criteria import LRCurve, LRVerdict, curve, suggest_lr

X = np.linspace(-6, 0, 90)


def a_test(height: np.ndarray, diverged: bool = False) -> RangeTest:
    rates = curve((10**X).tolist(), height.tolist(), [0.0] * len(X))
    return RangeTest(rates, suggest_lr(rates, diverged), diverged)


FALL = 2.5 - 2 / (1 + np.exp(-(X + 3) / 0.2))  # to 0.5 around 1e-3, and up again from 1e-2
BOWL = a_test(FALL + np.where(X > -2, 2 * (X + 2) ** 2, 0), diverged=True)
FLAT = a_test(np.full(len(X), 2.0))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_chart_fits_and_its_marks_stand_below_their_rates(width: int) -> None:
    lines = [line.plain for line in chart(BOWL, width)]
    assert max(map(len, lines)) <= min(width, 100)
    inner = min(width, 100) - 10
    axis = next(n for n, line in enumerate(lines) if "1e-06" in line)
    below = lines[axis + 1 :]
    marks = dict(zip("abcd", BOWL.verdict.criteria.values(), strict=True)) | {"^": BOWL.verdict.suggestion}
    for mark, lr in marks.items():
        assert lr
        column = 10 + round((math.log10(lr) + 6) / 6 * (inner - 1))
        assert any(row[column : column + 1] == mark for row in below)
    drawn = [n for n, character in enumerate(lines[axis - 1]) if "\u2800" < character <= "\u28ff"]
    lowest = 10 + round((math.log10(BOWL.curve.lr[BOWL.curve.lowest]) + 6) / 6 * (inner - 1))
    assert min(drawn) <= lowest <= max(drawn)


def test_the_axis_names_powers_of_ten_in_their_places() -> None:
    axis = next(line.plain for line in chart(BOWL, 80) if "1e-06" in line.plain)
    for power in (-5, -4, -3, -2, -1):
        assert axis.index(f"{10.0**power:g}") == pytest.approx(10 + (power + 6) / 6 * 69, abs=1)


def test_the_table_has_a_line_for_each_criterion_and_the_suggestion() -> None:
    lines = [line.plain for line in table(BOWL.verdict)][1:]
    assert [line.split()[1] for line in lines] == [*BOWL.verdict.criteria, "suggestion"]
    rates = {"steepest": 0.01, "minimum/10": 0.02, "valley": None, "slide": 9.0}
    lines = [line.plain for line in table(LRVerdict(rates, ("steepest", "minimum/10"), 0.015, "", {}))]
    assert "apart" in lines[4] and " - " in lines[3] and "apart" not in lines[3]


def test_where_nothing_was_found_there_is_no_table_and_of_few_points_no_chart() -> None:
    assert table(FLAT.verdict) == []
    assert len(chart(FLAT, 80)) == 12
    few = curve([1.0, 2.0], [1.0, 9.0], [0.0, 0.0])
    assert chart(RangeTest(few, suggest_lr(few, True), True), 80) == []


@pytest.mark.parametrize("count", [0, 1, 2, 90])
def test_a_picture_is_drawn_of_any_curve(count: int, tmp_path: Path) -> None:
    rates = LRCurve(*(part[:count] for part in (10**X, X**2, X**2, X)))
    picture(RangeTest(rates, suggest_lr(rates, False), False), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_the_picture_names_its_axes_and_every_rate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *rest, **more: drawn.append(self))
    picture(BOWL, tmp_path / "a.png")
    (axes,) = drawn[0].axes
    assert axes.get_xscale() == "log"
    assert "learning rate" in axes.get_xlabel() and "loss" in axes.get_ylabel()
    upright = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2]
    assert upright == [*BOWL.verdict.criteria.values(), BOWL.verdict.suggestion]
