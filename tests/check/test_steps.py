"""The first steps are those of the run itself, and a rate that throws the loss up is told."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest
from torch import nn

import trainrun
import trainrun.check.steps as steps
from trainrun.check.context import CheckContext, Patience
from trainrun.check.steps import first_steps, try_rate


@pytest.mark.parametrize("words", [("regularization=mixup",), ("loop.accumulate=2", "loop.clip.norm=0.5")])
def test_they_are_those_that_training_makes(
    words: tuple[str, ...], make_context: Callable[..., CheckContext], tmp_path: Path
) -> None:
    words = ("data=wine", "model.norm=batch", "budget=14step", *words)
    tried = try_rate(make_context(*words), 1.0, Patience(60.0, 600.0))
    result = trainrun.train([*words, "loop.log_every=1step", "logger=none", "runtime.threads=1"])
    events = map(json.loads, (result.run_dir / "metrics.jsonl").read_text().splitlines())
    losses = [event["loss"] for event in events if event["event"] == "train"]
    assert len(losses) == tried.steps == 14
    assert tried.first == pytest.approx(losses[0], rel=1e-6)
    assert tried.last == pytest.approx(fmean(losses[-10:]), rel=1e-6)


@pytest.mark.parametrize(("lr", "is_found"), [("2e-3", False), ("2", True)])
def test_a_loss_that_is_thrown_up_is_told(
    lr: str, is_found: bool, make_context: Callable[..., CheckContext]
) -> None:
    context = make_context("data=breast_cancer", f"optimizer.lr={lr}")
    findings = first_steps(context).findings
    assert [finding.name for finding in findings] == (["learning rate too high"] if is_found else [])
    for finding in findings:
        (fix,) = finding.fix
        assert first_steps(make_context("data=breast_cancer", fix)).findings == ()


def test_where_no_lower_rate_helps_none_is_named(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    class Wild(nn.Module):
        """Its outputs are the larger, the more often it was called."""

        def __init__(self) -> None:
            super().__init__()
            self.layer, self.calls = nn.Linear(6, 3), 0

        def forward(self, x):
            self.calls += self.training
            return self.layer(x) * 2.0**self.calls

    (finding,) = first_steps(
        make_context(*classes, "optimizer=sgd", "optimizer.lr=1e-9", model=Wild())
    ).findings
    assert finding.fix == ()
    assert "none of the lower rates" in finding.advice


def test_numbers_that_are_not_finite_within_a_few_steps_are_told_too(
    make_context: Callable[..., CheckContext], table: tuple[str, ...]
) -> None:
    words = (*table, "model=linear", "optimizer=sgd", "scheduler=constant")
    (finding,) = first_steps(make_context(*words, "optimizer.lr=1e12")).findings
    assert "to inf" in finding.measured or "to nan" in finding.measured
    assert first_steps(make_context(*words)).findings == ()


def test_steps_without_anything_to_average_have_no_verdict(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context(*classes, "model=linear")
    expected = first_steps(context).values
    original, calls = steps.loss_in, iter(range(1000))
    monkeypatch.setattr(steps, "loss_in", lambda result: math.nan if next(calls) < 1 else original(result))
    section = first_steps(context)
    assert section.findings == () and section.values["last"] == pytest.approx(expected["last"])
    monkeypatch.setattr(steps, "loss_in", lambda result: math.nan)
    assert first_steps(context).findings == ()
