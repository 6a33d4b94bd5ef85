"""Schemes side by side: the table in any width, and the picture."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from trainrun.check.depth import Level
from trainrun.report import inits

WEIGHTS = torch.linspace(-1, 1, 50)
SCHEMES = {
    "zeros": [Level("a", 0, 0, 0, 0 * WEIGHTS), Level("b", 0, 0, 0.5, 0 * WEIGHTS)],
    "normal(1)": [Level("a", 0.25, 2, 3, WEIGHTS), Level("b", math.nan, math.inf, math.nan, WEIGHTS)],
    "xavier_normal": [Level("a", 1e-9, 1, 1, WEIGHTS), Level("b", 1234.5, 1, 1, WEIGHTS)],
}


def test_the_table_has_a_column_per_scheme_and_a_row_per_layer_and_figure() -> None:
    head, *rows = (line.split() for line in inits.table(SCHEMES, None))
    assert head == ["layer", *SCHEMES]
    assert rows == [
        ["mean"],
        ["1", "a", "0", "0.25", "1e-09"],
        ["2", "b", "0", "nan", "1.23e+03"],
        ["std"],
        ["1", "a", "0", "2", "1"],
        ["2", "b", "0", "inf", "1"],
        ["gradient", "std"],
        ["1", "a", "0", "3", "1"],
        ["2", "b", "0.5", "nan", "1"],
    ]


def test_where_the_columns_do_not_fit_there_are_several_tables() -> None:
    whole = inits.table(SCHEMES, None)
    widest = max(map(len, whole))
    assert inits.table(SCHEMES, widest) == whole
    lines = inits.table(SCHEMES, widest - 1)
    assert max(map(len, lines)) < widest
    assert [line.split()[1:] for line in lines if line.startswith("  layer")] == [
        ["zeros", "normal(1)"],
        ["xavier_normal"],
    ]
    assert len(inits.table(SCHEMES, 1)) == 3 * len(whole) + 2  # never less than one


def test_the_picture_is_a_png_whatever_the_values(tmp_path: Path) -> None:
    for names in (["zeros"], list(SCHEMES)):
        inits.picture({name: SCHEMES[name] for name in names}, "a title", tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
