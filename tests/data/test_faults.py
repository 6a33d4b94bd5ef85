"""What cannot be learned from is named, and what can is left alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainrun.data.faults import check_targets, refuse_not_finite
from trainrun.protocols import Batch, DataInfo, Position
from trainrun.vocabulary.errors import DataError

NAN, INF = float("nan"), float("inf")


def info(kind: str, count: int) -> DataInfo:
    return DataInfo("toy", (2,), kind, count, {})


FINE = [
    ("classes", 3, torch.tensor([0, 1, 2])),
    ("labels", 2, torch.tensor([[0, 1], [1, 1], [0, 0]])),
    ("values", 2, torch.tensor([[0.0, -1e30], [1e30, 1.0], [2.0, 3.0]])),
    ("other", 0, torch.tensor([NAN, INF])),
    ("classes", 3, {"mask": torch.tensor([9])}),  # a task of the user's knows what that is
]


@pytest.mark.parametrize(("kind", "count", "targets"), FINE, ids=lambda value: str(value)[:20])
def test_targets_of_the_kind_pass(kind: str, count: int, targets: Any) -> None:
    check_targets(targets, range(3), "Rows", info(kind, count))


ODD = [
    ("classes", 3, torch.tensor([0, 3, 1]), "sample 20 of Rows has the target 3, not a class from 0 to 2"),
    ("classes", 3, torch.tensor([0, 1, -1]), "sample 30 of Rows has the target -1, not"),
    ("classes", 3, torch.tensor([[0.5], [1.0], [2.0]]), r"float32 \(3, 1\), not a class from 0 to 2"),
    ("labels", 2, torch.tensor([[0, 1], [1, 1], [0, 2]]), r"sample 30 .* \[0, 2\], not 2 labels"),
    ("labels", 2, torch.tensor([[0, 1, 1]]), "not 2 labels, each 0 or 1"),
    ("values", 1, torch.tensor([[NAN], [1.0], [0.0]]), r"sample 10 .* \[nan\], not 1 finite numbers"),
    ("values", 1, torch.tensor([[0.0], [INF], [0.0]]), "sample 20 "),
    ("values", 1, torch.tensor([[0.0, 1.0]]), "not 1 finite numbers"),
    ("values", 1, torch.tensor([1, 2]), "int64"),
]


@pytest.mark.parametrize(("kind", "count", "targets", "text"), ODD, ids=lambda value: str(value)[:20])
def test_the_first_target_of_another_kind_is_named(kind: str, count: int, targets: Any, text: str) -> None:
    with pytest.raises(DataError, match=f"data: .*{text}"):
        check_targets(targets, [10, 20, 30], "Rows", info(kind, count))


def batch(inputs: Any, indices: list[int]) -> Batch:
    return Batch(inputs, torch.zeros(len(indices)), indices, Position())


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("nested", [False, True])
def test_the_first_sample_with_inputs_that_are_no_numbers_is_named(bad: float, nested: bool) -> None:
    fine, odd = torch.ones(2, 3, 4), torch.ones(2, 3, 4)
    odd[1, 2, 0] = bad
    inputs = {"a": torch.zeros(2, dtype=torch.int64), "b": [odd]} if nested else odd
    with pytest.raises(DataError, match=r"sample 9 of Rows \(val\) has an input"):
        refuse_not_finite([batch(fine, [1, 2]), batch(inputs, [8, 9])], "val", "Rows")


def test_inputs_that_are_numbers_are_not_to_blame() -> None:
    refuse_not_finite([batch(torch.tensor([1e38, -1e38]), [0, 1]), batch(torch.tensor([3]), [2])], "val", "R")
