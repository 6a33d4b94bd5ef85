"""A split's metrics are exact whatever the batches, and evaluating leaves no trace."""

from __future__ import annotations

import math
import random
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix
from torch import Tensor, nn
from torch.nn import functional as F
from toy import CLASSES, CPU, FEATURES, ToyData, ToyTask, mlp, same_bits

from trainrun.loop.evaluate import MetricError, confusion_of, evaluate
from trainrun.loss import CrossEntropy
from trainrun.precision import Precision
from trainrun.protocols import Batch
from trainrun.task.classification import Classification

FP32 = Precision("fp32", None, CPU)


@pytest.mark.parametrize("sizes", [[16], [5, 5, 5, 1], [1] * 16, [15, 1]])
def test_metrics_do_not_depend_on_how_the_split_is_batched(sizes: list[int]) -> None:
    data, model = ToyData(), mlp(dropout=0.5, batch_norm=True)
    val = data.splits["val"]
    metrics = evaluate(model, ToyTask(), [data.batch(part) for part in val.split(sizes)], FP32)
    with torch.no_grad():
        outputs = model.eval()(data.inputs[val])
    assert metrics["loss"] == pytest.approx(float(F.cross_entropy(outputs, data.targets[val])), rel=1e-5)
    assert metrics["accuracy"] == accuracy_score(data.targets[val], outputs.argmax(1))


def test_the_confusion_of_a_split_is_scikit_learns_and_many_classes_have_none() -> None:
    data, model, sums = ToyData(), mlp(), dict[str, Tensor]()
    val, task = data.splits["val"], Classification([], CrossEntropy(None, ()), data.info)
    evaluate(model, task, data.eval_batches("val"), FP32, see=sums.update)
    with torch.no_grad():
        taken = model.eval()(data.inputs[val]).argmax(1)
    assert confusion_of(sums) == confusion_matrix(data.targets[val], taken, labels=range(3)).tolist()
    assert confusion_of({}) is None and confusion_of({"confusion": torch.zeros(101, 101)}) is None


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_restores_the_mode_and_changes_nothing(training: bool) -> None:
    data, model = ToyData(), mlp(dropout=0.5, batch_norm=True).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = evaluate(model, ToyTask(), data.eval_batches("val"), FP32)
    assert model.training is training
    assert same_bits(model.state_dict(), before)
    assert evaluate(model, ToyTask(), data.eval_batches("val"), FP32) == first


def test_the_mode_is_restored_when_evaluation_fails() -> None:
    def broken() -> object:
        raise RuntimeError("no data")
        yield

    model = mlp()
    with pytest.raises(RuntimeError, match="no data"):
        evaluate(model, ToyTask(), broken(), FP32)  # type: ignore[arg-type]
    assert model.training


