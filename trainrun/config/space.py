"""The search space of a sweep: lists of values and intervals, the grid of their combinations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trainrun.vocabulary.errors import ConfigError

Words = tuple[str, ...]  # overrides, KEY=VALUE
REPLICATES = ("seed", "data.fold")  # repeat one experiment: their jobs are one row of the result


@dataclass(frozen=True)
class Choices:
    """A list of alternatives, each the overrides that make it."""

    key: str  # of several keys in pairs `a,b`
    values: tuple[Words, ...]


@dataclass(frozen=True)
class SearchInterval:
    """Numbers from `low` to `high`, both included."""

    key: str
    low: float
    high: float
    is_log: bool
    is_int: bool

    def word(self, value: float) -> str:
        """The override that chooses one of its numbers."""
        return f"{self.key}={int(value) if self.is_int else value!r}"


Axis = Choices | SearchInterval


@dataclass(frozen=True)
class Point:
    """One job's overrides, of what varies. `trial`: of a search, which one it belongs to."""

    words: Words
    trial: int | None = None


@dataclass(frozen=True)
class PointBatch:
    """Points to be tried together. `share` of the budget: where they stop and wait; None is the end."""

    points: Sequence[Point]
    share: float | None = None


def grid(axes: Sequence[Choices]) -> list[Words]:
    """Every combination, the last axis changing fastest."""
    return [tuple(itertools.chain(*row)) for row in itertools.product(*(axis.values for axis in axes))]


def paired(value: Any) -> list[list[str]]:
    """The lists of keys in `sweep.zip`; empty for what is no list, which is reported elsewhere."""
    if not isinstance(value, list) or not value:
        return []
    return [list(keys) for keys in value if isinstance(keys, list)] or [value]


def zipped(axes: Sequence[Axis], paired: Sequence[Sequence[str]]) -> list[Axis]:
    """Join the axes in `paired`, first value with first. Raises ConfigError for what cannot be paired."""
    by_key = {axis.key: axis for axis in axes}
    joined: dict[str, Choices] = {}
    for keys in filter(None, paired):
        members = [_member(key, by_key) for key in keys]
        if twice := [key for key in keys if key in joined or keys.count(key) > 1]:
            raise ConfigError.of("sweep.zip", f"names {twice[0]} twice")
        if len({len(axis.values) for axis in members}) > 1:
            counts = ", ".join(f"{axis.key} has {len(axis.values)}" for axis in members)
            raise ConfigError.of("sweep.zip", f"needs lists of the same length; {counts} values")
        rows = zip(*(axis.values for axis in members), strict=True)
        whole = Choices(",".join(keys), tuple(tuple(itertools.chain(*row)) for row in rows))
        joined |= dict.fromkeys(keys, whole)
    return list(dict.fromkeys(joined.get(axis.key, axis) for axis in axes))


def _member(key: str, axes: dict[str, Axis]) -> Choices:
    axis = axes.get(key)
    if isinstance(axis, Choices):
        return axis
    lists = ", ".join(name for name, other in axes.items() if isinstance(other, Choices)) or "none"
    text = "is drawn from an interval" if axis else "is not swept"
    raise ConfigError.of("sweep.zip", f"pairs lists of values; {key} {text}; there are {lists}")


def split_replicates(axes: Sequence[Axis]) -> tuple[list[Axis], list[Choices]]:
    """(what is searched, what repeats each point of it)."""
    repeats = [axis for axis in axes if isinstance(axis, Choices) and axis.key in REPLICATES]
    return [axis for axis in axes if axis not in repeats], repeats


def corners(axes: Sequence[Axis]) -> Iterator[Words]:
    """Points that have every alternative, and both ends of every interval, at least once."""
    values = [
        axis.values if isinstance(axis, Choices) else [(axis.word(end),) for end in (axis.low, axis.high)]
        for axis in axes
    ]
    for index in range(max(map(len, values), default=1)):
        yield tuple(itertools.chain(*(words[min(index, len(words) - 1)] for words in values)))
