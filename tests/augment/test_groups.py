"""Groups: each sample has the change of its number, on the host and where all are computed."""

from __future__ import annotations

import torch
from torch import Tensor

from trainrun.augment.groups import Groups


def shift_(x: Tensor, amount: Tensor) -> Tensor:
    return x.add_(amount[:, None])


def test_each_sample_has_the_change_of_its_number_and_other_numbers_none() -> None:
    x, number, amount = (
        torch.arange(10.0)[:, None],
        torch.tensor([0, 1, 2, 4, 1, 0, 2, 2, 4, 3]),
        torch.rand(10),
    )
    groups = Groups(number, 3)
    changed, numbers, amounts = map(groups.sort, (x, number, amount))
    for k, change in enumerate((lambda x, _: -x, shift_, lambda x, _: x.square())):
        changed = groups.change(changed, k, change, amounts)
    values = groups.sort(x)[:, 0]
    for value, k, shift, result in zip(values, numbers, amounts, changed[:, 0], strict=True):
        expected = [-value, value + shift, value * value, value, value][int(k)]
        torch.testing.assert_close(result, expected)


def test_a_change_that_nobody_drew_is_not_called() -> None:
    def fail(x: Tensor) -> Tensor:
        raise AssertionError

    assert Groups(torch.tensor([1, 1]), 2).change(torch.ones(2, 1), 0, fail).tolist() == [[1], [1]]


def test_where_sorting_would_wait_for_the_device_all_go_through_each_change() -> None:
    """The meta device refuses to say how many there are, as a GPU would have to wait for it."""
    x, number = torch.empty(3, 1, device="meta"), torch.empty(3, dtype=torch.int64, device="meta")
    groups = Groups(number, 2)
    assert groups.change(groups.sort(x), 0, shift_, torch.empty(3, device="meta")).shape == (3, 1)


def test_what_works_in_place_changes_only_the_chosen_where_all_are_computed() -> None:
    x, number = torch.ones(3, 1), torch.tensor([0, 1, 0])
    groups = Groups(number, 2)
    groups.is_host = False
    assert groups.change(x, 0, shift_, torch.ones(3)).tolist() == [[2], [1], [2]]
    assert x.tolist() == [[1], [1], [1]]
