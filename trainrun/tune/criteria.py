"""What the curve of a range test says of the learning rate: four criteria, and where they agree."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 12  # points that can be judged
_COARSE = 50  # below which more of them may show what these do not
AGREE = 15.0  # the largest factor between criteria that agree: a slide often ends at ten times the others
_ENOUGH = 3  # of them
_WIDTH = 0.25  # decades of learning rate: standard deviation of what a smoothed point is the mean of
_CLEAR = 5.0  # standard errors that a fall must be deep
_SHARE = 0.02  # of the first loss, which it must be deep as well
_STILL = 0.25  # of the steepest fall: with less the loss has left the slide
_ENDS = 0.05  # of a valley's depth, at either end, that does not count as falling
_INTO = 2 / 3  # of the valley
_RISE = 0.2  # of the whole fall, that ends a course which has come half of the way
_EDGE = 3  # points at either end where an extreme is the end's, not the curve's

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
        """Where the loss is lowest, before it rises again: what comes after is another course, of weights
        that a rate has thrown elsewhere.
        """
        end = int(self.smooth.argmin())
        top = float(self.smooth[: end + 1].max())
        low = np.minimum.accumulate(self.smooth)
        whole = top - float(low[-1])
        has_risen = (top - low > whole / 2) & (self.smooth - low > _RISE * whole)
        before = self.smooth[: int(has_risen.argmax()) if has_risen.any() else len(self.smooth)]
        return int(before.argmin())


@dataclass(frozen=True)
class LRVerdict:
    """The criteria's rates, None where one has none; the suggestion, or why there is none.

    `instead`: another range, or more steps, by the names of the command's flags, that may give one.
    """

    criteria: Mapping[str, float | None]
    agreeing: tuple[str, ...]  # from the lowest rate to the largest
    suggestion: float | None
    reason: str
    instead: Mapping[str, float]


def curve(lr: Sequence[float], loss: Sequence[float], start: Sequence[float]) -> LRCurve:
    """Smoothed by a weighted regression around each point, on the logarithm of the rate and on `start`,
    the loss that the first weights have on the same samples.

    What makes one batch harder than another moves both losses, and most where the weights have hardly
    changed: there the regression takes all of that noise away (a control variate whose weight is
    estimated), and less and less as they do. A line does not shift a slope, as a running mean does,
    whose minimum lies at a rate that comes after. Losses above twice the first count as that, so that
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
    found = [_at(place, decades, control, tame, width) for place in decades]
    smooth, error = np.array(found).T
    return LRCurve(rows[:, 0], rows[:, 1], smooth, error)


def _at(place: float, decades: Values, control: Values, values: Values, width: float) -> tuple[float, float]:
    """(height, its standard error) of the regression around `place`, for a window of average difficulty."""
    away = decades - place
    weights = np.exp(-0.5 * (away / width) ** 2)
    columns = np.stack([np.ones_like(away), away, control], axis=1)
    roots = np.sqrt(weights)
    line = np.linalg.lstsq(columns * roots[:, None], values * roots, rcond=None)[0]
    variance = float(weights @ (values - columns @ line) ** 2 / weights.sum())
    return float(line[0]), math.sqrt(variance * float((weights**2).sum()) / float(weights.sum()) ** 2)


def slopes(of: LRCurve) -> Values:
    """Of the smoothed loss, per factor of ten of the learning rate. (steps,)"""
    found: Values = np.gradient(of.smooth, np.log10(of.lr))
    return found


def steepest(of: LRCurve) -> float | None:
    """Where the loss falls fastest, before its minimum; None where that is at an end of the curve."""
    at = int(slopes(of)[: of.lowest + 1].argmin())
    return None if at < _EDGE or at > len(of.lr) - 1 - _EDGE else float(of.lr[at])


def minimum(of: LRCurve) -> float | None:
    """A tenth of the rate where the loss is lowest; None where the curve ends before it turns."""
    at = of.lowest
    return None if at > len(of.lr) - 1 - _EDGE else float(of.lr[at]) / 10


def valley(of: LRCurve) -> float | None:
    """Two thirds into the longest valley: the longest decreasing subsequence of losses, from where it
    has begun to fall to where it has nearly reached its bottom, measured along the logarithm of the rate.
    """
    path = longest_fall(of.smooth[: of.lowest + 1])
    heights = of.smooth[path]
    depth = heights[0] - heights[-1]
    inside = [
        at
        for at, height in zip(path, heights, strict=True)
        if heights[-1] + _ENDS * depth <= height <= heights[0] - _ENDS * depth
    ]
    if len(inside) < 2:
        return None
    begin, end = math.log10(of.lr[inside[0]]), math.log10(of.lr[inside[-1]])
    return float(10 ** (begin + _INTO * (end - begin)))


