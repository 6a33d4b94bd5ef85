"""The criteria on curves whose answers are known, and every reason for which there is no suggestion."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from trainrun.tune import criteria
from trainrun.tune.criteria import (
    LRCurve,
    agreed,
    curve,
    longest_fall,
    minimum,
    slide,
    slopes,
    steepest,
    suggest_lr,
    valley,
)

X = np.linspace(-7, 1, 401)  # decades
SCALE = 0.2  # decades, of the fall below


def exactly(height: Callable[[np.ndarray], np.ndarray], x: np.ndarray = X) -> LRCurve:
    """A curve that needs no smoothing."""
    values = height(x)
    return LRCurve(10**x, values, values, np.zeros_like(values))


def falls(x: np.ndarray, centre: float = -3.0, rise: float = -1.5) -> np.ndarray:
    """From 2.5 to 0.5 around `centre`, as a logistic function of the rate's logarithm; then a rise."""
    return 2.5 - 2 / (1 + np.exp(-(x - centre) / SCALE)) + np.where(x > rise, 3 * (x - rise) ** 2, 0)


def smoothed(loss: np.ndarray, start: np.ndarray, x: np.ndarray) -> LRCurve:
    return curve((10**x).tolist(), loss.tolist(), start.tolist())


def test_smoothing_leaves_a_line_as_it_is() -> None:
    x = np.linspace(-6, 0, 60)
    line = 2 - 0.1 * x
    fit = smoothed(line, np.zeros(60), x)
    np.testing.assert_allclose(fit.smooth, line, rtol=1e-9)
    np.testing.assert_allclose(fit.error, 0, atol=1e-9)
    np.testing.assert_allclose(slopes(fit), -0.1, rtol=1e-6)


def test_what_makes_a_batch_hard_is_taken_away() -> None:
    x, random = np.linspace(-7, 0, 100), np.random.default_rng(0)
    noise = 0.3 * random.normal(size=100)
    fit = smoothed(2 - 0.1 * x + noise, 5 + noise, x)
    np.testing.assert_allclose(fit.smooth, 2 - 0.1 * x + noise.mean(), rtol=1e-9)
    halved = smoothed(2 - 0.1 * x + noise / 2, 5 + noise, x)
    np.testing.assert_allclose(halved.smooth, 2 - 0.1 * x + noise.mean() / 2, rtol=1e-9)


def test_the_error_is_that_of_the_noise_that_is_left() -> None:
    x, random = np.linspace(-7, 1, 101), np.random.default_rng(0)
    curves = [smoothed(10 + random.normal(size=101), random.normal(size=101), x) for _ in range(200)]
    spread = np.std([each.smooth[50] for each in curves])
    assert np.mean([each.error[50] for each in curves]) == pytest.approx(spread, rel=0.25)


def test_a_minimum_is_not_shifted_and_where_the_curve_blows_up_does_not_reach_back() -> None:
    x = np.linspace(-7, 1, 100)
    loss = 1 + (x + 3) ** 2 / 10
    loss[x > -1] = 1e9
    loss[-1] = math.inf
    fit = smoothed(loss, np.zeros(100), x)
    assert len(fit.lr) == 99
    assert math.log10(fit.lr[fit.lowest]) == pytest.approx(-3, abs=0.05)


def test_steepest_is_where_a_logistic_fall_is_half_way() -> None:
    assert steepest(exactly(falls)) == pytest.approx(1e-3, rel=0.03)


def test_minimum_is_a_tenth_of_the_lowest() -> None:
    assert minimum(exactly(lambda x: (x + 2) ** 2)) == pytest.approx(1e-3, rel=0.03)
    assert minimum(exactly(lambda x: -x)) is None


def test_slide_is_where_a_logistic_fall_has_a_quarter_of_its_slope() -> None:
    share = (1 + math.sqrt(1 - 0.25)) / 2  # s (1 - s) is a quarter of a quarter there
    place = -3 + SCALE * math.log(share / (1 - share))
    assert math.log10(slide(exactly(falls)) or 0) == pytest.approx(place, abs=0.02)
    assert slide(exactly(lambda x: -x)) is None


def test_valley_is_two_thirds_into_the_fall_itself() -> None:
    def fall(x: np.ndarray) -> np.ndarray:  # hardly at all, then from 1e-4 to 1e-1, then up
        return np.interp(x, [-7, -4, -1, 1], [2.001, 2.0, 1.0, 3.0])

    begin, end = -4 + 3 * 0.05, -1 - 3 * 0.05  # but for a twentieth at either end
    place = math.log10(valley(exactly(fall)) or 0)
    assert place == pytest.approx(begin + 2 / 3 * (end - begin), abs=0.02)
    assert valley(exactly(lambda x: x)) is None


