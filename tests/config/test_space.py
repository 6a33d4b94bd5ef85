"""Axes against products and pairs written out by hand."""

from __future__ import annotations

import pytest

from trainrun.config.space import Choices, SearchInterval, corners, grid, paired, split_replicates, zipped
from trainrun.vocabulary.errors import ConfigError


def choices(key: str, *values: object) -> Choices:
    return Choices(key, tuple((f"{key}={value}",) for value in values))


A, B, SEED = choices("a", 1, 2), choices("b", "x", "y"), choices("seed", 0, 1, 2)
LR = SearchInterval("lr", 1e-3, 1e-1, is_log=True, is_int=False)


def test_a_grid_is_every_combination_the_last_axis_fastest() -> None:
    assert grid([A, B]) == [("a=1", "b=x"), ("a=1", "b=y"), ("a=2", "b=x"), ("a=2", "b=y")]
    assert grid([]) == [()]


def test_zipped_axes_go_first_with_first_and_cross_the_rest() -> None:
    axes = zipped([A, SEED, B], [["b", "a"]])
    assert grid(axes) == [
        (*pair, seed) for pair in (("b=x", "a=1"), ("b=y", "a=2")) for seed in ("seed=0", "seed=1", "seed=2")
    ]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["a", "seed"], "a has 2, seed has 3 values"),
        (["a", "nope"], "nope is not swept; there are a, b, seed"),
        (["a", "lr"], "lr is drawn from an interval"),
        (["a", "a"], "a twice"),
    ],
)
def test_what_cannot_be_paired_is_refused(keys: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        zipped([A, B, SEED, LR], [keys])
    with pytest.raises(ConfigError, match="a twice"):
        zipped([A, B, choices("c", 1, 2)], [["a", "b"], ["a", "c"]])


def test_pairs_are_one_list_or_several() -> None:
    assert paired(["a", "b"]) == [["a", "b"]]
    assert paired([["a", "b"], ["c", "d"]]) == [["a", "b"], ["c", "d"]]
    assert paired([]) == paired(None) == paired(3) == []


def test_seeds_and_folds_repeat_what_is_searched() -> None:
    fold = choices("data.fold", 0, 1)
    assert split_replicates([A, SEED, LR, fold]) == ([A, LR], [SEED, fold])


def test_corners_have_every_value_and_both_ends() -> None:
    points = list(corners([A, SEED, LR]))
    assert len(points) == 3
    words = {word for point in points for word in point}
    assert words == {"a=1", "a=2", "seed=0", "seed=1", "seed=2", "lr=0.001", "lr=0.1"}


def test_a_whole_numbers_word_is_whole() -> None:
    assert SearchInterval("n", 1, 9, is_log=False, is_int=True).word(4.0) == "n=4"
    assert LR.word(0.25) == "lr=0.25"
