"""What is said of the data, of data whose fault is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from trainrun.check.context import CheckContext
from trainrun.check.data import data, standardized
from trainrun.check.sample_rows import SampleRows, seen


def names(of: CheckContext, train: SampleRows) -> list[str]:
    return [one.name for one in data(of, {"train": train}).findings]


def test_nothing_is_said_of_standardised_inputs(bench: Callable[..., CheckContext]) -> None:
    of = bench("data=wine", "model=linear")
    assert data(of, seen(of)).findings == ()


@pytest.mark.parametrize(("times", "plus"), [(60.0, 80.0), (1.0, 9.0), (0.001, 0.0)])
def test_inputs_far_from_mean_0_and_std_1_are_named(
    times: float, plus: float, bench: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    of = bench(*classes, "model=linear")
    train = seen(of)["train"]
    changed = replace(train, inputs=train.inputs * times + plus)
    (found,) = data(of, {"train": changed}).findings
    assert found.name == "inputs not standardised"
    assert f"mean {plus:.2g}"[:6] in found.measured
    scaled = (changed.inputs - changed.inputs.mean()) / changed.inputs.std()
    assert names(of, replace(train, inputs=scaled)) == []  # what is advised helps


def test_one_large_column_among_many_is_named(
    bench: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    of = bench(*classes, "data.num_features=200", "model=linear")
    train = seen(of)["train"]
    train.inputs[:, 7] *= 50
    (found,) = data(of, {"train": train}).findings
    assert found.measured.startswith("column 7 has mean")


def test_values_that_are_no_numbers_are_counted(
    bench: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    of = bench(*classes, "model=linear")
    train = seen(of)["train"]
    train.inputs[3, 0], train.inputs[5, 1] = torch.nan, torch.inf
    (found,) = data(of, {"train": train}).findings
    assert found.name == "values not finite"
    assert found.measured.startswith("2 of 210 samples of train have inputs")
    assert f"sample {int(train.indices[3])} of" in found.advice


@pytest.mark.parametrize(
    ("counts", "name"),
    [
        ((70, 70, 70), None),
        ((0, 70, 70), "labels off by one class"),
        ((70, 0, 70), "empty classes"),
        ((200, 5, 5), "uneven classes"),
    ],
)
def test_counts_of_classes(
    counts: tuple[int, ...], name: str | None, bench: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    of = bench(*classes, "model=linear")
    of.parts.data.info = replace(of.parts.info, class_counts=counts)
    assert names(of, seen(of)["train"]) == ([name] if name else [])


@pytest.mark.parametrize(("limit", "mends"), [(2, True), (5, True), (30, False)])
def test_too_few_training_samples(
    limit: int, mends: bool, bench: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    of = bench(*classes, "model=linear", f"data.limit={limit}")
    found = [one for one in data(of, seen(of)).findings if one.name == "too few training samples"]
    assert [one.mend for one in found] == ([("data.limit=null",)] if mends else [])


def test_columns_are_standardised_by_those_of_training() -> None:
    by = torch.randn(500, 3) * torch.tensor([2.0, 5.0, 0.0]) + torch.tensor([1.0, -3.0, 4.0])
    found = standardized(by, by)
    assert torch.allclose(found[:, :2].mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(found[:, :2].std(0, correction=0), torch.ones(2))
    assert not found[:, 2].any()
