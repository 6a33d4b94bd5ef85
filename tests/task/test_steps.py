"""Targets for every step or pixel, against torch's own losses and metrics counted by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainrun.loss import MSE, CrossEntropy, Focal
from trainrun.protocols import Batch, DataInfo, Position
from trainrun.task.classification import Classification
from trainrun.task.regression import Regression
from trainrun.task.steps import class_axis, class_counts, class_rows, value_rows
from trainrun.vocabulary.errors import ConfigError

C = 3
INFO = DataInfo("scenes", (2, 4, 5), "step_classes", C, {})


def logits_and_targets() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, C, (6, 4, 5), generator=generator)
    targets[0, :2] = -100
    return torch.randn(6, C, 4, 5, generator=generator), targets


class Gives(nn.Module):
    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = nn.Parameter(outputs)

    def forward(self, inputs: Any) -> Tensor:
        return self.outputs


def batch(targets: Tensor) -> Batch:
    return Batch(torch.zeros(len(targets)), targets, torch.arange(len(targets)), Position())


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 5.0]])
@pytest.mark.parametrize("last", [False, True], ids=["(N, C, H, W)", "(N, H, W, C)"])
def test_the_loss_and_its_gradient_are_torchs(weights: Any, last: bool) -> None:
    logits, targets = logits_and_targets()
    model = Gives(logits.movedim(1, -1).contiguous() if last else logits)
    task = Classification([], CrossEntropy(weights, ()), INFO)
    outcome, count = task(model, batch(targets)), task.count(batch(targets))["loss"]
    loss = outcome.terms["loss"] / count
    reference = logits.clone().requires_grad_()
    expected = F.cross_entropy(reference, targets, None if weights is None else torch.tensor(weights))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    gradient = model.outputs.grad.movedim(-1, 1) if last else model.outputs.grad  # type: ignore[union-attr]
    torch.testing.assert_close(gradient, reference.grad)


def test_every_loss_leaves_out_what_has_no_target() -> None:
    logits, targets = logits_and_targets()
    task = Classification([], Focal(2.0), INFO)
    whole = task(Gives(logits), batch(targets)).terms["loss"]
    changed = logits.clone()
    changed[0, :, :2] += torch.randn(C, 2, 5)
    torch.testing.assert_close(task(Gives(changed), batch(targets)).terms["loss"], whole)
    assert task.count(batch(targets))["loss"] == 6 * 20 - 10


@pytest.mark.parametrize("training", [False, True])
def test_metrics_are_those_counted_pixel_by_pixel(training: bool) -> None:
    logits, targets = logits_and_targets()
    task = Classification([], CrossEntropy(None, ()), INFO)
    outcome = task(Gives(logits).train(training), batch(targets))
    metrics = task.summarize(outcome.sums, 6)
    pairs = [
        (int(p), int(t)) for p, t in zip(logits.argmax(1).flatten(), targets.flatten(), strict=True) if t >= 0
    ]
    assert metrics["accuracy"] == pytest.approx(sum(p == t for p, t in pairs) / len(pairs))
    if not training:
        ious = []
        for k in range(C):
            both = sum(p == k and t == k for p, t in pairs)
            ious.append(both / sum(p == k or t == k for p, t in pairs))
        assert metrics["mean_iou"] == pytest.approx(sum(ious) / C)


def test_windows_of_unequal_batches_are_exact() -> None:
    logits, targets = logits_and_targets()
    task = Classification([], CrossEntropy(None, ()), INFO)
    parts = [slice(0, 1), slice(1, 6)]
    terms = sum(task(Gives(logits[part]), batch(targets[part])).terms["loss"] for part in parts)
    count = sum(task.count(batch(targets[part]))["loss"] for part in parts)
    torch.testing.assert_close(terms / count, F.cross_entropy(logits, targets))  # type: ignore[arg-type]


def test_values_are_taken_one_by_one() -> None:
    targets = torch.randn(6, 4, 5)
    targets[0, 0, 0] = -100.0  # a value like any other
    outputs = torch.randn(6, 1, 4, 5)
    task = Regression([], MSE(), DataInfo("depth", (3, 4, 5), "step_values", 1, {}), standardize=True)
    outcome = task(Gives(outputs).eval(), batch(targets))
    expected = F.mse_loss(outputs[:, 0], targets)
    torch.testing.assert_close(outcome.terms["loss"] / task.count(batch(targets))["loss"], expected)
    metrics = task.summarize(outcome.sums, 6)
    assert metrics["rmse"] == pytest.approx(expected.sqrt().item())
    centred = (targets - targets.mean()).square().mean()
    assert metrics["r2"] == pytest.approx(1 - (expected / centred).item(), rel=1e-4)
    assert task.predict(Gives(outputs), None).shape == outputs.shape  # type: ignore[arg-type]


def test_the_axis_of_classes_is_found() -> None:
    assert class_axis(torch.zeros(2, C, 7), C) == 1
    assert class_axis(torch.zeros(2, 7, C), C) == -1
    assert class_rows(torch.zeros(2, 7, C), torch.zeros(2, 7), C)[0].shape == (14, C)


@pytest.mark.parametrize("shape", [(2, 7), (2, 4, 7), (2, C, 8), (2, C)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"gives outputs of shape .* for targets of shape \(2, 7\)"):
        class_rows(torch.zeros(shape), torch.zeros(2, 7), C)


def test_values_of_another_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"gives outputs of shape \(2, 8\) for targets of shape \(2, 7\)"):
        value_rows(torch.zeros(2, 8), torch.zeros(2, 7))


def test_classes_are_counted_over_all_steps_that_have_one() -> None:
    _, targets = logits_and_targets()
    batches = [Batch(None, part, range(len(part)), Position()) for part in targets.split(4)]
    assert class_counts(batches, C + 1) == tuple(int((targets == label).sum()) for label in range(C + 1))
