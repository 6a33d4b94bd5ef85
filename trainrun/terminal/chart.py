"""A text chart for the terminal: curves of several runs over the optimizer step, overlaid."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Mapping, Sequence

from rich.text import Text

from trainrun.terminal.braille import BLANK, Range, path
from trainrun.terminal.numbers import number
from trainrun.terminal.table import cut

STYLES = ("cyan", "magenta", "yellow", "green", "blue", "red")
WIDEST = 100  # columns; a wider chart shows no more and is harder to take in at once
# Values that lie further apart are drawn to a logarithmic scale: on a linear one of 6 rows (24 dots) the
# smaller ones would share the lowest dot.
_SPREAD = 40.0
AXIS = 9  # columns, for the values at the ends
_APART = 23  # columns between a curve's letters; three or four of them in 80 columns

Points = Sequence[tuple[int, float]]


def chart(title: str, curves: Mapping[str, Points], is_log: bool, width: int, height: int) -> list[Text]:
    """A title, `height` lines of curves, and a line with the steps; at most `width` columns wide.

    `curves` by the letter that marks each; a single one needs none. Off a terminal, without colour, only
    the letters tell curves apart.
    """
    scale = math.log10 if is_log else float
    scaled = {mark: [(x, scale(y)) for x, y in points] for mark, points in curves.items() if points}
    if not scaled:
        return []
    inner, steps = inner_width(width), [x for points in scaled.values() for x, _ in points]
    low, high = span([y for points in scaled.values() for _, y in points])
    lines = [path(points, inner, height, span(steps), (low, high)) for points in scaled.values()]
    styles = [STYLES[index % len(STYLES)] for index, mark in enumerate(curves) if mark in scaled]
    rows = [_row(cells, styles) for cells in zip(*lines, strict=True)]
    if len(curves) > 1:
        _letter(rows, lines, list(scaled), styles)
    head = Text(cut(f"{title}, logarithmic" if is_log else title, width), style="bold")
    first, last = f"step {min(steps)}", f"step {max(steps)}"
    below = f"{first:^{inner}}".rstrip() if first == last else at_ends(first, last, inner)
    top, bottom = (number(10**end if is_log else end) for end in (high, low))
    return [head, *framed(rows, top, bottom, below)]


def thinned(points: Points, columns: int) -> Points:
    """Few points that draw the same line over so many columns: of each the first, last, least and largest."""
    if len(points) <= 4 * columns:
        return points
    value, size = operator.itemgetter(1), -(-len(points) // columns)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    ends = [{part[0], min(part, key=value), max(part, key=value), part[-1]} for part in parts]
    return [point for of_part in ends for point in sorted(of_part)]


def inner_width(width: int, widest: int = WIDEST) -> int:
    """How many columns are left beside the axis."""
    return max(10, min(width, widest) - AXIS - 1)


def framed(rows: Sequence[Text], top: str, bottom: str, below: str) -> list[Text]:
    """Rows beside an axis with its end values, and a line of what stands below."""
    ends = [top, *[""] * (len(rows) - 2), bottom]
    lines = [Text(f"{end:>{AXIS}} ") + row for end, row in zip(ends, rows, strict=True)]
    for line in lines:
        line.rstrip()
    return [*lines, Text(f"{'':{AXIS}} {below}", style="dim")]


def at_ends(first: str, last: str, inner: int) -> str:
    """Two texts at the ends of a line."""
    return f"{first}{last:>{max(1, inner - len(first))}}"


def is_wide(values: Sequence[float]) -> bool:
    """Whether a logarithmic scale shows more: all are positive, the largest many times the least."""
    return bool(values) and min(values) > 0 and max(values) > _SPREAD * min(values)


def span(values: Sequence[float]) -> Range:
    """From the least to the largest; around a single value some room, so that it can be drawn."""
    low, high = float(min(values)), float(max(values))
    room = 0.0 if low < high else abs(low) / 2 or 0.5
    return low - room, high + room


def _row(cells: Sequence[str], styles: Sequence[str]) -> Text:
    """One line of every curve laid over another; a character with dots of several is the last one's."""
    owned: list[tuple[str, str]] = []
    for characters in zip(*cells, strict=True):
        drawn = [style for style, dots in zip(styles, characters, strict=True) if dots != BLANK]
        whole = chr(functools.reduce(operator.or_, map(ord, characters)))
        owned.append((drawn[-1], whole) if drawn else ("", " "))
    row = Text()
    for style, run in itertools.groupby(owned, key=operator.itemgetter(0)):
        row.append("".join(character for _, character in run), style or None)
    return row


def _letter(rows: list[Text], lines: list[list[str]], marks: Sequence[str], styles: Sequence[str]) -> None:
    """Set each curve's letter on it, every so many columns and staggered."""
    taken: set[tuple[int, int]] = set()
    for index, (mark, line) in enumerate(zip(marks, lines, strict=True)):
        for column in range((2 + 5 * index) % _APART, len(line[0]), _APART):
            places = [row for row in range(len(rows)) if line[row][column] != BLANK]
            if free := [row for row in places if (row, column) not in taken]:
                row = free[len(free) // 2]
                taken.add((row, column))
                before, after = rows[row][:column], rows[row][column + 1 :]
                rows[row] = before + Text(mark, style=f"bold {styles[index]}") + after
