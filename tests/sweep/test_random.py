"""Draws against the distributions that they claim to have."""

from __future__ import annotations

import math
import statistics
from collections import Counter

import pytest

from trainrun.config.compose.exclusion import Exclusion, exclusion
from trainrun.config.space import Choices, SearchInterval
from trainrun.sweep.random import Random, draw
from trainrun.vocabulary.errors import ConfigError

LR = SearchInterval("lr", 1e-5, 1e-1, is_log=True, is_int=False)
P = SearchInterval("p", 0.1, 0.5, is_log=False, is_int=False)
WIDTH = SearchInterval("width", 1, 4, is_log=False, is_int=True)
DEPTH = SearchInterval("depth", 1, 64, is_log=True, is_int=True)
SIZE = Choices("size", (("size=32",), ("size=64",)))
NONE = Exclusion()
SEED = Choices("seed", (("seed=0",), ("seed=1",)))


def values(axis: SearchInterval, count: int = 4000) -> list[float]:
    return [float(draw([axis], 0, number)[0].partition("=")[2]) for number in range(count)]


def test_draws_are_uniform_or_uniform_in_the_logarithm() -> None:
    # the mean of n uniform draws has a standard error of 0.289 / sqrt n of the width: five of them
    error = 5 * 0.289 / math.sqrt(4000)
    logs = [(math.log10(value) + 5) / 4 for value in values(LR)]
    assert min(logs) >= 0 and max(logs) <= 1
    assert abs(statistics.mean(logs) - 0.5) < error
    assert abs(statistics.pvariance(logs) - 1 / 12) < 0.01
    shares = [(value - 0.1) / 0.4 for value in values(P)]
    assert min(shares) >= 0 and max(shares) <= 1
    assert abs(statistics.mean(shares) - 0.5) < error


def test_whole_numbers_are_equally_likely_the_ends_included() -> None:
    counts = Counter(values(WIDTH))
    assert set(counts) == {1, 2, 3, 4}
    assert all(abs(count - 1000) < 5 * math.sqrt(4000 * 0.25 * 0.75) for count in counts.values())
    assert {1, 64} <= set(values(DEPTH)) <= set(range(1, 65))


def test_a_log_scale_gives_every_factor_of_two_the_same_share_of_whole_numbers() -> None:
    low = sum(value < 8 for value in values(DEPTH)) / 4000
    assert abs(low - 0.5) < 0.08  # of log2(1..64), 1 to 7 are half, but for rounding at the ends


def test_choices_are_equally_likely() -> None:
    drawn = Counter(draw([SIZE], 0, number) for number in range(4000))
    assert set(drawn) == set(SIZE.values)
    assert abs(drawn["size=32",] - 2000) < 5 * math.sqrt(1000)


def test_a_point_follows_from_seed_and_number_alone() -> None:
    ten, twenty = (Random(3, {}, [LR, SIZE], NONE, n).points for n in (10, 20))
    assert twenty[:10] == ten
    assert len(set(twenty)) == 20
    assert Random(4, {}, [LR, SIZE], NONE, 10).points != ten


def test_every_point_is_tried_with_every_replicate() -> None:
    points = Random(0, {}, [SEED, LR], NONE, 3).points
    assert [point.trial for point in points] == [0, 0, 1, 1, 2, 2]
    assert [point.words[-1] for point in points] == ["seed=0", "seed=1"] * 3
    assert len({point.words[0] for point in points}) == 3


def rate(words: tuple[str, ...]) -> float:
    return next(float(word.partition("=")[2]) for word in words if word.startswith("lr="))


def test_excluded_points_are_drawn_anew_and_the_others_stay() -> None:
    excludes = exclusion(["lr<0.001 and size=64"], [LR, SIZE], False)
    wide = [point.words for point in Random(0, {}, [LR, SIZE], NONE, 60).points]
    allowed = [words for words in wide if not (rate(words) < 1e-3 and "size=64" in words)]
    search = Random(0, {}, [LR, SIZE], excludes, 30)
    assert [point.words for point in search.points] == allowed[:30]
    count = wide.index(allowed[29]) + 1 - 30
    assert count > 3 and search.about == f"30 random points; {count} excluded by sweep.exclude, drawn anew"
    replicated = Random(0, {}, [SEED, LR, SIZE], excludes, 30).points
    assert [point.words for point in replicated[::2]] == [(*words, "seed=0") for words in allowed[:30]]


def test_rules_that_no_point_meets_are_said_and_those_that_all_meet_refused() -> None:
    search = Random(0, {}, [LR], exclusion(["lr>1"], [LR], False), 3)
    assert search.about == "3 random points; none excluded by sweep.exclude"
    with pytest.raises(ConfigError, match=r"sweep\.exclude: leaves out all but 0 of 3000 points"):
        Random(0, {}, [LR], exclusion(["lr<1"], [LR], False), 3)
