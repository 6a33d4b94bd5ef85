"""Splits by group and by time, and weights: by brute force on tables, arrays and own data sets."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainrun.data.extra_columns import ExtraColumns, column_of
from trainrun.data.resident import Holdout
from trainrun.protocols import DataInfo
from trainrun.vocabulary.errors import ConfigError, DataError

INFO = DataInfo("toy", (1,), "classes", 2, {}, fingerprint="0123456789abcdef")


def holdout(val: float = 0.2, test: float = 0.2, **more: Any) -> Holdout:
    settings = {"split_seed": 0, "limit": None, "fold": None, "num_folds": 5}
    return Holdout(val, test, **{**settings, **more})  # type: ignore[arg-type]


def by(setting: str, values: list[Any], **more: Any) -> dict[str, Tensor]:
    column = ExtraColumns(
        **{"group": None, "time": None, "weights": None, setting: "c"}, column=lambda _: values
    )
    return column.split(torch.arange(len(values)), holdout(**more), None)


def chosen(values: list[Any], part: Tensor) -> set[Any]:
    return {values[index] for index in part.tolist()}


@given(st.lists(st.integers(0, 30), min_size=60, max_size=120), st.integers(0, 5))
def test_no_group_is_in_two_splits(groups: list[int], seed: int) -> None:
    groups = [*range(8), *groups]
    splits = by("group", groups, split_seed=seed)
    sets = [chosen(groups, splits[name]) for name in ("train", "val", "test")]
    assert all(sets) and sum(map(len, sets)) == len(set.union(*sets)) == len(set(groups))
    assert torch.cat(list(splits.values())).sort().values.tolist() == list(range(len(groups)))
    again = by("group", groups, split_seed=seed)
    assert all(torch.equal(splits[name], again[name]) for name in splits)
    assert len(sets[1]) == len(sets[2]) == round(0.2 * len(set(groups)))


def test_every_group_is_tested_in_one_of_the_folds() -> None:
    groups = [f"p{number % 13}" for number in range(90)]
    tested = []
    for fold in range(4):
        splits = by("group", groups, fold=fold, num_folds=4)
        tested += sorted(chosen(groups, splits["test"]))
        assert not chosen(groups, splits["test"]) & chosen(
            groups, torch.cat([splits["train"], splits["val"]])
        )
    assert sorted(tested) == sorted(set(groups))


@given(st.lists(st.integers(0, 40), min_size=60, max_size=120).filter(lambda times: len(set(times)) > 20))
def test_validation_and_test_are_the_latest_and_ties_stay_together(times: list[int]) -> None:
    times = [*range(10), *times]
    splits = by("time", times)
    train, val, test = (chosen(times, splits[name]) for name in ("train", "val", "test"))
    assert max(train) < min(val) and max(val) < min(test)
    assert sum(map(len, splits.values())) == len(times)
    sizes = [len(splits["test"]), sum(time >= min(test) for time in times)]
    later = sum(time > min(test) for time in times)
    earlier = sum(time >= max(train | val) for time in times)
    wanted = round(0.2 * len(times))
    assert sizes[0] == sizes[1] and abs(sizes[0] - wanted) <= min(abs(later - wanted), abs(earlier - wanted))


def test_without_ties_a_split_by_time_has_the_size_asked_for() -> None:
    times = random.Random(0).sample(range(1000), 100)
    splits = by("time", times, val=0.15, limit=30)
    assert [len(splits[name]) for name in ("train", "val", "test")] == [30, 15, 20]
    assert max(chosen(times, splits["train"])) < sorted(times)[65]


@pytest.mark.parametrize(
    "texts",
    [
        ["2026-01-09", "2026-01-10", "2026-02-01", "2026-10-01", "2027-01-01"],
        ["2026-01-09 23:00", "2026-01-10T01:00:00", "2026-02-01 00:00", "2026-10-01 08:30", "2027-01-01"],
        ["2026-01-01T23:00:00+00:00", "2026-01-02T00:30:00+01:00", *["2026-01-02T00:30:00Z"] * 1]
        + ["2026-02-02", "2026-03-01"],
        ["9", "10", "11.5", "100", "1e3"],
    ],
)
def test_times_are_compared_as_what_they_are(texts: list[str]) -> None:
    """Sorted as texts, "10" would be before "9"."""
    splits = by("time", texts[::-1])
    assert [chosen(texts[::-1], splits[name]) for name in ("val", "test")] == [{texts[3]}, {texts[4]}]


@pytest.mark.parametrize(
    ("setting", "values", "more", "text"),
    [
        ("group", ["a", "b"] * 20, {}, "c has 2 different values, which leaves none for test"),
        ("time", ["2026-01-01"] * 40, {}, "c has 1 different values, which leaves none for train"),
        ("time", ["soon"] * 40, {}, "c must hold numbers, or dates such as 2026-12-31"),
        ("time", ["2026-01-01"] * 30 + ["soon", "7"] * 5, {}, "got 'soon' for sample 30"),
        ("time", ["1", "2.5"] * 10 + ["2026-01-01"], {}, "got '2026-01-01' for sample 20"),
        ("group", ["a", ""] * 20, {}, "sample 1 has no c"),
        ("time", [1.0, float("nan")] * 20, {}, "sample 1 has no c"),
        ("time", list(range(40)), {"fold": 1}, "data.fold: takes a part by chance"),
        ("group", list(range(40)), {"val": 0, "test": 0}, "data.group: has no effect"),
        ("group", ["a", "b", "c"] * 9, {"fold": 4}, "c has 3 different values"),
    ],
)
def test_what_cannot_decide_is_refused(setting: str, values: list[Any], more: Any, text: str) -> None:
    with pytest.raises((ConfigError, DataError)) as raised:
        by(setting, values, **more)
    assert text in str(raised.value) and str(raised.value).startswith("data.")


def test_both_at_once_or_a_given_validation_split_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^data.time: decides the splits, and so does data.group"):
        ExtraColumns("a", "b", None, lambda _: [1, 2])
    column = ExtraColumns("a", None, None, lambda _: [*range(30)])
    with pytest.raises(
        ConfigError, match=r"^data.group: has no effect because the validation split is given"
    ):
        column.split(torch.arange(30), holdout(), None, {"val"})
    splits = column.split(torch.arange(20), holdout(), None, {"test"})  # those of the given split follow
    assert splits.keys() == {"train", "val"} and torch.cat(list(splits.values())).max() == 19


@pytest.mark.parametrize("value", [-1, "heavy", float("inf"), [1, 2], None, float("nan")])
def test_what_is_no_weight_is_named(value: Any) -> None:
    with pytest.raises(
        DataError,
        match=r"^data.weights: (sample 1 (must have at least 0 as|has no) w|w must hold numbers of)",
    ):
        ExtraColumns(None, None, "w", lambda _: [1, value, 2])


def test_columns_are_part_of_the_fingerprint_and_of_the_plan() -> None:
    splits = {"train": torch.tensor([0, 1]), "val": torch.tensor([2]), "test": torch.tensor([])}
    plain = ExtraColumns(None, None, None, lambda _: [])
    assert plain.described(INFO, splits) == INFO
    first, other = (
        ExtraColumns("g", None, "w", {"g": "aab", "w": weights}.__getitem__)
        for weights in ([1, 0, 2], [1, 1, 2])
    )
    assert first.described(INFO, splits).fingerprint != other.described(INFO, splits).fingerprint
    assert first.described(INFO, splits).notes == ("no g is in two splits",)
    with pytest.raises(DataError, match=r"data.weights: all samples of val weigh 0"):
        ExtraColumns(None, None, "w", lambda _: [1, 1, 0]).described(INFO, splits)
    times = ExtraColumns(None, "t", None, lambda _: ["2026-05-02", "2026-05-01", "2026-05-03"])
    assert times.described(INFO, splits).notes == ("the latest t is held out",)


class Scans(torch.utils.data.Dataset[Any]):
    read = 0
    site = ("a", "b", "a")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        self.read += 1
        return {"x": 1.0, "age": np.int64(index)} | ({"grade": 1} if index < 2 else {})


def test_a_column_is_an_attribute_or_an_entry_of_every_sample(tmp_path: Path) -> None:
    scans = Scans()
    assert list(column_of(scans, "site")) == ["a", "b", "a"] and scans.read == 0
    assert list(column_of(scans, "age")) == [0, 1, 2]
    with pytest.raises(DataError, match="sample 2 has no entry 'grade'; it has x, age"):
        column_of(scans, "grade")
    with pytest.raises(ConfigError, match=r"data\.group: a sample has no entry 'agee'; .*did you mean age"):
        ExtraColumns("agee", None, None, lambda name: column_of(scans, name))
