"""Random search (Bergstra and Bengio 2012): each trial's point follows from the seed and its number."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

from trainrun.config.compose.exclusion import Exclusion
from trainrun.config.space import Axis, Choices, Point, Words, grid, split_replicates
from trainrun.sweep.strategy import Strategy
from trainrun.sweep.sweep import counted
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Seed

_DIGITS = 4  # of a drawn number: enough to search, and short to read
_DRAWS = 1000  # of which one must not be excluded: a second's work


class Random(Strategy):
    """`trials` points, each with every replicate. More trials later add points and change none."""

    def __init__(
        self, seed: Seed, params: Mapping[str, str], axes: Sequence[Axis], excludes: Exclusion, trials: int
    ) -> None:
        searched, repeats = split_replicates(axes)
        drawn, note = draw_each(searched, excludes, seed, trials)
        super().__init__(repeated(drawn, repeats), f"{counted(trials, 'random point')}{note}")


def draw_each(axes: Sequence[Axis], excludes: Exclusion, seed: int, trials: int) -> tuple[list[Words], str]:
    """(the points of all trials, what to say of those that were excluded)."""
    drawn = [draw(axes, excludes, seed, number) for number in range(trials)]
    return [words for words, _ in drawn], excludes.note(sum(count for _, count in drawn), ", drawn anew")


def draw(axes: Sequence[Axis], excludes: Exclusion, seed: int, number: int) -> tuple[Words, int]:
    """(the point of trial `number`, how many were excluded before it)."""
    generator = random.Random(f"{seed}/{number}")  # text seeds are hashed, the same in every process
    for count in range(_DRAWS):
        words = tuple(itertools.chain(*(_draw_value(axis, generator) for axis in axes)))
        if not excludes(words):
            return words, count
    raise too_many(_DRAWS)


def too_many(draws: int) -> ConfigError:
    """What a search raises that found no point."""
    text = f"left out all of {draws} points that were drawn for one trial"
    return ConfigError.of("sweep.exclude", f"{text}; change the rules or what is swept")


def repeated(drawn: Iterable[Words], repeats: Sequence[Choices]) -> Iterator[Point]:
    """Every point with every replicate."""
    return (Point(words + more, trial) for trial, words in enumerate(drawn) for more in grid(repeats))


def _draw_value(axis: Axis, generator: random.Random) -> Words:
    if isinstance(axis, Choices):
        return generator.choice(axis.values)
    low, high = axis.low, axis.high
    if axis.is_int:
        low, high = low - 0.5, high + 0.5  # so that the ends are as likely as the rest
    value = generator.uniform(low, high)
    if axis.is_log:
        value = math.exp(generator.uniform(math.log(low), math.log(high)))
    value = round(value) if axis.is_int else float(f"{value:.{_DIGITS}g}")
    return (axis.word(min(max(value, axis.low), axis.high)),)
