"""A small file cannot grow without bound, and what people write is far from the bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from trainrun.config.limits import MOST_BYTES, UnreadableError, check_references, check_text, read_text
from trainrun.config.paths import CONF


def bomb(levels: int, width: int) -> str:
    rows = [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(["x0: &x0 [a, b]", *rows])


@pytest.mark.parametrize(
    "text", [bomb(9, 9), bomb(30, 2), "a: &a [*a]", "a: &a {b: *a}"], ids=lambda t: t[:12]
)
def test_aliases_that_multiply_are_refused(text: str) -> None:
    with pytest.raises(UnreadableError, match="aliases"):
        check_text(text, with_aliases=True)


@pytest.mark.parametrize("text", ["a: &a 1\nb: *a", "a: &a {c: 1}\nb:\n  <<: *a", bomb(3, 5), ""])
def test_a_few_aliases_are_taken_from_the_user_and_none_from_strangers(text: str) -> None:
    check_text(text, with_aliases=True)
    if text:
        with pytest.raises(UnreadableError, match="an alias"):
            check_text(text, with_aliases=False)


@pytest.mark.parametrize("depth", [20, 33, 3000])
def test_nesting_has_an_end(depth: int) -> None:
    text = "x: " + "[" * depth + "]" * depth
    if depth == 20:
        check_text(text, with_aliases=False)
        return
    with pytest.raises(UnreadableError, match="nests too deep") as caught:
        check_text(text, with_aliases=True)
    assert caught.value.place == ":1"


def test_a_large_file_is_not_even_read(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a" * MOST_BYTES)
    assert len(read_text(file)) == MOST_BYTES
    file.write_text("a" * (MOST_BYTES + 1))
    with pytest.raises(UnreadableError, match="larger than a config can be"):
        read_text(file)


@pytest.mark.parametrize(
    "file", sorted(CONF.rglob("*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}"
)
def test_built_in_files_are_within_bounds(file: Path) -> None:
    text = read_text(file)
    check_text(text, with_aliases=False)
    check_references(yaml.safe_load(text))


def doubling(levels: int, dot: str = "") -> dict[str, Any]:
    return {"n0": "ab", **{f"n{i}": f"${{{dot}n{i - 1}}}${{{dot}n{i - 1}}}" for i in range(1, levels)}}


MULTIPLY: dict[str, Any] = {
    "absolute": doubling(20),
    "relative": {"model": doubling(20, ".")},
    "lists": {"a": ["${b[0]}"] * 200, "b": [["${c}"] * 200], "c": "x"},
    "mappings": {"a": {str(i): "${b}" for i in range(200)}, "b": {str(i): "x" for i in range(200)}},
    "by select": {"a": ["${oc.select:b}"] * 200, "b": ["${oc.select:c,1}"] * 200, "c": "x"},
    "by values": {"a": ["${oc.dict.values:b}"] * 200, "b": {str(i): "${c}" for i in range(200)}, "c": "x"},
    "computed names": {**doubling(9), "k": "1", "z": "${n${k}}"},
}


@pytest.mark.parametrize("kind", MULTIPLY)
def test_references_that_multiply_are_refused(kind: str) -> None:
    with pytest.raises(UnreadableError, match="references"):
        check_references(MULTIPLY[kind])


@pytest.mark.parametrize(
    "tree",
    [
        {"seed": 1, "data": {"split_seed": "${seed}"}},
        {"a": "${b}", "b": "${a}"},  # told when it is resolved
        {"a": {"b": "${..c}"}, "c": "${oc.env:HOME}", "d": "${oc.decode:${oc.env:HOME}}"},
        {"a": "${nowhere.at.all}", "b": "${c[7]}", "c": [1]},
        {"n1": 5, "k": 1, "z": "${n${k}}"},
        doubling(8),
    ],
)
def test_references_as_people_write_them_pass(tree: dict[str, Any]) -> None:
    check_references(tree)
