"""The first loss against the formula, and what makes it too large."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from trainrun.check.context import CheckContext
from trainrun.check.initial_loss import start


def test_the_expected_value_is_ln_c(make_context: Callable[..., CheckContext]) -> None:
    section = start(make_context("data=digits", "model=mlp"))
    assert section.findings == ()
    assert math.isclose(section.values["expected"], math.log(10), rel_tol=1e-6)
    assert "= ln 10" in section.lines[0][1]


def test_of_standardised_targets_it_is_about_their_variance(
    make_context: Callable[..., CheckContext],
) -> None:
    section = start(make_context("data=diabetes"))
    assert section.findings == ()
    assert section.values["expected"] == pytest.approx(1, abs=0.5)


def test_weights_that_are_too_large_are_mended_by_the_init(make_context: Callable[..., CheckContext]) -> None:
    (finding,) = start(make_context("data=digits", "model=mlp", "init=normal", "init.std=1")).findings
    assert (finding.name, finding.fix) == ("loss at start", ("init=auto",))


def test_targets_in_units_of_their_own_are_named(make_context: Callable[..., CheckContext]) -> None:
    (finding,) = start(make_context("data=diabetes", "task.standardize=false")).findings
    assert (finding.name, finding.fix) == ("targets not standardised", ("task.standardize=true",))
