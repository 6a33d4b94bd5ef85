"""What is said of the data, of data whose fault is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from trainrun.check.context import CheckContext
from trainrun.check.data import _by_neighbours, _by_ridge, data, probe, standardized
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


def probed(context: CheckContext, rows: dict) -> list[str]:
    return [finding.name for finding in probe(context, rows).findings]


def test_ridge_leaves_each_sample_out_as_refitting_without_it_does() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randn(30, 2, dtype=torch.float64)
    predicted = _by_ridge(x.float(), y.float())
    for row in (0, 7, 29):
        others = torch.arange(30) != row
        kernel = x[others] @ x[others].T / 4 + 1
        weights = torch.linalg.solve(kernel + 0.01 * 30 * torch.eye(29, dtype=torch.float64), y[others])
        expected = (x[row] @ x[others].T / 4 + 1) @ weights
        assert torch.allclose(predicted[row].double(), expected, atol=1e-4)


def test_neighbours_are_the_five_nearest_others() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(20, 3), torch.randn(20, 1)
    predicted = _by_neighbours(x, y)
    distances = [(float((x[3] - x[other]).norm()), other) for other in range(20) if other != 3]
    nearest = [other for _, other in sorted(distances)[:5]]
    assert torch.allclose(predicted[3], y[nearest].mean(0))


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_shuffled_targets_are_told_from_others(
    kind: str, make_context: Callable[..., CheckContext], classes: tuple[str, ...], table: tuple[str, ...]
) -> None:
    context = make_context(*(classes if kind == "classes" else table), "model=linear")
    rows = dict(read_splits(context))
    assert probed(context, rows) == []
    order = torch.randperm(len(rows["train"]), generator=torch.Generator().manual_seed(1))
    shuffled = replace(rows["train"], targets=rows["train"].targets[order])
    assert probed(context, {**rows, "train": shuffled}) == ["targets unrelated to inputs"]


@pytest.mark.parametrize("by", [1, -1])
def test_labels_off_by_one_in_one_split_are_named(by: int, make_context: Callable[..., CheckContext]) -> None:
    context = make_context("data=digits", "model=linear")
    rows = dict(read_splits(context))
    rows["val"] = replace(rows["val"], targets=(rows["val"].targets + by) % 10)
    (finding,) = probe(context, rows).findings
    assert finding.name == "labels off by one class"
    assert f"with 1 {'subtracted from' if by > 0 else 'added to'} them" in finding.measured


def test_few_samples_have_no_verdict(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    context = make_context(*classes, "model=linear", "data.limit=50")
    rows = dict(read_splits(context))
    rows["train"] = replace(rows["train"], targets=rows["train"].targets.flip(0))
    assert probed(context, rows) == []


@pytest.mark.parametrize("positive", ["few", "very few"])
def test_a_rare_class_that_follows_from_the_inputs_is_no_chance(
    positive: str, make_context: Callable[..., CheckContext]
) -> None:
    """Of 1,500 rows about 6 % or 1 % are positive, by a logistic model of two columns.

    The best guess of a single sample is always the negative.
    """
    words = ("data=synthetic_table", "data.num_samples=300", "data.num_features=2", "model=linear")
    context = make_context(
        *words, "data.kind=classes", "data.num_outputs=2", "task=classification", "loss=cross_entropy"
    )
    for seed in range(8):
        draws = torch.Generator().manual_seed(seed)
        x = torch.randn(1500, 2, generator=draws)
        chances = torch.sigmoid(x.sum(1) - (3.5 if positive == "few" else 5.5))
        y = (torch.rand(1500, generator=draws) < chances).long()
        rows = {"train": SampleRows(x, y, torch.arange(1500))}
        assert probed(context, rows) == [], seed
        if positive == "few":
            shuffled = replace(rows["train"], targets=y[torch.randperm(1500, generator=draws)])
            assert probed(context, {"train": shuffled}) == ["targets unrelated to inputs"], seed
