"""One evaluation: the metric that decides must come out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from trainrun.check.context import CheckContext
from trainrun.check.evaluation import evaluation
from trainrun.loop.evaluate import evaluate
from trainrun.loop.evaluator import Monitor


def test_its_metrics_are_those_of_the_run(bench: Callable[..., CheckContext]) -> None:
    of = bench("data=wine")
    parts = of.parts
    expected = evaluate(of.model, parts.task, parts.data.eval_batches("val"), parts.state.precision)
    section = evaluation(of)
    assert section.values == expected
    assert section.findings == ()


def test_a_metric_that_does_not_come_out_is_named(bench: Callable[..., CheckContext]) -> None:
    of = bench("data=wine")
    of = CheckContext(replace(of.parts, monitor=Monitor("dice", maximize=True)), of.batch)
    (found,) = evaluation(of).findings
    assert found.name == "monitor"
    assert "val/dice" in found.measured and "val/accuracy" in found.expected
    assert found.mend == ("monitor=val/loss",)


def test_data_without_a_split_to_judge_by(bench: Callable[..., CheckContext]) -> None:
    section = evaluation(bench("data=wine", "data.val_fraction=0", "data.test_fraction=0"))
    assert section.findings == ()
    assert "none" in section.lines[0][1]


def test_where_no_metric_is_finite_none_is_advised(bench: Callable[..., CheckContext]) -> None:
    of = bench("data=diabetes", "model=linear")
    with torch.no_grad():
        next(of.parts.state.model.parameters()).fill_(torch.nan)
    (found,) = evaluation(of).findings
    assert (found.name, found.expected, found.mend) == ("monitor", "a finite number", ())
    assert "of val" in found.advice
