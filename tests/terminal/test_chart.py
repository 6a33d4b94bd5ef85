"""Overlaid curves: where the dots are, which letter marks which, and what the scale says."""

from __future__ import annotations

import random

import pytest

from trainrun.terminal.braille import path
from trainrun.terminal.chart import chart, is_wide, span, thinned

RISING = [(step, step / 100) for step in range(0, 101, 10)]
FALLING = [(step, 1 - step / 100) for step in range(0, 101, 10)]


def test_a_curve_alone_is_braille_between_its_ends_and_steps() -> None:
    title, *rows, steps = (line.plain for line in chart("accuracy", {"": RISING}, False, 60, 5))
    assert title == "accuracy"
    drawn = path([(float(x), y) for x, y in RISING], 50, 5, (0, 100), (0, 1))
    assert [row[10:].ljust(50) for row in rows] == [line.replace("⠀", " ") for line in drawn]
    assert [row[:9].strip() for row in rows] == ["1.0000", "", "", "", "0.0000"]
    assert steps.split() == ["step", "0", "step", "100"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_letters_tell_curves_apart_without_colour_and_all_fits(width: int) -> None:
    lines = chart("loss", {"A": RISING, "B": FALLING, "C": []}, False, width, 6)
    assert max(len(line.plain) for line in lines) <= min(width, 100)
    rows = [line.plain[10:] for line in lines[1:-1]]
    inner = min(width, 100) - 10
    for letter, points in (("A", RISING), ("B", FALLING)):
        places = [
            (x, y) for y, row in enumerate(rows) for x, character in enumerate(row) if character == letter
        ]
        assert places
        line = path([(float(x), y) for x, y in points], inner, 6, (0, 100), (0, 1))
        assert all(line[y][x] != "⠀" for x, y in places)  # on its own curve
    assert "C" not in "".join(rows)
    assert {span.style for span in lines[1].spans} >= {"cyan", "magenta"}


def test_a_logarithmic_scale_says_so_and_makes_a_line_of_powers() -> None:
    powers = [(step, 10.0 ** (-step / 20)) for step in range(0, 101, 10)]
    title, *rows, _ = (line.plain for line in chart("loss", {"": powers}, True, 60, 5))
    assert title == "loss, logarithmic"
    straight = path([(float(x), -x / 20) for x, _ in powers], 50, 5, (0, 100), (-5, 0))
    assert [row[10:].ljust(50) for row in rows] == [line.replace("⠀", " ") for line in straight]
    assert (rows[0].split()[0], rows[-1].split()[0]) == ("1.0000", "1e-05")


def test_nothing_to_draw_is_nothing_and_one_point_is_something() -> None:
    assert chart("loss", {"A": [], "B": []}, False, 80, 5) == []
    alone = chart("loss", {"": [(3, 0.0)]}, False, 80, 5)
    assert len(alone) == 7 and alone[-1].plain.split() == ["step", "3"]
    assert span([2.0, 2.0]) == (1.0, 3.0)
    assert span([0.0]) == (-0.5, 0.5)
    assert is_wide([1.0, 41.0]) and not is_wide([1.0, 39.0]) and not is_wide([0.0, 99.0]) and not is_wide([])


@pytest.mark.parametrize("count", [10, 401, 5000, 100_000])
def test_a_thinned_curve_draws_the_same_dots(count: int) -> None:
    draw = random.Random(count)
    points = [(5 * index, draw.gauss(0, 1) + index / count) for index in range(count)]
    few = thinned(points, 500)
    assert len(few) <= 2000 and set(few) <= set(points) and few == sorted(few)
    ranges = span([x for x, _ in points]), span([y for _, y in points])
    whole = path([(float(x), y) for x, y in points], 50, 6, *ranges)
    drawn = path([(float(x), y) for x, y in few], 50, 6, *ranges)
    dots = [ord(a) ^ ord(b) for a, b in zip("".join(whole), "".join(drawn), strict=True)]
    assert sum(map(int.bit_count, dots)) <= 0.02 * 100 * 24


def test_few_points_stay_as_they_are() -> None:
    assert thinned(RISING, 3) is RISING
