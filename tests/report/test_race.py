"""The race's table and pictures: what they say of races made by hand."""

from __future__ import annotations

from pathlib import Path

from trainrun.report import race
from trainrun.tune.rosenbrock import START, RacePath

ARRIVING = RacePath(0.1, 4, [START, (0.0, 0.0), (0.5, 0.25), (0.95, 0.9025), (1.0, 1.0)], False)
LOST = RacePath(10.0, 3, [START, (50.0, 3.0), (60.0, -9.0)], True)
RACES = {"one": ARRIVING, "two(10)": LOST}


def test_the_table_says_rates_steps_losses_and_distances() -> None:
    head, first, two = race.table(RACES)
    assert head.split() == ["optimizer", "lr", "gradients", "loss", "<", "0.01", "last", "loss", "distance"]
    assert first.split() == ["one", "0.1", "4", "step", "3", "0", "0"]
    assert two.split() == ["two(10)", "10", "3", "-", "diverged,", "step", "3"]


def test_small_pictures_fit_the_terminal_to_one_scale() -> None:
    for width in (60, 79, 300):
        lines = race.pictures(RACES, 4, width)
        assert max(map(len, lines)) == min(width, 100)
        assert [line for line in lines if "lr" in line] == ["one, lr 0.1", "two(10), lr 10"]
        assert sum(" 1e+02 " in line for line in lines) == 2
        assert sum(" 1e-16 " in line for line in lines) == 2  # where a loss of 0 is drawn
        assert sum("*" in line for line in lines[:-1]) == 2
        assert lines[-1].endswith("step 4")


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    for count in (1, 2):
        race.picture(dict(list(RACES.items())[:count]), tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
