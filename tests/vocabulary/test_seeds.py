"""Every draw is a function of (seed, purpose), and no two forward passes share one."""

from __future__ import annotations

import pytest
import torch

from trainrun.vocabulary.seeds import derive, splitmix64, stream


def test_splitmix64_is_the_published_generator() -> None:
    # The first three outputs of Vigna's splitmix64.c seeded with 1234567 (prng.di.unimi.it).
    gamma, seed = 0x9E3779B97F4A7C15, 1234567
    outputs = [splitmix64((seed + i * gamma) % 2**64) for i in range(3)]
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("seed", [0, 1, 42, 2**31, 2**63])
def test_no_two_of_200_000_forward_passes_share_the_bits_that_torch_reads(seed: int) -> None:
    assert len({stream(seed, count) & 0xFFFFFFFF for count in range(200_000)}) == 200_000


def test_torch_reads_only_the_low_32_bits_of_a_cpu_seed() -> None:
    """Why the low bits must be a bijection; where this fails, torch has changed and hashes would do."""
    draws = [torch.rand(3, generator=torch.Generator().manual_seed(7 + (high << 32))) for high in (0, 5)]
    assert torch.equal(*draws)


def test_streams_fit_a_torch_seed_and_differ_between_runs() -> None:
    assert all(0 <= stream(seed, 3) < 2**64 for seed in (0, 1, 2**64 - 1))
    assert stream(1, 0) != stream(2, 0)
    assert [stream(5, i) for i in range(3)] == [stream(5, i) for i in range(3)]


def test_derived_seeds_tell_purposes_apart() -> None:
    wanted = [
        (1, "split"),
        (1, "order"),
        (2, "order"),
        (1, "order", 0),
        (1, "order", 1),
        (1, 0, 1),
        (1, 1, 0),
    ]
    wanted += [(1, "a word of more than eight bytes"), (1, "a word of more than eight bytes!")]
    seeds = {derive(*parts) for parts in wanted}
    assert len(seeds) == len(wanted)
    assert all(0 <= seed < 2**63 for seed in seeds)  # numpy, torch and random all take these
