"""Gradients summed while the backward pass runs, against sums of what each rank alone comes to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ranked
import torch
from ranked import Ranks


@pytest.fixture(scope="module")
def in_ranks() -> Iterator[Ranks]:
    with ranked.serving() as ranks:
        yield ranks


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("bucket_bytes", [1, 200, 1 << 20])
def test_gradients_are_the_sums_of_each_ranks(in_ranks: Ranks, size: int, bucket_bytes: int) -> None:
    alone = [ranked.alone(rank) for rank in range(size)]
    expected = [sum(of_rank[i] for of_rank in alone) for i in range(len(alone[0]))]
    for steps in in_ranks.values(size, ranked.overlapped, bucket_bytes, None):
        for step in steps:
            torch.testing.assert_close(step, expected)
        for first, second in zip(steps[0], steps[1], strict=True):
            assert torch.equal(first, second)  # no order is made anew after the first pass
