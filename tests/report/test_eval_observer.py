"""Looking on changes neither the metrics nor the model, and sees exactly what was judged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from toy import CPU, ToyData, ToyTask, mlp

from trainrun.loop.evaluate import evaluate
from trainrun.loss import MSE, BCEWithLogits, CrossEntropy
from trainrun.precision import Precision
from trainrun.protocols import Batch, DataInfo
from trainrun.report.classes import ClassReport
from trainrun.report.eval_observer import report_on, watched
from trainrun.report.residuals import ResidualReport
from trainrun.task.binary import Binary
from trainrun.task.classification import Classification
from trainrun.task.regression import Regression

FP32 = Precision("fp32", None, CPU)


def test_an_evaluation_that_is_watched_is_the_same() -> None:
    data, model = ToyData(), mlp(dropout=0.5, batch_norm=True)
    observed: list[tuple[Tensor, Batch]] = []
    plain = evaluate(model, ToyTask(), data.eval_batches("val"), FP32)
    batches = watched(
        model, data.eval_batches("val"), lambda outputs, batch: observed.append((outputs, batch))
    )
    assert evaluate(model, ToyTask(), batches, FP32) == plain
    assert not model._forward_hooks and model.training
    assert torch.equal(torch.cat([batch.indices for _, batch in observed]), data.splits["val"])
    with torch.no_grad():
        expected = model.eval()(data.inputs[data.splits["val"]])
    torch.testing.assert_close(torch.cat([outputs for outputs, _ in observed]), expected)


def test_the_model_is_left_alone_when_evaluation_fails() -> None:
    class Broken(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            raise RuntimeError("broken")

    model = Broken()
    batches = watched(model, ToyData().eval_batches("val"), lambda outputs, batch: None)
    with pytest.raises(RuntimeError, match="broken"):
        evaluate(model, ToyTask(), batches, FP32)
    assert isinstance(batches, Iterator)
    batches.close()  # type: ignore[attr-defined]
    assert not model._forward_hooks


def info(kind: str, num_targets: int) -> DataInfo:
    return DataInfo("toy", (4,), kind, num_targets, {})


class Mine(Classification):
    """A task of somebody's own may call the model as often as it likes."""


def test_each_task_has_the_report_that_suits_it() -> None:
    assert isinstance(report_on(Classification([], CrossEntropy(None, ()), info("classes", 3))), ClassReport)
    assert isinstance(report_on(Binary([], BCEWithLogits(None, ()), info("classes", 2))), ClassReport)
    assert isinstance(report_on(Regression([], MSE(), info("values", 1), True)), ResidualReport)
    assert report_on(Mine([], CrossEntropy(None, ()), info("classes", 3))) is None
    assert report_on(ToyTask()) is None