def longest_fall(values: Values) -> list[int]:
    """The places of a longest strictly decreasing subsequence (Fredman, 1975): n log n."""
    tails: list[float] = []  # minus the largest last value of a subsequence of each length
    ends: list[int] = []
    before = [-1] * len(values)
    for at, value in enumerate(values):
        length = bisect.bisect_left(tails, -value)
        before[at] = ends[length - 1] if length else -1
        tails[length : length + 1], ends[length : length + 1] = [-float(value)], [at]
    path = [ends[-1]]
    while before[path[-1]] >= 0:
        path.append(before[path[-1]])
    return path[::-1]


def slide(of: LRCurve) -> float | None:
    """The largest rate, before the minimum, at which the loss still falls at a quarter of its fastest;
    None where that is where the curve ends.
    """
    falls = slopes(of)[: of.lowest + 1]
    at = int(np.flatnonzero(falls <= _STILL * falls.min())[-1])
    return None if at > len(of.lr) - 1 - _EDGE else float(of.lr[at])


CRITERIA = {"steepest": steepest, "minimum/10": minimum, "valley": valley, "slide": slide}


def suggest_lr(of: LRCurve, diverged: bool) -> LRVerdict:
    """The suggestion: the geometric mean of the upper two of the criteria that lie within a factor of 15,
    at least three of the four. A run that warms up to its largest rate, and decays from it, bears more
    than first steps do: over grids of rates the mean of all of them came out too low.
    """
    if reason := unfit(of, diverged):
        return LRVerdict(dict.fromkeys(CRITERIA), (), None, *reason)
    found = {name: criterion(of) for name, criterion in CRITERIA.items()}
    known = {name: lr for name, lr in found.items() if lr is not None}
    agreeing = agreed(known)
    if len(agreeing) >= _ENOUGH:
        return LRVerdict(found, agreeing, math.sqrt(known[agreeing[-1]] * known[agreeing[-2]]), "", {})
    wider = {"--max": 100 * float(of.lr[-1])}
    if len(known) < _ENOUGH:
        return LRVerdict(
            found, agreeing, None, "the curve ends before most criteria have found a rate", wider
        )
    apart = max(known.values()) / min(known.values())
    told = f"no three criteria lie within a factor of {AGREE:g}; they are apart by one of {apart:.0f}"
    return LRVerdict(found, agreeing, None, told, {"--steps": 3 * len(of.lr)})


def agreed(known: Mapping[str, float]) -> tuple[str, ...]:
    """The most names whose rates lie within a factor of 15, from the lowest rate to the largest; of
    several such sets the closest together.
    """
    names = sorted(known, key=lambda name: known[name])
    sets = [tuple(names[a:b]) for a in range(len(names)) for b in range(a + 1, len(names) + 1)]
    apart = {some: known[some[-1]] / known[some[0]] for some in sets}
    close = [some for some in sets if apart[some] <= AGREE * (1 + 1e-9)]
    return max(close, key=lambda some: (len(some), -apart[some]), default=())


def unfit(of: LRCurve, diverged: bool) -> tuple[str, Mapping[str, float]] | None:
    """(why the curve says nothing, what may help); None where it falls and turns."""
    if not len(of.lr):
        return "the first loss is not finite", {}
    low, high, count = float(of.lr[0]), float(of.lr[-1]), len(of.lr)
    lower, wider = {"--min": low / 1000}, {"--max": high * 100}
    if count < FEWEST:
        return f"the loss diverged within {count} steps, from lr {low:.2g} to {high:.2g}", lower
    at, falls = of.lowest, slopes(of)
    first, lowest = float(of.smooth[: _EDGE + 1].mean()), float(of.smooth[at])
    fall = float(of.smooth[: at + 1].max()) - lowest
    if fall < max(_CLEAR * float(of.error[at]), _SHARE * abs(first)):
        text = f"the loss never fell clearly{' before it diverged' if diverged else ''}: "
        text += f"from {first:.4g} at first to {lowest:.4g} at its lowest"
        finer = {"--steps": 3 * count} if count < _COARSE else {}
        return text, finer if diverged else wider
    if at > count - 1 - _EDGE and falls[-_EDGE:].mean() <= _STILL * falls.min():
        return f"the loss still falls at lr {high:.2g}, where the range ends", wider
    if int(falls[: at + 1].argmin()) < _EDGE:
        return f"the loss falls fastest at lr {low:.2g}, where the range begins", lower
    return None
