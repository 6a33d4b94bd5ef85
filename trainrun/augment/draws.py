"""Random numbers for each sample of a batch, a function of (seed, epoch, sample) and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainrun.vocabulary.seeds import derive

_SPLITMIX64 = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_GOLDEN, _FIRST, _SECOND = (number - (1 << 64) for number in _SPLITMIX64)  # as int64 writes these bits
_MORE = 8  # numbers of each sample: many augmentations draw no more


class Draws:
    """A stream of its own for each of N samples: each call takes the next numbers of all of them.

    The integers are SplitMix64's (Steele, Lea and Flood, 2014), the same on every device and however
    the samples are cut into batches.
    """

    def __init__(self, seed: int, epoch: int, indices: Sequence[int] | Tensor, device: torch.device) -> None:
        samples = torch.as_tensor(indices, dtype=torch.int64).to(device)
        self._keys = _mixed(samples + derive(seed, "augment", epoch))
        self._numbers = torch.empty(len(self._keys), 0, device=device)  # (N, made)
        self._used = 0

    def seeds(self) -> list[int]:
        """A 32-bit seed for each sample, for other generators."""
        return [key & 0xFFFFFFFF for key in self._keys.tolist()]

    def uniform(self, *shape: int) -> Tensor:
        """(N, *shape) float32 in [0, 1), multiples of 2^-24."""
        start, made = self._used, self._numbers.shape[1]
        self._used += torch.Size(shape).numel()
        if self._used > made:  # some more at once: of few numbers as of many, starting the work is the cost
            counters = torch.arange(made + 1, max(self._used, made + _MORE) + 1, device=self._keys.device)
            bits = _mixed(self._keys[:, None] + counters * _GOLDEN)
            self._numbers = torch.cat([self._numbers, _shifted(bits, 40).float().mul_(2**-24)], 1)
        return self._numbers[:, start : self._used].reshape(-1, *shape)

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        """(N, *shape) float32, uniform from `low` to `high`."""
        return low + (high - low) * self.uniform(*shape)

    def integers(self, end: int, *shape: int) -> Tensor:
        """(N, *shape) int64, uniform over 0 .. end - 1."""
        return (self.uniform(*shape).double() * end).to(torch.int64)

    def chance(self, p: float, *shape: int) -> Tensor:
        """(N, *shape) bool, true with probability `p`."""
        return self.uniform(*shape) < p


def _mixed(x: Tensor) -> Tensor:
    x = _shifted(x, 30).bitwise_xor_(x).mul_(_FIRST)
    x = _shifted(x, 27).bitwise_xor_(x).mul_(_SECOND)
    return _shifted(x, 31).bitwise_xor_(x)


def _shifted(x: Tensor, count: int) -> Tensor:
    """Shift right as unsigned integers: zeros come in."""
    return (x >> count).bitwise_and_((1 << (64 - count)) - 1)
