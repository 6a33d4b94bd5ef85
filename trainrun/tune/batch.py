"""The largest micro-batch that fits: which sizes are tried, in which order, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

_SPAN = 16  # the first size that is tried is a window's this part: larger ones show the throughput
_ALIKE = 0.1  # share by which two rates differ from one process to the next
_NOISY = 0.25  # share from which on a difference is told, however busy the machine was
_OCTAVE = 4  # sizes of an evaluation from one power of two to the next


@dataclass(frozen=True)
class TriedSize:
    """One size, and what became of it. `pieces` micro-batches of it make a window.

    `fits` is None where it failed for another reason than memory, which `why` tells.
    """

    size: int
    pieces: int
    fits: bool | None
    why: str = ""  # it does not
    samples_per_s: float = 0.0
    noise: float = 0.0  # of that rate, as a share of it
    peak_bytes: int = 0
    reserved_bytes: int | None = None  # by a GPU's allocator, in which the peak lies
    is_beyond: bool = False  # of the run's window: tried for its rate alone


@dataclass(frozen=True)
class Found:
    """What a search came to: the sizes that were tried, from the smallest up, and the largest that fits."""

    tried: tuple[TriedSize, ...]
    largest: TriedSize

    def less(self, why: str) -> Found | None:
        """The next smaller size in the place of the largest; None where none is known to fit."""
        below = [one for one in self.tried if one.fits and one.size < self.largest.size]
        if not below:
            return None
        told = tuple(replace(one, fits=False, why=why) if one is self.largest else one for one in self.tried)
        return Found(told, below[-1])

    @property
    def rival(self) -> TriedSize | None:
        """A smaller one that is as fast or faster."""
        best = fastest(self.tried)
        return best if best is not None and best.size < self.largest.size else None


Sizes = dict[int, int]  # size -> how many make the window, from the smallest up


def cuts(window: int) -> Sizes:
    """Every micro-batch that divides the window."""
    small = [n for n in range(1, math.isqrt(window) + 1) if window % n == 0]
    return {size: window // size for size in sorted({*small, *(window // n for n in small)})}


def cuts_of_all(size: int) -> Sizes:
    """Every way to cut the whole training set into parts of one size, of which the last may be short."""
    root = math.isqrt(size) + 1
    found = {*range(1, root + 1), *(-(-size // pieces) for pieces in range(1, root + 1))}
    pieces = {one: -(-size // one) for one in sorted(found)}
    return {one: count for one, count in pieces.items() if -(-size // count) == one}  # the least for so many


def rounded(most: int) -> Sizes:
    """Sizes for an evaluation of `most` samples: four from one power of two to the next, and all at once."""
    found = {step << power for power in range(most.bit_length()) for step in range(_OCTAVE, 2 * _OCTAVE)}
    found |= {*range(1, _OCTAVE), most}
    return {one: math.ceil(most / one) for one in sorted(found) if one <= most}


def beyond(window: int, most: int) -> list[int]:
    """Sizes above the window: doubled up to `most`, and `most` itself."""
    found = [window << power for power in range(1, max(1, most // window).bit_length())]
    return [*found, *([most] if most > window and most not in found else [])]


def first_of(sizes: Sizes, is_free: bool) -> int:
    """Where to begin: a sixteenth of the largest, of freely chosen sizes a power of two."""
    least = max(sizes) / _SPAN
    if is_free:
        least = 2 ** math.ceil(math.log2(max(1, least)))
    return next(one for one in sizes if one >= least)


def largest(sizes: Sequence[int], first: int, fits: Callable[[int], bool | None]) -> int | None:
    """The largest of ascending `sizes` that fits, where all below one that fits do; None where none does.

    Doubled from `first` up to one that does not fit, or halved down to one that does; what lies
    between the two is bisected. A size that `fits` gives None for is left out.
    """
    left = list(sizes)
    low, high = -1, len(left)  # places of the largest that is known to fit, of the least that does not
    at = left.index(first)
    while low + 1 < high:
        answer = fits(left[at])
        if answer is None:
            del left[at]
            high -= 1
        elif answer:
            low = at
        else:
            high = at
        at = _next(left, low, high, at)
    return left[low] if low >= 0 else None


def _next(sizes: Sequence[int], low: int, high: int, at: int) -> int:
    """The place to try next, between `low` and `high`; `at` is where nothing is known of any."""
    if high == len(sizes):
        if low < 0:
            return min(at, high - 1)
        doubled = (one for one in range(low + 1, high) if sizes[one] >= 2 * sizes[low])
        after = next(doubled, high - 1)
        return high - 1 if 2 * sizes[after] > sizes[-1] else after  # not two that are almost the same
    if low < 0:
        return next((one for one in range(high - 1, -1, -1) if 2 * sizes[one] <= sizes[high]), 0)
    return (low + high) // 2


def are_alike(one: TriedSize, other: TriedSize) -> bool:
    """Whether two rates are the same, as far as was measured."""
    noise = min(max(_ALIKE, one.noise, other.noise), _NOISY)
    return abs(one.samples_per_s - other.samples_per_s) <= noise * max(one.samples_per_s, other.samples_per_s)


def fastest(tried: Sequence[TriedSize]) -> TriedSize | None:
    """Of those that fit and keep the window, the smallest that is as fast as any."""
    fitting = sorted((one for one in tried if one.fits and not one.is_beyond), key=lambda one: one.size)
    top = max(fitting, key=lambda one: one.samples_per_s, default=None)
    return next((one for one in fitting if top and are_alike(one, top)), None)
