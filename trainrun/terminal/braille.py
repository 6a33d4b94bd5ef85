"""Line plots in the terminal, of braille characters: each is two dots wide and four high."""

from __future__ import annotations

from collections.abc import Sequence

BLANK = "\N{BRAILLE PATTERN BLANK}"  # the character without a dot
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # column by column, from the top
Range = tuple[float, float]


def curve(values: Sequence[float], width: int, height: int, top: float) -> list[str]:
    """`height` lines of `width` characters: `values` from left to right, 0 at the bottom, `top` above."""
    columns, rows = 2 * width, 4 * height
    cells = [[0] * width for _ in range(height)]
    before: int | None = None
    for column in range(columns):
        value = values[round(column * (len(values) - 1) / max(1, columns - 1))]
        level = round(min(max(value / top if top else 0.0, 0.0), 1.0) * (rows - 1))
        near = level if before is None else before
        for row in range(min(level, near + 1), max(level, near - 1) + 1):  # jumps are joined by a line
            _set(cells, column, row)
        before = level
    return _lines(cells)


def path(places: Sequence[tuple[float, float]], width: int, height: int, xs: Range, ys: Range) -> list[str]:
    """`height` lines of `width` characters: straight lines from place to place.

    What lies outside the range `xs`, from left to right, or `ys`, from the bottom up, is cut off.
    """
    columns, rows = 2 * width, 4 * height
    cells = [[0] * width for _ in range(height)]
    scaled = [
        ((x - xs[0]) / (xs[1] - xs[0]) * (columns - 1), (y - ys[0]) / (ys[1] - ys[0]) * (rows - 1))
        for x, y in places
    ]
    for (x0, y0), (x1, y1) in zip(scaled, [*scaled[1:], scaled[-1]], strict=True):
        pieces = min(1 + round(max(abs(x1 - x0), abs(y1 - y0))), 100 * columns)
        for piece in range(pieces):
            column = round(x0 + (x1 - x0) * piece / pieces)
            row = round(y0 + (y1 - y0) * piece / pieces)
            if 0 <= column < columns and 0 <= row < rows:
                _set(cells, column, row)
    return _lines(cells)


def _set(cells: list[list[int]], column: int, row: int) -> None:
    """One dot, `row` counted from the bottom."""
    line, dot = divmod(4 * len(cells) - 1 - row, 4)
    cells[line][column // 2] |= _DOTS[column % 2][dot]


def _lines(cells: list[list[int]]) -> list[str]:
    return ["".join(chr(ord(BLANK) + cell) for cell in line) for line in cells]
