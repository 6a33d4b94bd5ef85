"""Suggest a learning rate from a range test's curve: four criteria, and where they agree."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 12  # points that a smoothed curve and its slopes need
_COARSE = 50  # points: with fewer, more of them may show a fall that these miss
AGREE = 15.0  # the largest factor between criteria that agree: a slide often ends at ten times the others
_ENOUGH = 3  # of them
_WIDTH = 0.25  # decades of learning rate: standard deviation of what a smoothed point is the mean of
_CLEAR = 5.0  # standard errors that a fall must be deep: noise alone stays below
_SHARE = 0.02  # of the first loss that a fall must be deep as well: less teaches nothing
_STILL = 0.25  # of the steepest slope: with less the loss has left the slide
_ENDS = 0.05  # of a valley's depth, at either end, that does not count as falling
_INTO = 2 / 3  # how far into the valley its rate lies
_RISE = 0.2  # of the whole fall: such a rise ends a descent that has come half of the way
_EDGE = 3  # points at either end, where an extreme belongs to the range and not to the curve

Values = NDArray[np.float64]


@dataclass(frozen=True)
class LRCurve:
    """Losses as they were and smoothed, over learning rates that rise by one factor; all (steps,)."""

    lr: Values
    loss: Values
    smooth: Values
    error: Values  # standard error of a smoothed loss

    @property
    def lowest(self) -> int:
        """The index of the lowest loss before it rises: what follows are weights thrown elsewhere."""
        top = float(self.smooth[: int(self.smooth.argmin()) + 1].max())
        low = np.minimum.accumulate(self.smooth)
        depth = top - float(low[-1])
        has_risen = (top - low > depth / 2) & (self.smooth - low > _RISE * depth)
        before = self.smooth[: int(has_risen.argmax()) if has_risen.any() else len(self.smooth)]
        return int(before.argmin())


@dataclass(frozen=True)
class LRVerdict:
    """The criteria's rates, and the suggestion or why there is none."""

    criteria: Mapping[str, float | None]
    agreeing: tuple[str, ...]  # from the lowest rate to the largest
    suggestion: float | None
    reason: str
    instead: Mapping[str, float]  # the command's flags for another range, or more steps, that may give one


