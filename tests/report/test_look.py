"""Lines that can be told apart."""

from __future__ import annotations

from trainrun.report.look import look


def test_forty_lines_look_different() -> None:
    assert len({tuple(look(index).values()) for index in range(40)}) == 40
