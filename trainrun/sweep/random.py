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
_DRAWS = 1000  # for each trial, before a search gives up: a second's work


class Random(Strategy):
    """`trials` points, each with every replicate. More trials later add points and change none."""

    def __init__(
        self, seed: Seed, params: Mapping[str, str], axes: Sequence[Axis], excludes: Exclusion, trials: int
    ) -> None:
        searched, repeats = split_replicates(axes)
        drawn, note = draw_allowed(searched, excludes, seed, trials)
        super().__init__(repeated(drawn, repeats), f"{counted(trials, 'random point')}{note}")


def draw_allowed(
    axes: Sequence[Axis], excludes: Exclusion, seed: int, trials: int
) -> tuple[list[Words], str]:
    """(the first points that no rule leaves out, what to say of the others)."""
    numbers = (number for number in range(_DRAWS * trials) if not excludes(draw(axes, seed, number)))
    if len(allowed := list(itertools.islice(numbers, trials))) < trials:
        text = f"leaves out all but {len(allowed)} of {_DRAWS * trials} points that were drawn"
        raise ConfigError.of("sweep.exclude", f"{text}; change the rules or what is swept")
    note = excludes.note(max(allowed) + 1 - trials, ", drawn anew")
    return [draw(axes, seed, number) for number in allowed], note


def draw(axes: Sequence[Axis], seed: int, number: int) -> Words:
    """The point of trial `number`."""
    generator = random.Random(f"{seed}/{number}")  # text seeds are hashed, the same in every process
    return tuple(itertools.chain(*(_draw_value(axis, generator) for axis in axes)))


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
