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


def test_in_bf16_half_the_bytes_are_sent_and_rounded(in_ranks: Ranks) -> None:
    alone = [ranked.alone(rank) for rank in range(2)]
    for steps in in_ranks.values(2, ranked.overlapped, 1 << 20, "bf16"):
        for summed, first, second in zip(steps[0], *alone, strict=True):
            assert summed.dtype == torch.float32
            assert torch.equal(summed, (first.bfloat16() + second.bfloat16()).float())


def test_all_but_the_last_bucket_are_sent_before_the_backward_pass_ends(in_ranks: Ranks) -> None:
    for sent in in_ranks.values(2, ranked.sent_before_the_end):
        assert sent == ["2.bias", "2.weight", "0.bias"]  # the last waits for the window's numbers


def test_a_gradient_that_comes_twice_is_refused_with_the_setting_that_helps(in_ranks: Ranks) -> None:
    for ended in in_ranks(2, ranked.come_twice, 1 << 20):
        assert ended.error == ""  # one bucket waits for all that comes
    for ended in in_ranks(2, ranked.come_twice, 1):
        assert "came twice in one backward pass" in ended.error


def test_what_no_rank_uses_keeps_no_gradient(in_ranks: Ranks) -> None:
    for has_gradient in in_ranks.values(3, ranked.used_by_some):
        assert has_gradient == [True, True, True, True, False, False]
