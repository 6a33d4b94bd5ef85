"""The search against brute force, and what follows from the sizes it tried."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from trainrun.tune.batch import (
    BatchSearchResult,
    TriedSize,
    are_alike,
    beyond,
    cuts,
    cuts_of_all,
    fastest,
    first_of,
    largest,
    rounded,
)


@pytest.mark.parametrize("window", [1, 2, 7, 12, 60, 64, 97, 1260])
def test_cuts_are_all_divisors(window: int) -> None:
    divisors = [n for n in range(1, window + 1) if window % n == 0]
    assert list(cuts(window)) == divisors
    assert all(size * pieces == window for size, pieces in cuts(window).items())


@pytest.mark.parametrize("size", [1, 2, 10, 97, 1257])
def test_cuts_of_the_whole_training_set_are_the_least_that_make_so_many_pieces(size: int) -> None:
    assert list(cuts_of_all(size)) == sorted({math.ceil(size / n) for n in range(1, size + 1)})
    for part, pieces in cuts_of_all(size).items():
        assert part * (pieces - 1) < size <= part * pieces


@pytest.mark.parametrize("most", [1, 2, 5, 270, 10000])
def test_rounded_sizes_are_close_to_each_other_and_end_with_all(most: int) -> None:
    sizes = list(rounded(most))
    assert sizes[0] == 1 and sizes[-1] == most and sizes == sorted(set(sizes))
    assert all(after - before <= max(1, before / 4) for before, after in pairwise(sizes))
    assert all(pieces == math.ceil(most / size) for size, pieces in rounded(most).items())


@pytest.mark.parametrize("sizes", [cuts(64), cuts(60), cuts(97), cuts(1), cuts_of_all(100), rounded(270)])
@pytest.mark.parametrize("is_free", [True, False])
def test_the_search_finds_what_trying_all_would(sizes: dict[int, int], is_free: bool) -> None:
    order = list(sizes)
    for limit in [0, *order]:
        asked: list[int] = []

        def fits(size: int, limit: int = limit, asked: list[int] = asked) -> bool:
            asked.append(size)
            return size <= limit

        fitting = largest(order, first_of(sizes, is_free), fits)
        assert fitting == max((size for size in order if size <= limit), default=None)
        assert len(asked) == len(set(asked)) <= 6 + 2 * math.ceil(math.log2(len(order) + 1))


def test_sizes_that_cannot_be_run_are_left_out() -> None:
    order = list(cuts(60))
    for broken in range(1 << 5):
        bad = {size for index, size in enumerate((1, 2, 10, 30, 60)) if broken >> index & 1}
        for limit in (0, 1, 5, 15, 60):
            fitting = largest(order, 4, lambda size: None if size in bad else size <= limit)  # noqa: B023
            assert fitting == max((size for size in order if size <= limit and size not in bad), default=None)


def test_a_free_search_begins_with_a_power_of_two_a_sixteenth_below() -> None:
    assert first_of(cuts(64), False) == 4
    assert first_of(cuts(97), False) == 97  # a prime has no other but 1
    assert first_of(rounded(10000), True) == 1024
    assert first_of(rounded(3), True) == 1


def test_beyond_the_window_sizes_double_up_to_the_one_asked_for() -> None:
    assert beyond(64, 64) == beyond(64, 10) == []
    assert beyond(64, 300) == [128, 256, 300]
    assert beyond(64, 256) == [128, 256]
    assert beyond(60, 100) == [100]


def of(size: int, rate: float, noise: float = 0.0, fits: bool = True, is_beyond: bool = False) -> TriedSize:
    return TriedSize(size, 64 // size, fits, samples_per_s=rate, noise=noise, is_beyond=is_beyond)


def test_the_fastest_is_the_smallest_within_noise() -> None:
    assert fastest([of(8, 50), of(16, 95), of(32, 100), of(64, 99)]) == of(16, 95)
    assert fastest([of(8, 80, noise=0.2), of(32, 100)]) == of(8, 80, noise=0.2)
    assert fastest([of(8, 27, noise=3.0), of(32, 100)]) == of(32, 100)  # a busy machine is no excuse
    assert fastest([of(8, 50), of(16, 1000, is_beyond=True), of(32, 900, fits=False)]) == of(8, 50)
    assert fastest([of(8, 0.0, fits=False)]) is None
    assert are_alike(of(1, 91), of(2, 100)) and not are_alike(of(1, 89), of(2, 100))


def test_a_rival_is_smaller_and_no_slower() -> None:
    slow, quick = of(16, 95), of(64, 100)
    assert BatchSearchResult((slow, quick), quick).rival == slow
    assert BatchSearchResult((of(16, 50), quick), quick).rival is None


def test_less_goes_down_to_the_next_size_that_fits_and_marks_the_one_before() -> None:
    result = BatchSearchResult((of(8, 1), of(16, 1, fits=False), of(32, 1)), of(32, 1))
    assert result.less("no") is None or result.tried[2] == result.largest
    result = BatchSearchResult(result.tried, result.tried[2])
    lower = result.less("no")
    assert lower is not None and lower.largest.size == 8
    assert (lower.tried[2].fits, lower.tried[2].why) == (False, "no")
    assert lower.less("no") is None
