"""What a check prints: every line within its width, every finding with what fixes it."""

from __future__ import annotations

from typing import Any

import pytest

from trainrun.check.finding import CheckResult, CheckSection
from trainrun.report import checked

PLAN = [("data", "digits"), ("", "a note")]
LONG = "word " * 40 + "end"
FOUND = CheckResult("dead units", "all of them", "none", ("init=auto",), "or look")
SECTIONS = [
    CheckSection("model", (("layers", LONG), ("", "  a   table's line")), (FOUND,)),
    CheckSection("probe", ()),
    CheckSection("data", (), (CheckResult("leak", "7", "0", (), "take them out"),)),
]


def report(*words: Any) -> list[str]:
    return [line.plain for line in checked.report(*words)]


def test_a_finding_comes_with_its_fix() -> None:
    lines = report(PLAN, SECTIONS, "trainrun init=auto", None)
    assert "  a   table's line" in lines
    line_number = lines.index("found: dead units")
    assert [line.split() for line in lines[line_number + 1 : line_number + 5]] == [
        ["measured", "all", "of", "them"],
        ["expected", "none"],
        ["fix", "init=auto"],
        ["or", "look"],
    ]
    line_number = lines.index("found: leak")
    assert lines[line_number + 3].split() == ["fix", "take", "them", "out"]
    assert lines[-1] == "  trainrun init=auto"
    assert "probe" not in lines


def test_nothing_found_is_said() -> None:
    assert report(PLAN, [CheckSection("model", (("layers", "3"),))], None, None)[-1] == "nothing found"


@pytest.mark.parametrize("width", [40, 80, None])
def test_lines_are_as_wide_as_the_terminal(width: int | None) -> None:
    lines = report(PLAN, SECTIONS[:1], None, width)
    assert (max(map(len, lines)) <= width) if width else (max(map(len, lines)) > 200)
    assert " ".join(" ".join(lines).split()).count("word") == 40
