"""Paragraphs and tables keep within the width, and lose no word."""

from __future__ import annotations

import pytest

from trainrun.terminal import layout
from trainrun.terminal.layout import WIDEST, PageBlock, columns, page, paragraph

PROSE = " ".join(f"word{n}" for n in range(60))


@pytest.fixture(params=[60, 80, WIDEST])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(layout, "width", lambda: request.param)
    return int(request.param)


def test_off_a_terminal_the_width_is_fixed() -> None:
    assert layout.width() == WIDEST


def test_a_paragraph_keeps_every_word_and_the_width(width: int) -> None:
    lines = paragraph(PROSE, "  - ", "    ")
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("  - word0") and all(line.startswith("    w") for line in lines[1:])
    assert " ".join(lines).split()[1:] == PROSE.split()
    assert paragraph("a-b-c " * 40) == paragraph("a-b-c " * 40, "", "")


def test_columns_begin_at_the_same_place_and_wrap_the_widest(width: int) -> None:
    rows = [["a", "short", PROSE], ["bbbb", "x", "last"]]
    lines = columns(rows, ["one", "two", "three"])
    assert all(len(line) <= width for line in lines)
    assert lines[0].split() == ["one", "two", "three"]
    start = lines[0].index("three")
    assert [line[start:].split()[0] for line in lines] == [
        "three",
        *(line[start:].split()[0] for line in lines[1:-1]),
        "last",
    ]
    assert all(not line[:start].strip() for line in lines[2:-1])  # the other cells are short
    assert " ".join(line[start:] for line in lines[1:-1]).split() == PROSE.split()


def test_no_word_is_cut_where_there_is_no_room(width: int) -> None:
    long = "x" * 200
    assert any(long in line for line in columns([["a", long]]))
    assert columns([]) == []


def test_a_page_separates_blocks_of_different_kinds() -> None:
    blocks = [
        PageBlock("heading", "Head"),
        PageBlock("paragraph", "First."),
        PageBlock("paragraph", "Second."),
        PageBlock("bullet", "point"),
        PageBlock("bullet", "other"),
        PageBlock("command", "trainrun"),
    ]
    assert page(blocks) == [
        *("Head", "First.", "", "Second.", ""),
        *("  - point", "  - other", "", "  trainrun"),
    ]


def test_a_column_of_commands_stands_below_its_rows_uncut() -> None:
    command = "trainrun " + "optimizer.lr=0.1 " * 12
    table = PageBlock("table", rows=[["goal", "command"], ["faster", f"{command}<br>trainrun check"]])
    assert page([table])[-4:] == ["", "  faster", f"      {command.strip()}", "      trainrun check"]
    plain = page([PageBlock("table", rows=[["a", "b"], ["1", "2"]])])
    assert plain[-2:] == ["  a  b", "  1  2"]
