"""An axis for values of any kind: numbers, evenly or by logarithms, and texts in places of their own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainrun.run.listing import printable
from trainrun.terminal.chart import as_drawn, span

_SPREAD = 20.0  # positive values that lie further apart are placed by their logarithms
_LABEL = 18  # characters
_MOST_TICKS = 6
_MOST_TEXTS = 14
_STRIP = 0.14  # of the axis, for each text below numbers
_APART = 0.09  # of the axis, between a label and that of the edge
_FEWEST = 8  # values, from which on far worse ones may be set at the edge
_WORTH = 3.0  # how many times as long the axis would be with them


@dataclass(frozen=True)
class Scale:
    """Places from 0 to 1. `low` and `high` are the ends of the numbers, as drawn."""

    numbers: tuple[float, ...]  # each value once, the least first
    texts: Mapping[str, int]  # what is no number -> its place in the order of their coming
    is_log: bool
    low: float
    high: float
    cut: str = ""  # the end that stands for all beyond it, "<=" or ">=", where one does

    @property
    def distinct(self) -> int:
        """How many different values there are."""
        return len(self.numbers) + len(self.texts)

    def place(self, value: Any) -> float:
        """Where a value stands; a number beyond the ends stands at the end."""
        floor = self._floor
        if not is_number(value):
            at = self.texts[text_of(value)]
            if self.numbers:
                return floor * at / len(self.texts)
            return at / (len(self.texts) - 1) if len(self.texts) > 1 else 0.5
        if self.is_log and value <= 0:
            return floor
        share = (as_drawn(value, self.is_log) - self.low) / (self.high - self.low)
        return floor + (1 - floor) * min(max(share, 0.0), 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """(place, label), from below."""
        step = math.ceil(len(self.texts) / _MOST_TEXTS) if self.texts else 1
        found = [(self.place(one), shortened(one)) for one in list(self.texts)[::step]]
        labels = {one: self.place(one) for one in self._marks()}
        found += [(place, f"{one:g}") for one, place in labels.items()]
        if self.cut:
            edge = self._floor if self.cut == "<=" else 1.0
            end = self.low if self.cut == "<=" else self.high
            found = [(place, label) for place, label in found if abs(place - edge) > _APART]
            found.append((edge, f"{self.sign} {end:.3g}"))
        return sorted(found)

    @property
    def sign(self) -> str:
        """Of the end that stands for all beyond it; empty where none does."""
        return {"<=": "\N{LESS-THAN OR EQUAL TO}", ">=": "\N{GREATER-THAN OR EQUAL TO}", "": ""}[self.cut]

    @property
    def _floor(self) -> float:
        return min(0.5, _STRIP * len(self.texts)) if self.numbers else 0.0

    def _marks(self) -> list[float]:
        """The numbers that are labelled: those there are, where they are few, else round ones."""
        if not self.numbers:
            return []
        places = [self.place(one) for one in self.numbers]
        gaps = [after - before for before, after in itertools.pairwise(places)]
        if len(self.numbers) <= _MOST_TICKS and not self.cut and min(gaps, default=1) > 0.07:
            return list(self.numbers)
        marks = _decades(self.low, self.high) if self.is_log else _round(self.low, self.high)
        return marks if len(marks) > 1 else [self.numbers[0], self.numbers[-1]]


def scale_of(values: Sequence[Any], may_be_log: bool = True) -> Scale:
    """The axis of these values, of which there is at least one."""
    numbers = sorted({float(one) for one in values if is_number(one)})
    texts = dict.fromkeys(text_of(one) for one in values if not is_number(one))
    is_log = may_be_log and bool(numbers) and numbers[0] > 0 and numbers[-1] > _SPREAD * numbers[0]
    low, high = span([as_drawn(one, is_log) for one in numbers]) if numbers else (0.0, 1.0)
    return Scale(tuple(numbers), {one: at for at, one in enumerate(texts)}, is_log, low, high)


def scale_of_metric(values: Sequence[float], mode: str) -> Scale:
    """The axis of what is monitored; its better end keeps its room.

    Where `mode` is max no logarithms are taken. Where the worst are so far off that the others would
    share a third of the axis, it ends at twice the range of the better two thirds, and they stand there.
    """
    plain = scale_of(values, may_be_log=mode == "min")
    ordered = sorted(values, reverse=mode == "max")
    usual = ordered[math.ceil(len(ordered) * 2 / 3) - 1]
    edge = 2 * usual - ordered[0]
    is_far = abs(ordered[-1] - ordered[0]) > _WORTH * abs(edge - ordered[0])
    if plain.is_log or len(ordered) < _FEWEST or usual == ordered[0] or not is_far:
        return plain
    low, high = (edge, plain.high) if mode == "max" else (plain.low, edge)
    return Scale(plain.numbers, plain.texts, False, low, high, "<=" if mode == "max" else ">=")


def is_number(value: Any) -> bool:
    """Whether a swept value has a place among numbers; true and false have none."""
    is_one = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_one and abs(value) < 1e300  # not so for NaN


def cell_of(value: Any, width: int) -> str:
    """A swept value for people: numbers in four digits, a long text without its middle."""
    return shortened(f"{value:.4g}" if isinstance(value, float) else text_of(value), width)


def text_of(value: Any) -> str:
    """A swept value in a printable line, as it is typed."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(text_of, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{printable(key)}:{text_of(one)}' for key, one in value.items())}}}"
    return f"{value:g}" if isinstance(value, float) else printable(value)


def shortened(text: str, width: int = _LABEL) -> str:
    """At most `width` characters, of a long text its beginning and its end."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - (width - 1 - head) :]}"


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten between the ends, which are logarithms; in short ranges also their 2 and 5 fold."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    each = math.ceil((high - low) / 8)
    factors = (1.0,) if high - low >= 2.5 else (1.0, 2.0, 5.0)
    marks = [factor * 10.0**power for power in powers[::each] for factor in factors]
    return [one for one in marks if low - 1e-9 <= math.log10(one) <= high + 1e-9]


def _round(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between the ends, three to six of them."""
    unit = 10.0 ** math.floor(math.log10((high - low) / 2.5))
    step = next(unit * factor for factor in (1, 2, 5, 10) if (high - low) / (unit * factor) <= 6)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{one * step:.12g}") for one in range(first, last + 1)]
