"""The words of `trainrun find-lr`: limits just met and just missed, and what is proposed instead."""

from __future__ import annotations

from argparse import Namespace

import pytest

from trainrun.cli.find_lr import _counted, _instead, _refuse
from trainrun.tune.lr import LRPoint
from trainrun.vocabulary.errors import ConfigError


@pytest.mark.parametrize(
    ("low", "high", "steps", "key"),
    [
        (0.0, 1.0, 20, "--min"),
        (1e-12, 1.0, 20, None),
        (1.0, 1.0, 20, "--max"),
        (1.0, 1.001, 20, None),
        (1.0, float("inf"), 20, "--max"),
        (1e-3, 1.0, 19, "--steps"),
    ],
)
def test_a_range_that_is_none_is_refused(low: float, high: float, steps: int, key: str | None) -> None:
    arguments = Namespace(min=low, max=high, steps=steps)
    refused: list[str] = []
    try:
        _refuse(arguments)
    except ConfigError as error:
        refused = [problem.key for problem in error.problems]
    assert refused == ([key] if key else [])


def test_without_a_suggestion_another_range_or_a_check_is_proposed() -> None:
    arguments = Namespace(min=1e-7, max=10.0, steps=100, overrides=["data=wine"])
    expected = ["trainrun", "find-lr", "--min", "1e-07", "--max", "100", "--steps", "100", "data=wine"]
    assert _instead(arguments, {"--max": 100.0}) == expected
    assert _instead(arguments, {}) == ["trainrun", "check", "data=wine"]


def test_points_pass_through_below_a_title_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    points = [LRPoint(0.1, 1.0, 1.0), LRPoint(0.2, 0.9, 1.0)]
    assert list(_counted("2 steps", points)) == points
    assert capsys.readouterr().err == "2 steps\n"
