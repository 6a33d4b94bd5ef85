"""A text chart for the terminal: curves of several runs over the optimizer step, overlaid."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Mapping, Sequence

from rich.text import Text

from trainrun.terminal.braille import Range, path
from trainrun.terminal.numbers import number
from trainrun.terminal.table import cut

STYLES = ("cyan", "magenta", "yellow", "green", "blue", "red")
WIDEST = 100  # columns; a wider chart shows no more and is harder to take in at once
_EMPTY = 0x2800  # the braille character without a dot
# Values that lie further apart are drawn to a logarithmic scale: on a linear one of 6 rows (24 dots) the
# smaller ones would share the lowest dot.
_SPREAD = 40.0
_AXIS = 9  # columns, for the values at the ends
_APART = 23  # columns between a curve's letters; three or four of them in 80 columns

Points = Sequence[tuple[int, float]]


def chart(title: str, curves: Mapping[str, Points], is_log: bool, width: int, height: int) -> list[Text]:
    """A title, `height` lines of curves, and a line with the steps; at most `width` columns wide.

    `curves` by the letter that marks each; a single one needs none. Off a terminal, without colour, only
    the letters tell curves apart.
    """
    drawn = {mark: points for mark, points in curves.items() if points}
    if not drawn:
        return []
    inner = max(10, min(width, WIDEST) - _AXIS - 1)
    steps = [x for points in drawn.values() for x, _ in points]
    xs, ys = span(steps), _heights(drawn, is_log)
    lines = [
        path([(x, as_drawn(y, is_log)) for x, y in points], inner, height, xs, ys)
        for points in drawn.values()
    ]
    styles = [STYLES[index % len(STYLES)] for index, mark in enumerate(curves) if mark in drawn]
    marks = list(drawn) if len(curves) > 1 else [""]
    rows = [_row(cells, styles) for cells in zip(*lines, strict=True)]
    _letter(rows, lines, marks, styles)
    ends = {0: _end(ys[1], is_log), height - 1: _end(ys[0], is_log)}
    out = [Text(cut(f"{title}, logarithmic" if is_log else title, width), style="bold")]
    for index, row in enumerate(rows):
        line = Text(f"{ends.get(index, ''):>{_AXIS}} ") + row
        line.rstrip()
        out.append(line)
    first, last = f"step {min(steps)}", f"step {max(steps)}"
    if first == last:
        return [*out, Text(f"{'':{_AXIS}} {first:^{inner}}".rstrip(), style="dim")]
    return [*out, Text(f"{'':{_AXIS}} {first}{last:>{max(1, inner - len(first))}}", style="dim")]


def is_wide(values: Sequence[float]) -> bool:
    """Whether a logarithmic scale shows more: all are positive, the largest many times the least."""
    return bool(values) and min(values) > 0 and max(values) > _SPREAD * min(values)


def span(values: Sequence[float]) -> Range:
    """From the least to the largest; around a single value some room, so that it can be drawn."""
    low, high = float(min(values)), float(max(values))
    if low < high:
        return low, high
    room = abs(low) / 2 or 0.5
    return low - room, high + room


def as_drawn(value: float, is_log: bool) -> float:
    """A value's height, before it is scaled: its logarithm or itself."""
    return math.log10(value) if is_log else value


def _heights(curves: Mapping[str, Points], is_log: bool) -> Range:
    return span([as_drawn(y, is_log) for points in curves.values() for _, y in points])


def _end(height: float, is_log: bool) -> str:
    return number(10**height if is_log else height)


def _row(cells: Sequence[str], styles: Sequence[str]) -> Text:
    """One line of every curve laid over another; a character with dots of several is the last one's."""
    owned: list[tuple[str, str]] = []
    for characters in zip(*cells, strict=True):
        dots = [ord(character) - _EMPTY for character in characters]
        drawn = [style for style, has in zip(styles, dots, strict=True) if has]
        style = drawn[-1] if drawn else ""
        whole = functools.reduce(operator.or_, dots)
        owned.append((style, chr(_EMPTY + whole) if whole else " "))
    row = Text()
    for style, run in itertools.groupby(owned, key=operator.itemgetter(0)):
        row.append("".join(character for _, character in run), style or None)
    return row


def _letter(rows: list[Text], lines: list[list[str]], marks: Sequence[str], styles: Sequence[str]) -> None:
    """Set each curve's letter on it, every so many columns and staggered."""
    taken: set[tuple[int, int]] = set()
    for index, (mark, line) in enumerate(zip(marks, lines, strict=True)):
        if not mark:
            continue
        for column in range((2 + 5 * index) % _APART, len(line[0]), _APART):
            places = [row for row in range(len(rows)) if line[row][column] != chr(_EMPTY)]
            free = [row for row in places if (row, column) not in taken]
            if not free:
                continue
            row = free[len(free) // 2]
            taken.add((row, column))
            before, after = rows[row][:column], rows[row][column + 1 :]
            rows[row] = before + Text(mark, style=f"bold {styles[index]}") + after