def curve(lr: Sequence[float], loss: Sequence[float], start: Sequence[float]) -> LRCurve:
    """Smooth the losses by a weighted regression around each point.

    It regresses on the logarithm of the rate and on `start`, the loss of the first weights on the same
    samples. A hard batch raises both losses, and most where the weights have hardly changed: there the
    regression removes all of that noise (a control variate whose weight is estimated). A line does not
    shift a slope, as a running mean does. Losses above twice the first are cut to that, so that the end
    where the curve blows up hardly reaches back. A loss that is not finite is left out.
    """
    rows = np.array([row for row in zip(lr, loss, start, strict=True) if math.isfinite(row[1])])
    if len(rows) < 2:
        rates, losses, _ = rows.reshape(-1, 3).T
        return LRCurve(rates, losses, losses, np.zeros_like(losses))
    decades, first = np.log10(rows[:, 0]), float(np.median(rows[: max(5, len(rows) // 10), 1]))
    tame = np.minimum(rows[:, 1], first + max(abs(first), first - float(rows[:, 1].min())))
    width = max(_WIDTH, 1.5 * float(decades[-1] - decades[0]) / (len(rows) - 1))
    control = rows[:, 2] - rows[:, 2].mean()
    points = [_regression(place, decades, control, tame, width) for place in decades]
    smooth, error = np.array(points).T
    return LRCurve(rows[:, 0], rows[:, 1], smooth, error)


def _regression(
    place: float, decades: Values, control: Values, values: Values, width: float
) -> tuple[float, float]:
    """(height, its standard error) of the regression around `place`, for a window of average difficulty."""
    away = decades - place
    weights = np.exp(-0.5 * (away / width) ** 2)
    columns = np.stack([np.ones_like(away), away, control], axis=1)
    roots = np.sqrt(weights)
    line = np.linalg.lstsq(columns * roots[:, None], values * roots, rcond=None)[0]
    variance = float(weights @ (values - columns @ line) ** 2 / weights.sum())
    return float(line[0]), math.sqrt(variance * float((weights**2).sum()) / float(weights.sum()) ** 2)


def slopes(of: LRCurve) -> Values:
    """The slopes of the smoothed loss per factor of ten of the learning rate. (steps,)"""
    gradient: Values = np.gradient(of.smooth, np.log10(of.lr))
    return gradient


def steepest(of: LRCurve) -> float | None:
    """The rate where the loss falls fastest, before its minimum; None at an end of the curve."""
    index = int(slopes(of)[: of.lowest + 1].argmin())
    return None if index < _EDGE or _is_at_end(of, index) else float(of.lr[index])


def minimum(of: LRCurve) -> float | None:
    """A tenth of the rate where the loss is lowest; None where the curve ends before it turns."""
    return None if _is_at_end(of, of.lowest) else float(of.lr[of.lowest]) / 10


def valley(of: LRCurve) -> float | None:
    """Two thirds into the valley: the longest decreasing subsequence of losses, without its flat ends."""
    path = longest_fall(of.smooth[: of.lowest + 1])
    heights = of.smooth[path]
    depth = heights[0] - heights[-1]
    is_inside = (heights[-1] + _ENDS * depth <= heights) & (heights <= heights[0] - _ENDS * depth)
    rates = of.lr[path][is_inside]
    if len(rates) < 2:
        return None
    begin, end = math.log10(rates[0]), math.log10(rates[-1])
    return float(10 ** (begin + _INTO * (end - begin)))


def longest_fall(values: Values) -> list[int]:
    """The indices of a longest strictly decreasing subsequence (Fredman, 1975): n log n."""
    tails: list[float] = []  # minus the largest last value of a subsequence of each length
    ends: list[int] = []
    before = [-1] * len(values)
    for index, value in enumerate(values):
        length = bisect.bisect_left(tails, -value)
        before[index] = ends[length - 1] if length else -1
        tails[length : length + 1], ends[length : length + 1] = [-float(value)], [index]
    path = [ends[-1]]
    while before[path[-1]] >= 0:
        path.append(before[path[-1]])
    return path[::-1]


def slide(of: LRCurve) -> float | None:
    """The largest rate before the minimum at which the loss still falls a quarter as fast as anywhere."""
    falls = slopes(of)[: of.lowest + 1]
    index = int(np.flatnonzero(falls <= _STILL * falls.min())[-1])
    return None if _is_at_end(of, index) else float(of.lr[index])


def _is_at_end(of: LRCurve, index: int) -> bool:
    return index > len(of.lr) - 1 - _EDGE


CRITERIA = {"steepest": steepest, "minimum/10": minimum, "valley": valley, "slide": slide}


def suggest_lr(of: LRCurve, diverged: bool) -> LRVerdict:
    """Suggest the geometric mean of the upper two of the criteria that agree, at least three of the four.

    A run that warms up to its largest rate, and decays from it, bears more than first steps do: over
    grids of rates the mean of all of them came out too low.
    """
    if reason := why_unusable(of, diverged):
        return LRVerdict(dict.fromkeys(CRITERIA), (), None, *reason)
    criteria = {name: criterion(of) for name, criterion in CRITERIA.items()}
    rates = {name: lr for name, lr in criteria.items() if lr is not None}
    agreeing = agreed(rates)
    if len(agreeing) >= _ENOUGH:
        return LRVerdict(criteria, agreeing, math.sqrt(rates[agreeing[-1]] * rates[agreeing[-2]]), "", {})
    if len(rates) < _ENOUGH:
        text = "the curve ends before most criteria have found a rate"
        return LRVerdict(criteria, agreeing, None, text, {"--max": 100 * float(of.lr[-1])})
    factor = max(rates.values()) / min(rates.values())
    text = f"no three criteria lie within a factor of {AGREE:g}; they differ by a factor of {factor:.0f}"
    return LRVerdict(criteria, agreeing, None, text, {"--steps": 3 * len(of.lr)})


def agreed(rates: Mapping[str, float]) -> tuple[str, ...]:
    """The most names whose rates lie within a factor of 15, the lowest first; of several sets the closest."""
    names = sorted(rates, key=lambda name: rates[name])
    groups = [tuple(names[a:b]) for a in range(len(names)) for b in range(a + 1, len(names) + 1)]
    factors = {group: rates[group[-1]] / rates[group[0]] for group in groups}
    close = [group for group in groups if factors[group] <= AGREE * (1 + 1e-9)]
    return max(close, key=lambda group: (len(group), -factors[group]), default=())


def why_unusable(of: LRCurve, diverged: bool) -> tuple[str, Mapping[str, float]] | None:
    """(why the curve says nothing, what may help); None where it falls and turns."""
    if not len(of.lr):
        return "the first loss is not finite", {}
    low, high, count = float(of.lr[0]), float(of.lr[-1]), len(of.lr)
    lower, wider = {"--min": low / 1000}, {"--max": high * 100}
    if count < FEWEST:
        return f"the loss diverged within {count} steps, from lr {low:.2g} to {high:.2g}", lower
    index, falls = of.lowest, slopes(of)
    first, lowest = float(of.smooth[: _EDGE + 1].mean()), float(of.smooth[index])
    fall = float(of.smooth[: index + 1].max()) - lowest
    if fall < max(_CLEAR * float(of.error[index]), _SHARE * abs(first)):
        text = f"the loss never fell clearly{' before it diverged' if diverged else ''}: "
        text += f"from {first:.4g} at first to {lowest:.4g} at its lowest"
        finer = {"--steps": 3 * count} if count < _COARSE else {}
        return text, finer if diverged else wider
    if _is_at_end(of, index) and falls[-_EDGE:].mean() <= _STILL * falls.min():
        return f"the loss still falls at lr {high:.2g}, where the range ends", wider
    if int(falls[: index + 1].argmin()) < _EDGE:
        return f"the loss falls fastest at lr {low:.2g}, where the range begins", lower
    return None
