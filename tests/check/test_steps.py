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
from trainrun.check.steps import course, first_steps


@pytest.mark.parametrize("words", [("regularization=mixup",), ("loop.accumulate=2", "loop.clip.norm=0.5")])
def test_they_are_those_that_training_makes(
    words: tuple[str, ...], bench: Callable[..., CheckContext], tmp_path: Path
) -> None:
    words = ("data=wine", "model.norm=batch", "budget=14step", *words)
    found = course(bench(*words), 1.0, Patience(60.0, 600.0))
    result = trainrun.train([*words, "loop.log_every=1step", "logger=none", "runtime.threads=1"])
    events = map(json.loads, (result.run_dir / "metrics.jsonl").read_text().splitlines())
    losses = [event["loss"] for event in events if event["event"] == "train"]
    assert len(losses) == found.steps == 14
    assert found.first == pytest.approx(losses[0], rel=1e-6)
    assert found.last == pytest.approx(fmean(losses[-10:]), rel=1e-6)


@pytest.mark.parametrize(("lr", "is_found"), [("2e-3", False), ("2", True)])
def test_a_loss_that_is_thrown_up_is_told(
    lr: str, is_found: bool, bench: Callable[..., CheckContext]
) -> None:
    of = bench("data=breast_cancer", f"optimizer.lr={lr}")
    found = first_steps(of).findings
    assert [one.name for one in found] == (["learning rate too high"] if is_found else [])
    for one in found:
        (mend,) = one.mend
        assert first_steps(bench("data=breast_cancer", mend)).findings == ()


def test_where_no_lower_rate_helps_none_is_named(
    bench: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    class Wild(nn.Module):
        """Its outputs are the larger, the more often it was called."""

        def __init__(self) -> None:
            super().__init__()
            self.layer, self.calls = nn.Linear(6, 3), 0

        def forward(self, x):
            self.calls += self.training
            return self.layer(x) * 2.0**self.calls

    (found,) = first_steps(bench(*classes, "optimizer=sgd", "optimizer.lr=1e-9", model=Wild())).findings
    assert found.mend == ()
    assert "none of the lower rates" in found.advice


def test_numbers_that_are_not_finite_within_a_few_steps_are_told_too(
    bench: Callable[..., CheckContext], table: tuple[str, ...]
) -> None:
    words = (*table, "model=linear", "optimizer=sgd", "scheduler=constant")
    (found,) = first_steps(bench(*words, "optimizer.lr=1e12")).findings
    assert "to inf" in found.measured or "to nan" in found.measured
    assert first_steps(bench(*words)).findings == ()


def test_steps_without_anything_to_average_have_no_verdict(
    bench: Callable[..., CheckContext], classes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    of = bench(*classes, "model=linear")
    expected = first_steps(of).values
    own, calls = steps.loss_in, iter(range(1000))
    monkeypatch.setattr(steps, "loss_in", lambda result: math.nan if next(calls) < 1 else own(result))
    some = first_steps(of)
    assert some.findings == () and some.values["last"] == pytest.approx(expected["last"])
    monkeypatch.setattr(steps, "loss_in", lambda result: math.nan)
    assert first_steps(of).findings == ()
