"""Derive random seeds by arithmetic: each draw of a run is a function of the seed and its purpose."""

from __future__ import annotations

_64 = (1 << 64) - 1
_32 = (1 << 32) - 1


def splitmix64(x: int) -> int:
    """One step of Steele, Lea and Flood's SplitMix64 (2014): spreads an integer over 64 bits."""
    x = (x + 0x9E3779B97F4A7C15) & _64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _64
    return x ^ (x >> 31)


def derive(*parts: int | str) -> int:
    """A 63-bit seed for a purpose: `derive(seed, "split")`, `derive(seed, epoch, index)`."""
    state = 0
    for part in parts:
        number = part if isinstance(part, int) else int.from_bytes(part.encode(), "little")
        state = splitmix64(state ^ (number & _64))
        while number > _64:  # long words fold in completely
            number >>= 64
            state = splitmix64(state ^ (number & _64))
    return state >> 1


def stream(seed: int, count: int) -> int:
    """The `count`-th seed of a stream in which no two of the first 2^32 are alike.

    torch's CPU generator reads only the low 32 bits of its seed, so those are a bijection of
    `count` (the finalizer of Appleby's MurmurHash3); hashes cut to 32 bits would collide.
    """
    key = splitmix64(seed & _64)
    x = (key + count) & _32
    x ^= x >> 16
    x = (x * 0x85EBCA6B) & _32
    x ^= x >> 13
    x = (x * 0xC2B2AE35) & _32
    return (key >> 32 << 32) | (x ^ (x >> 16))
