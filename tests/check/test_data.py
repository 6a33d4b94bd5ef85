"""What is said of the data, of data whose fault is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from trainrun.check.context import CheckContext
from trainrun.check.data import data, standardized
from trainrun.check.splits import SampleRows, read_splits


def names(context: CheckContext, train: SampleRows) -> list[str]:
    return [finding.name for finding in data(context, {"train": train}).findings]


def test_nothing_is_said_of_standardised_inputs(make_context: Callable[..., CheckContext]) -> None:
    context = make_context("data=wine", "model=linear")
    assert data(context, read_splits(context)).findings == []


@pytest.mark.parametrize(("times", "plus"), [(60.0, 80.0), (1.0, 9.0), (0.001, 0.0)])
def test_inputs_far_from_mean_0_and_std_1_are_named(
    times: float, plus: float, make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    context = make_context(*classes, "model=linear")
    train = read_splits(context)["train"]
    changed = replace(train, inputs=train.inputs * times + plus)
    (finding,) = data(context, {"train": changed}).findings
    assert finding.name == "inputs not standardised"
    assert f"mean {plus:.2g}"[:6] in finding.measured
    scaled = (changed.inputs - changed.inputs.mean()) / changed.inputs.std()
    assert names(context, replace(train, inputs=scaled)) == []  # what is advised helps


def test_one_large_column_among_many_is_named(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    context = make_context(*classes, "data.num_features=200", "model=linear")
    train = read_splits(context)["train"]
    train.inputs[:, 7] *= 50
    (finding,) = data(context, {"train": train}).findings
    assert finding.measured.startswith("column 7 has mean")


def test_values_that_are_no_numbers_are_counted(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    context = make_context(*classes, "model=linear")
    train = read_splits(context)["train"]
    train.inputs[3, 0], train.inputs[5, 1] = torch.nan, torch.inf
    (finding,) = data(context, {"train": train}).findings
    assert finding.name == "values not finite"
    assert finding.measured.startswith("2 of 210 samples of train have inputs")
    assert f"sample {int(train.indices[3])} of" in finding.advice


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
    counts: tuple[int, ...],
    name: str | None,
    make_context: Callable[..., CheckContext],
    classes: tuple[str, ...],
) -> None:
    context = make_context(*classes, "model=linear")
    context.parts.data.info = replace(context.parts.info, class_counts=counts)
    assert names(context, read_splits(context)["train"]) == ([name] if name else [])


@pytest.mark.parametrize(("limit", "has_fix"), [(2, True), (5, True), (30, False)])
def test_too_few_training_samples(
    limit: int, has_fix: bool, make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    context = make_context(*classes, "model=linear", f"data.limit={limit}")
    findings = [
        finding
        for finding in data(context, read_splits(context)).findings
        if finding.name == "too few training samples"
    ]
    assert [signal.fix for signal in findings] == ([("data.limit=null",)] if has_fix else [])


def test_columns_are_standardised_by_those_of_training() -> None:
    by = torch.randn(500, 3) * torch.tensor([2.0, 5.0, 0.0]) + torch.tensor([1.0, -3.0, 4.0])
    columns = standardized(by, by)
    assert torch.allclose(columns[:, :2].mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(columns[:, :2].std(0, correction=0), torch.ones(2))
    assert not columns[:, 2].any()
