"""Schedules side by side: sizes, scales and values."""

from __future__ import annotations

import struct
from pathlib import Path

from trainrun.report import schedules

SCHEDULES = {"constant": [0.5] * 40, "linear": [0.5 * (1 - i / 40) for i in range(40)]}


def test_the_picture_is_a_png_of_the_size_asked_for(tmp_path: Path) -> None:
    schedules.picture(SCHEDULES, {}, tmp_path / "a.png")
    head = (tmp_path / "a.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:24]) == (1350, 675)


def test_a_further_number_has_a_panel_of_its_own(tmp_path: Path) -> None:
    schedules.picture(SCHEDULES, {"optimizer.weight_decay": [0.1] * 40}, tmp_path / "a.png")
    assert struct.unpack(">II", (tmp_path / "a.png").read_bytes()[16:24]) == (1350, 1050)


def test_curves_fit_the_terminal_and_name_their_scale() -> None:
    for width in (40, 79, 300):
        lines = schedules.curves(SCHEDULES, width)
        assert max(map(len, lines)) == min(width, 100)
        assert [line for line in lines if line in SCHEDULES] == list(SCHEDULES)
        assert sum(line.lstrip().startswith("0.5 ") for line in lines) == 2
        assert sum(line.endswith("step 40") for line in lines) == 2


def test_the_table_has_the_rate_of_each_step() -> None:
    head, *rows = (line.split() for line in schedules.table(SCHEDULES, [1, 21, 40]))
    assert head == ["step", "constant", "linear"]
    assert rows == [["1", "0.5", "0.5"], ["21", "0.5", "0.25"], ["40", "0.5", "0.0125"]]