def test_a_model_that_draws_while_it_is_judged_draws_the_same_each_time() -> None:
    class Random(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.randn(len(inputs), 3)

    data = ToyData()
    torch.manual_seed(1)
    first = evaluate(Random(), ToyTask(), data.eval_batches("val"), FP32)
    torch.manual_seed(2)
    assert evaluate(Random(), ToyTask(), data.eval_batches("val"), FP32) == first


def test_own_metrics_see_the_whole_split_at_once() -> None:
    data, task, model = ToyData(), ToyTask(), mlp()
    chunks = []

    def median_margin(outputs: torch.Tensor, targets: torch.Tensor) -> float:
        chunks.append(len(targets))
        top = outputs.topk(2).values
        return float((top[:, 0] - top[:, 1]).median())

    task.own_metrics = {"median_margin": median_margin}
    metrics = evaluate(model, task, data.eval_batches("val"), FP32)
    with torch.no_grad():
        expected = median_margin(model(data.inputs[data.splits["val"]]), data.targets[data.splits["val"]])
    assert chunks == [16, 16]
    assert metrics["median_margin"] == pytest.approx(expected)


def test_samples_that_weigh_nothing_have_no_loss() -> None:
    class Weightless(ToyTask):
        def count(self, batch: Batch) -> dict[str, float]:
            return {"loss": 0.0}

    metrics = evaluate(mlp(), Weightless(), ToyData().eval_batches("val"), FP32)
    assert math.isnan(metrics["loss"])


def with_metrics(**metrics: Callable[..., Any]) -> ToyTask:
    task = ToyTask()
    task.own_metrics = metrics
    return task


def test_an_own_metric_that_changes_what_it_sees_changes_nothing() -> None:
    def spoils(outputs: Tensor, targets: Tensor) -> float:
        random.seed(5), np.random.seed(5), torch.manual_seed(5)
        outputs.zero_(), targets.zero_()
        return 0.0

    def correct(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1) == targets).float().mean()

    data, model = ToyData(), mlp()
    batches, states = list(data.eval_batches("val")), (random.getstate(), torch.get_rng_state())
    first = evaluate(model, with_metrics(correct=correct), batches, FP32)
    both = evaluate(model, with_metrics(spoils=spoils, correct=correct), batches, FP32)
    assert both == first | {"spoils": 0.0} and first["correct"] == pytest.approx(first["accuracy"])
    assert evaluate(model, with_metrics(correct=correct), batches, FP32) == first
    assert random.getstate() == states[0]


def test_an_own_metric_that_draws_draws_the_same_each_time_and_takes_no_draw_from_the_run() -> None:
    def drawn(outputs: Tensor, targets: Tensor) -> float:
        return random.random() + float(np.random.rand()) + float(torch.rand(()))

    task, data, model = with_metrics(drawn=drawn), ToyData(), mlp()
    random.seed(1), np.random.seed(1)
    first, after = evaluate(model, task, data.eval_batches("val"), FP32), (random.random(), np.random.rand())
    random.seed(1), np.random.seed(1)
    assert after == (random.random(), np.random.rand())
    assert evaluate(model, task, data.eval_batches("val"), FP32) == first


@pytest.mark.parametrize("name", ["loss", "accuracy", "step", "split", "weights", "lr", "train_loss"])
def test_an_own_metric_replaces_nothing_that_is_recorded(name: str) -> None:
    task = with_metrics(**{name: lambda outputs, targets: 0.5})
    with pytest.raises(MetricError, match=rf"task.metrics: {name} would take the place of {name}"):
        evaluate(mlp(), task, ToyData().eval_batches("val"), FP32)
    task = with_metrics(**{name: lambda outputs, targets: {"cat": 0.5}})
    assert evaluate(mlp(), task, ToyData().eval_batches("val"), FP32)[f"{name}/cat"] == 0.5


def test_an_own_metric_that_fails_is_named_with_the_place() -> None:
    def broken(outputs: Tensor, targets: Tensor) -> float:
        raise KeyError("x")

    shapes = r"outputs of shape \(16, 3\) and targets of shape \(16,\)"
    with pytest.raises(
        MetricError, match=rf"broken fails on {shapes}: KeyError: 'x' \(test_evaluate.py:\d+\)"
    ):
        evaluate(mlp(), with_metrics(broken=broken), ToyData().eval_batches("val"), FP32)
    with pytest.raises(MetricError, match=r"none returns None.*; return a number, a vector or a dict"):
        evaluate(mlp(), with_metrics(none=lambda outputs, targets: None), ToyData().eval_batches("val"), FP32)


def test_outputs_are_gone_before_the_next_batch() -> None:
    outputs: list[weakref.ref[Tensor]] = []

    class Watched(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            assert all(ref() is None for ref in outputs)
            made = super().forward(x)
            outputs.append(weakref.ref(made))
            return made

    data = ToyData()
    evaluate(Watched(FEATURES, CLASSES), ToyTask(), data.eval_batches("val"), FP32)
    assert len(outputs) == 3
