"""Draws: SplitMix64's integers, evenly spread, and alike however samples are batched."""

from __future__ import annotations

import math

import pytest
import torch

from trainrun.augment.draws import Draws
from trainrun.vocabulary.seeds import derive, splitmix64

CPU = torch.device("cpu")
GOLDEN, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def finalizer(x: int) -> int:
    return splitmix64((x - GOLDEN) & MASK)  # which adds that constant first


def test_the_numbers_are_splitmix64s_over_pythons_own_integers() -> None:
    samples, draws = [0, 5, 59_999, 2**40], Draws(7, 3, [0, 5, 59_999, 2**40], CPU)
    numbers = torch.cat([draws.uniform(2, 3).flatten(1), draws.uniform()[:, None]], 1)
    for row, sample in zip(numbers.tolist(), samples, strict=True):
        key = finalizer((sample + derive(7, "augment", 3)) & MASK)
        expected = [(finalizer((key + k * GOLDEN) & MASK) >> 40) / (1 << 24) for k in range(1, 8)]
        assert row == expected


def test_numbers_are_even_and_independent() -> None:
    x = Draws(0, 0, range(50_000), CPU).uniform(4)
    assert float(x.min()) >= 0 and float(x.max()) < 1
    counts = torch.histc(x, 64, 0, 1)
    expected = x.numel() / 64
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert chi2 < 63 + 5 * math.sqrt(2 * 63)
    between_numbers = torch.corrcoef(x.T).fill_diagonal_(0).abs().max()
    between_samples = torch.corrcoef(torch.stack([x[:-1, 0], x[1:, 0]]))[0, 1].abs()
    assert max(float(between_numbers), float(between_samples)) < 5 / math.sqrt(len(x))


@pytest.mark.parametrize("other", [(1, 0), (0, 1)])
def test_another_seed_or_epoch_draws_other_numbers(other: tuple[int, int]) -> None:
    first, second = (Draws(*which, range(5000), CPU).uniform() for which in ((0, 0), other))
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 5 / math.sqrt(5000)


def test_a_sample_draws_the_same_alone_in_any_batch_and_from_a_list() -> None:
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    whole = Draws(1, 2, order, CPU)
    expected = torch.cat([whole.uniform(3), whole.integers(10, 2).float(), whole.uniform()[:, None]], 1)
    rows = []
    for part in order.split(7):
        draws = Draws(1, 2, part.tolist(), CPU)
        rows.append(torch.cat([draws.uniform(3), draws.integers(10, 2).float(), draws.uniform()[:, None]], 1))
    assert torch.equal(torch.cat(rows), expected)


def test_integers_cover_their_range_and_chances_their_share() -> None:
    draws = Draws(0, 0, range(90_000), CPU)
    counts = torch.bincount(draws.integers(9), minlength=9)
    assert len(counts) == 9
    assert float((counts - 10_000).abs().max()) < 5 * math.sqrt(10_000)
    assert float(draws.chance(0.3).float().mean()) == pytest.approx(0.3, abs=0.008)
    assert not draws.chance(0.0).any() and draws.chance(1.0).all()
    assert float(draws.between(2, 3).min()) >= 2 and float(draws.between(2, 3).max()) <= 3


def test_nothing_is_drawn_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    Draws(0, 0, [1, 2], CPU).uniform(8)
    assert torch.equal(before, torch.get_rng_state())
