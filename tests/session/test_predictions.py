"""Rows of predictions: names and numbers of every task, beside what is known to be true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from trainrun.loss import MSE, BCEWithLogits, CrossEntropy
from trainrun.protocols import Batch, DataInfo, Position, Samples
from trainrun.session.predictions import rows_of
from trainrun.task.base import Task
from trainrun.task.binary import Binary
from trainrun.task.classification import Classification
from trainrun.task.multilabel import Multilabel
from trainrun.task.regression import Regression
from trainrun.vocabulary.errors import ConfigError, DataError


def table(
    task: Any, info: DataInfo, outputs: Tensor, targets: Tensor | None, names: list[str]
) -> list[list[str]]:
    """The rows of samples 10, 11 ... in batches of two."""

    def batches() -> Iterator[tuple[Batch, Tensor]]:
        for indices in torch.arange(len(outputs)).split(2):
            true = None if targets is None else targets[indices]
            yield Batch(None, true, indices + 10, Position()), outputs[indices]

    return list(rows_of(task, info, Samples(iter(()), names), batches()))


def test_classes() -> None:
    info = DataInfo("toy", (2,), "classes", 3, {}, ("cat", "dog", "a,b"))
    task = Classification([], CrossEntropy(None, ()), info)
    outputs = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75], [0.1, 0.6, 0.3]], dtype=torch.float64)
    assert table(task, info, outputs, torch.tensor([0, 1, 1]), []) == [
        ["index", "target", "predicted", "probability", "p_cat", "p_dog", "p_a,b"],
        ["10", "cat", "cat", "0.5", "0.5", "0.25", "0.25"],
        ["11", "dog", "a,b", "0.75", "0.125", "0.125", "0.75"],
        ["12", "dog", "dog", "0.6", "0.1", "0.6", "0.3"],
    ]


def test_one_of_two_classes_has_both_probabilities() -> None:
    info = DataInfo("toy", (2,), "classes", 2, {}, ("no", "yes"))
    task = Binary([], BCEWithLogits(None, ()), info)
    assert table(task, info, torch.tensor([[0.75], [0.25], [0.5]]), None, ["a.png", "b.png", "c.png"]) == [
        ["index", "name", "predicted", "probability", "p_no", "p_yes"],
        ["10", "a.png", "yes", "0.75", "0.25", "0.75"],
        ["11", "b.png", "no", "0.75", "0.75", "0.25"],
        ["12", "c.png", "no", "0.5", "0.5", "0.5"],  # as the metrics have it: an output of 0 is the first
    ]


def test_any_number_of_labels() -> None:
    info = DataInfo("toy", (2,), "labels", 3, {}, ("red", "round", "ripe"))
    task = Multilabel([], BCEWithLogits(None, ()), info)
    outputs = torch.tensor([[0.75, 0.5, 0.625], [0.25, 0.25, 0.25]])
    assert table(task, info, outputs, torch.tensor([[1, 1, 0], [0, 0, 1]]), []) == [
        ["index", "target", "predicted", "p_red", "p_round", "p_ripe"],
        ["10", "red|round", "red|ripe", "0.75", "0.5", "0.625"],
        ["11", "ripe", "", "0.25", "0.25", "0.25"],
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_values(count: int) -> None:
    info = DataInfo("toy", (2,), "values", count, {})
    task = Regression([], MSE(), info, standardize=False)
    outputs, targets = torch.tensor([[1.5, -2.0e-8]])[:, :count], torch.tensor([[100.25, 3.0]])[:, :count]
    heads, row = table(task, info, outputs, targets, [])
    if count == 1:
        assert (heads, row) == (["index", "target", "predicted"], ["10", "100.25", "1.5"])
    else:
        assert heads == ["index", "target_0", "target_1", "predicted_0", "predicted_1"]
        assert row == ["10", "100.25", "3", "1.5", "-2e-08"]


class Own(Task):
    kinds = ("classes",)


def test_a_task_of_ones_own_has_its_outputs() -> None:
    info = DataInfo("toy", (2,), "classes", 2, {}, ("no", "yes"))
    task = Own([], CrossEntropy(None, ()), info)
    heads, row = table(task, info, torch.tensor([[1.0, 2.0]]), None, [])
    assert (heads, row) == (["index", "predicted_0", "predicted_1"], ["10", "1", "2"])
    heads, row = table(task, info, torch.tensor([[1.0, 2.0]]), torch.tensor([1]), [])
    assert (heads, row) == (["index", "target", "predicted_0", "predicted_1"], ["10", "1", "1", "2"])
    with pytest.raises(ConfigError, match=r"own predicts \(1, 2, 3\), which is no table"):
        table(task, info, torch.zeros(1, 2, 3), None, [])


def test_no_sample_is_told() -> None:
    info = DataInfo("toy", (2,), "classes", 2, {})
    with pytest.raises(DataError, match="no sample"):
        list(rows_of(Own([], CrossEntropy(None, ()), info), info, Samples(iter(())), iter(())))
