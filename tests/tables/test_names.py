"""Usual names of splits, as folders and entries have them."""

from __future__ import annotations

import pytest

from trainrun.tables.names import split_of


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), ("Training-Images", "train"), ("dev", "val"), ("testset", "test"), ("x", None)],
)
def test_a_split_is_known_by_any_usual_spelling(name: str, split: str | None) -> None:
    assert split_of(name) == split
