"""A curve in the terminal, of braille characters: each is two dots wide and four high."""

from __future__ import annotations

from collections.abc import Sequence

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # column by column, from the top


def curve(values: Sequence[float], width: int, height: int, top: float) -> list[str]:
    """`height` lines of `width` characters: `values` from left to right, 0 at the bottom, `top` above."""
    columns, rows = 2 * width, 4 * height
    cells = [[0] * width for _ in range(height)]
    before: int | None = None
    for column in range(columns):
        value = values[round(column * (len(values) - 1) / max(1, columns - 1))]
        level = round(min(max(value / top if top else 0.0, 0.0), 1.0) * (rows - 1))
        near = level if before is None else before
        for one in range(min(level, near + 1), max(level, near - 1) + 1):  # jumps are joined by a line
            row = rows - 1 - one
            cells[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
        before = level
    return ["".join(chr(0x2800 + cell) for cell in line) for line in cells]
