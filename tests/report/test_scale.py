"""Where values stand on an axis, and what it is labelled with."""

from __future__ import annotations

import math

import pytest

from trainrun.report.scale import cell_of, is_number, scale_of, scale_of_metric, shortened, text_of


def test_numbers_stand_evenly_and_those_far_apart_by_their_logarithms() -> None:
    even = scale_of([2, 6, 4])
    assert not even.is_log
    assert [even.place(one) for one in (2, 3, 6)] == [0, 0.25, 1]
    wide = scale_of([1e-4, 1e-1, 1e-2])
    assert wide.is_log
    assert [wide.place(one) for one in (1e-4, 1e-3, 1e-1)] == pytest.approx([0, 1 / 3, 1])
    assert [scale_of([1, top]).is_log for top in (20, 20.1)] == [False, True]
    assert not scale_of([0, 1, 1000]).is_log and not scale_of([-1, 1000]).is_log
    assert not scale_of([1, 1000], may_be_log=False).is_log


def test_a_number_beyond_the_ends_stands_at_the_end() -> None:
    scale = scale_of([0.01, 1])
    assert (scale.place(5), scale.place(1e-9), scale.place(0), scale.place(-1)) == (1, 0, 0, 0)


def test_one_number_stands_in_the_middle() -> None:
    assert scale_of([0.25, 0.25]).place(0.25) == 0.5
    assert scale_of([0]).place(0) == 0.5
    assert scale_of(["adam"]).place("adam") == 0.5


def test_texts_stand_evenly_in_the_order_of_their_coming() -> None:
    scale = scale_of(["sgd", "adamw", "sgd", None])
    assert [scale.place(one) for one in ("sgd", "adamw", None)] == [0, 0.5, 1]
    assert scale.ticks() == [(0, "sgd"), (0.5, "adamw"), (1, "null")]
    assert (scale.distinct, scale_of([1, 1, 2]).distinct) == (3, 2)


def test_texts_among_numbers_stand_below_them() -> None:
    scale = scale_of([None, 1, 5, 3])
    assert scale.place(None) == 0 < scale.place(1) < scale.place(5) == 1
    assert scale.place(3) == pytest.approx((scale.place(1) + 1) / 2)
    assert [label for _, label in scale.ticks()] == ["null", "1", "3", "5"]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([32, 64, 128], ["32", "64", "128"]),
        ([0.1, 0.01, 0.001], ["0.001", "0.01", "0.1"]),
        ([n / 100 for n in range(101)], ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ([10 ** (-5 + n / 10) for n in range(41)], ["1e-05", "0.0001", "0.001", "0.01", "0.1"]),
        ([2 * 1.3**n for n in range(14)], ["2", "5", "10", "20", "50"]),
        ([0.8799 + n * 0.0102 for n in range(11)], ["0.88", "0.9", "0.92", "0.94", "0.96", "0.98"]),
    ],
)
def test_few_numbers_are_labelled_themselves_and_many_by_round_ones(
    values: list[float], labels: list[str]
) -> None:
    ticks = scale_of(values).ticks()
    assert [label for _, label in ticks] == labels
    for place, label in ticks:
        assert scale_of(values).place(float(label)) == pytest.approx(place, abs=1e-9)


def test_labels_of_many_texts_are_thinned() -> None:
    ticks = scale_of([f"option_{n}" for n in range(100)]).ticks()
    assert 8 <= len(ticks) <= 14
    assert ticks[0] == (0, "option_0")


@pytest.mark.parametrize("mode", ["max", "min"])
def test_few_far_worse_values_stand_at_the_edge(mode: str) -> None:
    sign = 1 if mode == "max" else -1
    values = [sign * (0.9 + n / 100) for n in range(9)] + [sign * 0.1, sign * 0.2]
    scale = scale_of_metric(values, mode)
    better, worse = (1, 0) if mode == "max" else (0, 1)
    assert scale.place(sign * 0.98) == better
    assert scale.place(sign * 0.1) == scale.place(sign * 0.2) == worse
    # the eighth best of eleven is 0.91, which is two thirds of them: 0.98 - 2 * 0.07
    assert scale.place(sign * 0.84) == pytest.approx(worse, abs=1e-9)
    assert 0 < scale.place(sign * 0.85) < 1
    assert [label for _, label in scale.ticks() if label[0] in "≤≥"] == [
        f"{'≤' if mode == 'max' else '≥'} {sign * 0.84:g}"
    ]


def test_no_edge_where_little_is_won_or_values_are_few_or_most_are_equal() -> None:
    for values in ([n / 10 for n in range(11)], [0.98, 0.97, 0.1], [1.0] * 9 + [0.1]):
        scale = scale_of_metric(values, "max")
        assert not scale.cut and scale.place(min(values)) == 0 and scale.place(max(values)) == 1


def test_only_what_is_to_be_small_is_drawn_by_logarithms() -> None:
    assert scale_of_metric([0.01, 1.0], "min").is_log
    assert not scale_of_metric([0.01, 1.0], "max").is_log


def test_what_is_a_number() -> None:
    assert is_number(1) and is_number(0.5)
    assert not any(map(is_number, (True, None, "1", [1], math.nan, math.inf, 10**400)))


def test_values_are_shown_as_they_are_typed() -> None:
    typed = [None, True, [0.9, 0.99], {"a": [1]}, "adam", 0.1, 3, "a\x1bb"]
    assert [text_of(one) for one in typed] == [
        *("null", "true", "[0.9,0.99]", "{a:[1]}", "adam", "0.1", "3", "a\\x1bb")
    ]
    assert cell_of(0.00247287, 9) == "0.002473"
    assert cell_of(123456, 9) == "123456"


def test_a_long_text_loses_its_middle() -> None:
    assert shortened("[mixup,cutmix,label_smoothing]", 15) == "[mixup,…othing]"
    assert shortened("fifteen letters", 15) == "fifteen letters"
