"""An override is taken apart into prefix, key and value, and written back as it was."""

from __future__ import annotations

import pytest

from trainrun.config.overrides import Override, key_of


@pytest.mark.parametrize(
    ("word", "prefix", "key", "value"),
    [
        ("optimizer.lr=0.1", "", "optimizer.lr", "0.1"),
        ("+optimizer.lr=0.1", "+", "optimizer.lr", "0.1"),
        ("++optimizer.lr=0.1", "++", "optimizer.lr", "0.1"),
        ("~optimizer", "~", "optimizer", None),
        ("name=a=b", "", "name", "a=b"),
        ("name=", "", "name", ""),
        ("name=+x", "", "name", "+x"),
        ("check", "", "check", None),
        ("=", "", "", ""),
    ],
)
def test_the_parts_of_a_word(word: str, prefix: str, key: str, value: str | None) -> None:
    override = Override.parse(word)
    assert override == Override(key, value, prefix)
    assert key_of(word) == key
    assert str(override) == word


def test_the_package_of_a_group_is_no_part_of_its_key() -> None:
    assert key_of("optimizer@second=sgd") == "optimizer"
    assert key_of("name=me@home") == "name"


def test_the_top_is_the_group_or_the_setting() -> None:
    assert Override.parse("++regularization.ema.decay=0.9").top == "regularization"
    assert Override.parse("seed=1").top == "seed"
