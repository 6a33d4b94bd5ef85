"""One evaluation: the metric that decides must come out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from trainrun.check.context import CheckContext
from trainrun.check.evaluation import evaluation
from trainrun.loop.evaluate import evaluate
from trainrun.loop.evaluator import Monitor


def test_its_metrics_are_those_of_the_run(make_context: Callable[..., CheckContext]) -> None:
    context = make_context("data=wine")
    parts = context.parts
    expected = evaluate(context.model, parts.task, parts.data.eval_batches("val"), parts.state.precision)
    section = evaluation(context)
    assert section.values == expected
    assert section.findings == ()


def test_a_metric_that_does_not_come_out_is_named(make_context: Callable[..., CheckContext]) -> None:
    context = make_context("data=wine")
    context = CheckContext(replace(context.parts, monitor=Monitor("dice", maximize=True)), context.batch)
    (finding,) = evaluation(context).findings
    assert finding.name == "monitor"
    assert "val/dice" in finding.measured and "val/accuracy" in finding.expected
    assert finding.fix == ("monitor=val/loss",)


def test_data_without_a_split_to_judge_by(make_context: Callable[..., CheckContext]) -> None:
    section = evaluation(make_context("data=wine", "data.val_fraction=0", "data.test_fraction=0"))
    assert section.findings == ()
    assert "none" in section.lines[0][1]


def test_where_no_metric_is_finite_none_is_advised(make_context: Callable[..., CheckContext]) -> None:
    context = make_context("data=diabetes", "model=linear")
    with torch.no_grad():
        next(context.parts.state.model.parameters()).fill_(torch.nan)
    (finding,) = evaluation(context).findings
    assert (finding.name, finding.expected, finding.fix) == ("monitor", "a finite number", ())
    assert "of val" in finding.advice
