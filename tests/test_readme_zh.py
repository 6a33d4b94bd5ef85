"""The Chinese README has the English one's headings, commands, code, figures and links, in its order."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))


def headings(text: str) -> list[int]:
    """The level of each heading outside of code."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    return [len(marks) for marks in re.findall(r"^(#+) ", text, re.M)]


def codes(text: str) -> list[str]:
    """What stands in backticks, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))


def test_headings_are_as_many_and_of_the_same_levels() -> None:
    assert headings(CHINESE) == headings(ENGLISH)


def test_blocks_of_code_are_the_same() -> None:
    assert re.findall(r"```.*?```", CHINESE, re.S) == re.findall(r"```.*?```", ENGLISH, re.S)


def test_commands_and_settings_are_the_same_section_by_section() -> None:
    for chinese, english in zip(CHINESE.split("\n## "), ENGLISH.split("\n## "), strict=True):
        assert sorted(codes(chinese)) == sorted(codes(english)), chinese.partition("\n")[0]


def test_tables_have_as_many_rows_and_the_same_figures() -> None:
    for pattern in (r"^\|", r"\d+(?:\.\d+)? %(?: \+/- [\d.]+)?"):
        assert len(re.findall(pattern, CHINESE, re.M)) == len(re.findall(pattern, ENGLISH, re.M))
    figures = r"\d+\.\d+"
    assert sorted(re.findall(figures, CHINESE)) == sorted(re.findall(figures, ENGLISH))


def test_links_lead_to_the_same_places_that_are_there() -> None:
    links = [re.findall(r"\]\(([^)]*)\)", text) for text in (CHINESE, ENGLISH)]
    others = [[link for link in found if not link.startswith("README")] for found in links]
    assert sorted(others[0]) == sorted(others[1])
    assert all((ROOT / link).is_file() for found in links for link in found)
    assert "README.md" in links[0] and "README.zh.md" in links[1]