def test_the_longest_fall_is_as_long_as_the_longest_of_all() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        values = random.integers(0, 8, 9).astype(float)
        path = longest_fall(values)
        assert all(a < b and values[a] > values[b] for a, b in itertools.pairwise(path))
        longest = max(
            len(subset)
            for size in range(1, 10)
            for subset in itertools.combinations(values, size)
            if all(a > b for a, b in itertools.pairwise(subset))
        )
        assert len(path) == longest


def test_a_lower_minimum_after_a_rise_is_another_course() -> None:
    def two(x: np.ndarray) -> np.ndarray:
        return np.interp(x, [-7, -4, -2, -1, 0, 1], [2.0, 2.0, 1.0, 1.6, 0.9, 3.0])

    assert exactly(two).lr[exactly(two).lowest] == pytest.approx(1e-2, rel=0.03)

    def ripples(x: np.ndarray) -> np.ndarray:  # before it has come half of the way
        return np.interp(x, [-7, -5, -4.8, -4.5, -2, 1], [2.0, 1.7, 2.0, 1.7, 1.0, 3.0])

    assert exactly(ripples).lr[exactly(ripples).lowest] == pytest.approx(1e-2, rel=0.03)


def test_the_suggestion_lies_between_the_upper_two_of_those_that_agree() -> None:
    verdict = suggest_lr(exactly(falls), diverged=True)
    rates = sorted(rate for rate in verdict.criteria.values() if rate)
    assert len(verdict.agreeing) == 4 and rates[-1] <= 15 * rates[0]
    assert verdict.suggestion == pytest.approx(math.sqrt(rates[-1] * rates[-2]))
    assert not verdict.reason and not verdict.instead


def test_those_that_agree_are_the_most_within_a_factor_of_fifteen() -> None:
    assert agreed({"a": 1.0, "b": 15.0, "c": 16.0, "d": 200.0}) == ("b", "c", "d")
    assert agreed({"a": 1.0, "b": 2.0, "c": 1000.0, "d": 1001.0}) == ("c", "d")
    assert agreed({"a": 3.0}) == ("a",)
    assert agreed({}) == ()


def noisy(x: np.ndarray) -> np.ndarray:
    return 2 + np.random.default_rng(0).normal(size=len(x))


@pytest.mark.parametrize(
    ("height", "diverged", "reason", "instead"),
    [
        (lambda x: 2 - 0.001 * x, False, "never fell clearly", {"--max": 1000.0}),
        (lambda x: 2 + 0.1 * (x + 7), False, "never fell clearly", {"--max": 1000.0}),
        (lambda x: np.where(x < -1, 2.0, 50.0), True, "before it diverged", {}),
        (lambda x: falls(x, centre=0.5, rise=2.0), False, "still falls at lr 10", {"--max": 1000.0}),
        (lambda x: falls(x, centre=-7.0, rise=-4.0), True, "where the range begins", {"--min": 1e-10}),
        (noisy, False, "never fell clearly", {"--max": 1000.0}),
    ],
    ids=["flat", "rising", "thrown up", "still falling", "falling from the start", "noise"],
)
def test_why_there_is_none(
    height: Callable[[np.ndarray], np.ndarray], diverged: bool, reason: str, instead: dict[str, float]
) -> None:
    x = np.linspace(-7, 1, 100)
    verdict = suggest_lr(smoothed(height(x), np.zeros(100), x), diverged)
    assert verdict.suggestion is None and not verdict.agreeing
    assert set(verdict.criteria) == set(criteria.CRITERIA)
    assert reason in verdict.reason
    assert dict(verdict.instead) == pytest.approx(instead)


def test_few_steps_that_show_no_fall_ask_for_more() -> None:
    x = np.linspace(-7, 1, 30)
    verdict = suggest_lr(smoothed(np.where(x < -1, 2.0, 50.0), np.zeros(30), x), diverged=True)
    assert "never fell clearly" in verdict.reason and dict(verdict.instead) == {"--steps": 90}


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_loss_that_diverges_at_once_is_told(count: int) -> None:
    losses = [2.0] * count + [math.inf]
    rates = [1.0 * 1.2**step for step in range(count + 1)]
    verdict = suggest_lr(curve(rates, losses, [0.0] * (count + 1)), diverged=True)
    assert verdict.suggestion is None
    if count:
        assert f"diverged within {count} steps, from lr 1 to" in verdict.reason
        assert dict(verdict.instead) == {"--min": 1e-3}
    else:
        assert "first loss is not finite" in verdict.reason and not verdict.instead


def test_criteria_far_apart_give_no_suggestion() -> None:
    """A short steep fall, a long gentle one far above it, and a minimum farther still."""
    corners = [-7, -6, -5.9, -2.6, -0.5, 1], [3.0, 3.0, 2.0, 2.0, 1.55, 3.0]
    verdict = suggest_lr(exactly(lambda x: np.interp(x, *corners)), diverged=True)
    assert verdict.suggestion is None and "no three criteria" in verdict.reason
    assert dict(verdict.instead) == {"--steps": 3 * len(X)}
