"""The written evaluation is a mean over samples, and the written loop follows what the run monitors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
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
    model, rows = parts.state.model, data.splits["val"]
    names: dict[str, Any] = {"torch": torch, "inputs": inputs, "targets": targets, "model": model}
    exec(evaluate_section(parts), names)
    assert len(rows) % 4
    written = names["evaluate"](rows)
    outputs = model.eval()(inputs[rows])
    accuracy = (outputs.argmax(1) == targets[rows]).double().mean().item()
    assert written == pytest.approx((F.cross_entropy(outputs, targets[rows]).item(), accuracy), rel=1e-6)


@pytest.mark.parametrize(
    ("words", "score", "comparison"),
    [
        ((), "(accuracy, -val_loss)", ">"),
        (("monitor=val/loss",), "val_loss", "<"),
    ],
)
def test_the_best_weights_are_those_of_the_monitored_metric(
    words: tuple[str, ...], score: str, comparison: str
) -> None:
    text = loop_section(built("monitor=val/accuracy", *words))
    assert f"        if (score := {score}) {comparison} best:" in text


def test_without_a_validation_split_the_last_weights_are_kept() -> None:
    text = loop_section(built("data.val_fraction=0"))
    assert "best" not in text and 'torch.save(model.state_dict(), "last.pt")' in text


def test_a_metric_that_the_script_does_not_compute_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"monitor=val/f1_macro is not in the plain script"):
        loop_section(built("monitor=val/f1_macro"))


def test_what_does_not_apply_is_not_printed() -> None:
    text = loop_section(built("model.dropout=0", "scheduler=constant", "loop.clip.norm=null"))
    assert not any(word in text for word in ("manual_seed", "lr", "clip", "micro", "average", "autocast"))
    text = loop_section(built("model.dropout=0.5", "loop.clip.norm=1", "loop.accumulate=2", "precision=bf16"))
    assert all(word in text for word in ("manual_seed", "lr", "clip", "micro", "autocast"))
