"""Curves of several runs over the optimizer step, overlaid in one small picture for the terminal."""

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
WIDEST = 100
_EMPTY = 0x2800  # the braille character without a dot
_SPREAD = 40.0  # values that lie further apart are drawn to a logarithmic scale
_AXIS = 9  # columns, for the values at the ends
_APART = 23  # columns between one curve's letters

Points = Sequence[tuple[int, float]]


def chart(title: str, curves: Mapping[str, Points], is_log: bool, width: int, height: int) -> list[Text]:
    """`height` lines below a title line and above one with the steps, at most `width` columns wide.

    `curves` by the letter that marks each; one that is alone needs none. Off a terminal, where there is
    no colour, the letters alone tell them apart.
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
    styles = [STYLES[place % len(STYLES)] for place, mark in enumerate(curves) if mark in drawn]
    marks = list(drawn) if len(curves) > 1 else [""]
    rows = [_row([one[at] for one in lines], styles) for at in range(height)]
    _letter(rows, lines, marks, styles)
    ends = {0: _end(ys[1], is_log), height - 1: _end(ys[0], is_log)}
    out = [Text(cut(f"{title}, logarithmic" if is_log else title, width), style="bold")]
    for at, row in enumerate(rows):
        line = Text(f"{ends.get(at, ''):>{_AXIS}} ") + row
        line.rstrip()
        out.append(line)
    first, last = f"step {min(steps)}", f"step {max(steps)}"
    if first == last:
        return [*out, Text(f"{'':{_AXIS}} {first:^{inner}}".rstrip(), style="dim")]
    return [*out, Text(f"{'':{_AXIS}} {first}{last:>{max(1, inner - len(first))}}", style="dim")]


def is_wide(values: Sequence[float]) -> bool:
    """Whether a logarithmic scale shows more: all are positive, and the largest is many times the least."""
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
        dots = [ord(one) - _EMPTY for one in characters]
        style = next((one for one, has in zip(reversed(styles), reversed(dots), strict=True) if has), "")
        whole = functools.reduce(operator.or_, dots)
        owned.append((style, chr(_EMPTY + whole) if whole else " "))
    row = Text()
    for style, run in itertools.groupby(owned, key=lambda one: one[0]):
        row.append("".join(character for _, character in run), style or None)
    return row


def _letter(rows: list[Text], lines: list[list[str]], marks: Sequence[str], styles: Sequence[str]) -> None:
    """Set each curve's letter on it, every so many columns and staggered."""
    taken: set[tuple[int, int]] = set()
    for at, (mark, line) in enumerate(zip(marks, lines, strict=True)):
        if not mark:
            continue
        width = len(line[0])
        for column in range((2 + 5 * at) % _APART, width, _APART):
            places = [row for row in range(len(rows)) if line[row][column] != chr(_EMPTY)]
            free = [row for row in places if (row, column) not in taken]
            if not free:
                continue
            row = free[len(free) // 2]
            taken.add((row, column))
            before, after = rows[row][:column], rows[row][column + 1 :]
            rows[row] = before + Text(mark, style=f"bold {styles[at]}") + after
