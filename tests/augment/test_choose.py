"""One change for each sample."""

from __future__ import annotations

import torch
from torch import Tensor

from trainrun.augment.choose import choose


def test_each_sample_has_the_change_of_its_number_and_other_numbers_none() -> None:
    x, number, amounts = (
        torch.arange(10.0)[:, None],
        torch.tensor([0, 1, 2, -1, 1, 0, 2, 2, -1, 3]),
        torch.rand(10),
    )

    def shift(x: Tensor, amount: Tensor) -> Tensor:
        return x + amount[:, None]

    changes = [(torch.neg,), (shift, amounts), (torch.square,)]
    expected = [
        [lambda v, a: -v, lambda v, a: v + a, lambda v, a: v * v, lambda v, a: v][k](v, a)
        for v, a, k in zip(x[:, 0].tolist(), amounts.tolist(), (number % 4).tolist(), strict=True)
    ]
    before = x.clone()
    torch.testing.assert_close(choose(x, number, changes)[:, 0], torch.tensor(expected))
    assert torch.equal(x, before)


def test_a_change_that_nobody_drew_is_not_called() -> None:
    def fail(x: Tensor) -> Tensor:
        raise AssertionError

    assert choose(torch.ones(2, 1), torch.tensor([1, 1]), [(fail,), (torch.neg,)]).tolist() == [[-1], [-1]]


def test_where_selecting_would_wait_for_the_device_the_result_is_the_same() -> None:
    """On a device that is not the host all samples go through each change."""
    x = torch.empty(3, 1, device="meta")
    assert choose(x, torch.empty(3, dtype=torch.int64, device="meta"), [(torch.neg,)]).shape == (3, 1)
