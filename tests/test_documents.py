"""CONTRIBUTING.md and CHANGELOG.md: short, and true of the tree."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_contributing_is_short_and_names_what_is_there() -> None:
    contributing = text("CONTRIBUTING.md")
    assert len(contributing.splitlines()) <= 60
    paths = re.findall(r"`((?:trainrun|tests|conf)/[\w./]*)`", contributing)
    assert len(paths) > 8
    for path in paths:
        assert "NAME" in path or (ROOT / path).exists(), path
    for target in re.findall(r"make (\w+)", contributing):
        assert re.search(rf"^{target}:", text("Makefile"), re.M), target


def test_the_floors_are_order_their_order() -> None:
    order = (
        re.sub(r"\s+", " ", text("CONTRIBUTING.md")).partition("From the top:")[2].partition("## Gloss")[0]
    )
    floors = (
        "cli report sweep tune check doctor session assembly loop checkpoint run config terminal vocabulary"
    )
    places = [order.index(f"`{floor}`") for floor in floors.split()]
    assert places == sorted(places)


def test_a_change_is_one_line_and_begins_with_a_noun() -> None:
    lines = text("CHANGELOG.md").splitlines()
    assert re.fullmatch(
        r"## Unreleased|## \d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", next(line for line in lines if line[:3] == "## ")
    )
    for line in lines:
        assert not line.startswith(" ") and len(line) <= 125, line
        assert not line.startswith("- ") or re.match(r"- (?:[A-Z`][^:]{1,40}): ", line), line
