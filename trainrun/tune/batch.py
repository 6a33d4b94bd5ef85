"""Find the largest micro-batch that fits: which sizes to try, in which order, and what follows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

_SPAN = 16  # the first size tried is this part of the window: a few larger ones show the throughput's curve
_ALIKE = 0.1  # share by which two rates differ from one process to the next on an idle machine
_NOISY = 0.25  # a larger difference counts, however busy the machine was
_OCTAVE = 4  # sizes of an evaluation per doubling: none fits that is a quarter larger than the one found


@dataclass(frozen=True)
class TriedSize:
    """One size that was tried. `pieces` micro-batches of it make a window."""

    size: int
    pieces: int
    fits: bool | None  # None: it failed for another reason than memory
    why: str = ""  # it does not fit
    samples_per_s: float = 0.0
    noise: float = 0.0  # of that rate, as a share of it
    peak_bytes: int = 0
    reserved_bytes: int | None = None  # by a GPU's allocator, in which the peak lies
    is_beyond: bool = False  # of the run's window: tried for its rate alone


@dataclass(frozen=True)
class BatchSearchResult:
    """A search's result: the sizes that were tried, from the smallest up, and the largest that fits."""

    tried: tuple[TriedSize, ...]
    largest: TriedSize

    def less(self, why: str) -> BatchSearchResult | None:
        """The result with the next smaller size that fits as the largest; None where there is none."""
        below = [size for size in self.tried if size.fits and size.size < self.largest.size]
        refused = replace(self.largest, fits=False, why=why)
        tried = tuple(refused if size is self.largest else size for size in self.tried)
        return BatchSearchResult(tried, below[-1]) if below else None

    @property
    def rival(self) -> TriedSize | None:
        """A smaller size that is as fast or faster."""
        best = fastest(self.tried)
        return best if best is not None and best.size < self.largest.size else None


Sizes = dict[int, int]  # size -> how many make the window, from the smallest up


def cuts(window: int) -> Sizes:
    """Every micro-batch that divides the window."""
    return {size: window // size for size in range(1, window + 1) if window % size == 0}


def cuts_of_all(size: int) -> Sizes:
    """Every way to cut the whole training set into parts of one size, of which the last may be short."""
    parts = sorted({math.ceil(size / pieces) for pieces in range(1, size + 1)})
    return {part: math.ceil(size / part) for part in parts}


def rounded(most: int) -> Sizes:
    """Sizes for an evaluation of `most` samples: four from one power of two to the next, and all at once."""
    sizes = {step << power for power in range(most.bit_length()) for step in range(_OCTAVE, 2 * _OCTAVE)}
    sizes |= {*range(1, _OCTAVE), most}
    return {size: math.ceil(most / size) for size in sorted(sizes) if size <= most}


def beyond(window: int, most: int) -> list[int]:
    """Sizes above the window: doubled up to `most`, and `most` itself."""
    sizes = [window << power for power in range(1, max(1, most // window).bit_length())]
    return [*sizes, most] if most > window and most not in sizes else sizes


def first_of(sizes: Sizes, is_free: bool) -> int:
    """The size to begin with: a sixteenth of the largest, of freely chosen sizes a power of two."""
    least = max(sizes) / _SPAN
    if is_free:
        least = 2 ** math.ceil(math.log2(max(1, least)))
    return next(size for size in sizes if size >= least)


def largest(sizes: Sequence[int], first: int, fits: Callable[[int], bool | None]) -> int | None:
    """The largest of ascending `sizes` that fits, where all below one that fits do; None where none does.

    Doubled from `first` up to one that does not fit, or halved down to one that does; what lies
    between the two is bisected. A size that `fits` gives None for is left out.
    """
    left = list(sizes)
    low, high = -1, len(left)  # indices of the largest that fits so far, of the smallest that does not
    index = left.index(first)
    while low + 1 < high:
        answer = fits(left[index])
        if answer is None:
            del left[index]
            high -= 1
        elif answer:
            low = index
        else:
            high = index
        index = _next(left, low, high, index)
    return left[low] if low >= 0 else None


def _next(sizes: Sequence[int], low: int, high: int, last: int) -> int:
    """The index to try next, between `low` and `high`; `last` was tried without an answer so far."""
    if low >= 0 and high < len(sizes):
        return (low + high) // 2
    if low >= 0:
        after = next((index for index in range(low + 1, high) if sizes[index] >= 2 * sizes[low]), high - 1)
        return high - 1 if 2 * sizes[after] > sizes[-1] else after  # not two that are almost the same
    if high < len(sizes):
        return next((index for index in range(high - 1, -1, -1) if 2 * sizes[index] <= sizes[high]), 0)
    return min(last, high - 1)


def are_alike(first: TriedSize, second: TriedSize) -> bool:
    """Whether two rates are the same, as far as was measured."""
    noise = min(max(_ALIKE, first.noise, second.noise), _NOISY)
    return math.isclose(first.samples_per_s, second.samples_per_s, rel_tol=noise)


def fastest(tried: Sequence[TriedSize]) -> TriedSize | None:
    """The smallest size as fast as any, of those that fit and keep the window."""
    fitting = sorted((size for size in tried if size.fits and not size.is_beyond), key=lambda size: size.size)
    top = max(fitting, key=lambda size: size.samples_per_s, default=None)
    return next((size for size in fitting if top and are_alike(size, top)), None)
