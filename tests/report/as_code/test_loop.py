"""The written evaluation is a mean over samples, and the written loop follows what the run monitors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainrun.assembly.build import Parts, build
from trainrun.config.compose.composer import Composer
from trainrun.report.as_code.loop import evaluate_section, loop_section
from trainrun.vocabulary.errors import ConfigError


def built(*words: str) -> Parts:
    return build(Composer().checked(["data=iris", "budget=5step", *words]).settings)


def test_loss_and_accuracy_are_means_over_samples_whatever_the_batches() -> None:
    parts = built("task=classification", "loss=cross_entropy", "data.eval_batch_size=4")
    data: Any = parts.data
    inputs, targets = (data.inputs.float() - data.shift) * data.scale, data.targets
    names = {"torch": torch, "nn": nn, "Tensor": Tensor, "device": "cpu"}
    names |= {"batch": lambda rows: (inputs[rows], targets[rows])}
    exec(evaluate_section(parts), names)
    model, rows = parts.state.model, data.splits["val"]
    assert len(rows) % 4
    written = names["evaluate"](model, rows)  # type: ignore[operator]
    outputs = model.eval()(inputs[rows])
    accuracy = (outputs.argmax(1) == targets[rows]).double().mean().item()
    assert written == pytest.approx((F.cross_entropy(outputs, targets[rows]).item(), accuracy), rel=1e-6)


@pytest.mark.parametrize(
    ("words", "score", "comparison"),
    [
        ((), "accuracy, -val_loss  # of equal ones the lower loss", "score > best"),
        (("monitor=val/loss",), "val_loss", "score < best"),
    ],
)
def test_the_best_weights_are_those_of_the_monitored_metric(
    words: tuple[str, ...], score: str, comparison: str
) -> None:
    text = loop_section(built("monitor=val/accuracy", *words))
    assert f"        score = {score}\n        if {comparison}:" in text


def test_without_a_validation_split_the_last_weights_are_kept() -> None:
    text = loop_section(built("data.val_fraction=0"))
    assert "best" not in text and 'torch.save(model.state_dict(), "last.pt")' in text


def test_a_metric_that_the_script_does_not_compute_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"monitor=val/f1_macro is not in the plain script"):
        loop_section(built("monitor=val/f1_macro"))
