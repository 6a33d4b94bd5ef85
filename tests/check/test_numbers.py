"""What is not finite before training, in 32 bits or in the run's format, and where."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from trainrun.check.context import CheckContext
from trainrun.check.numbers import evaluation, numbers, start
from trainrun.loop.evaluate import evaluate
from trainrun.loop.evaluator import Monitor


class Large(nn.Module):
    """Sums that reach `size` and are made small again."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.first, self.last, self.size = nn.Linear(6, 8), nn.Linear(8, 3), size

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * self.size) / self.size


class Rounded(nn.Module):
    """A number that is the largest of fp32, and is rounded up to infinity in bf16."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.last(x)
        large = torch.full((), torch.finfo(torch.float32).max).to(outputs.dtype)
        return outputs + 0 * large


class Log(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.log(self.first(x)))


@pytest.mark.parametrize(
    ("size", "precision", "name"),
    [
        (1e6, "fp16", "fp16 overflow"),
        (1e6, "bf16", None),
        (1e6, "fp32", None),
        (1.0, "fp16", None),
    ],
)
def test_what_fp16_cannot_hold_is_named(
    size: float,
    precision: str,
    name: str | None,
    make_context: Callable[..., CheckContext],
    classes: tuple[str, ...],
) -> None:
    section = numbers(make_context(*classes, f"precision={precision}", model=Large(size)))
    assert [finding.name for finding in section.findings] == ([name] if name else [])
    for finding in section.findings:
        assert finding.fix == ("precision=bf16",)
        assert "65,504" in finding.expected


def test_what_bf16_cannot_hold_is_mended_by_32_bits(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    (finding,) = numbers(make_context(*classes, "precision=bf16", model=Rounded())).findings
    assert (finding.name, finding.fix) == ("bf16 overflow", ("precision=fp32",))


def test_a_logarithm_of_what_is_negative_is_found_in_any_format(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    (finding,) = numbers(make_context(*classes, "precision=bf16", model=Log())).findings
    assert finding.name == "not finite"
    assert "the output of last (Linear)" in finding.measured


def test_the_expected_value_is_ln_c(make_context: Callable[..., CheckContext]) -> None:
    section = start(make_context("data=digits", "model=mlp"))
    assert section.findings == []
    assert math.isclose(section.values["expected"], math.log(10), rel_tol=1e-6)
    assert "= ln 10" in section.lines[0][1]


def test_of_standardised_targets_it_is_about_their_variance(
    make_context: Callable[..., CheckContext],
) -> None:
    section = start(make_context("data=diabetes"))
    assert section.findings == []
    assert section.values["expected"] == pytest.approx(1, abs=0.5)


def test_weights_that_are_too_large_are_mended_by_the_init(make_context: Callable[..., CheckContext]) -> None:
    (finding,) = start(make_context("data=digits", "model=mlp", "init=normal", "init.std=1")).findings
    assert (finding.name, finding.fix) == ("loss at start", ("init=auto",))


def test_targets_in_units_of_their_own_are_named(make_context: Callable[..., CheckContext]) -> None:
    (finding,) = start(make_context("data=diabetes", "task.standardize=false")).findings
    assert (finding.name, finding.fix) == ("targets not standardised", ("task.standardize=true",))


def test_its_metrics_are_those_of_the_run(make_context: Callable[..., CheckContext]) -> None:
    context = make_context("data=wine")
    parts = context.parts
    expected = evaluate(context.model, parts.task, parts.data.eval_batches("val"), parts.state.precision)
    section = evaluation(context)
    assert section.values == expected
    assert section.findings == []


def test_a_metric_that_does_not_come_out_is_named(make_context: Callable[..., CheckContext]) -> None:
    context = make_context("data=wine")
    context = CheckContext(replace(context.parts, monitor=Monitor("dice", maximize=True)), context.batch)
    (finding,) = evaluation(context).findings
    assert finding.name == "monitor"
    assert "val/dice" in finding.measured and "val/accuracy" in finding.expected
    assert finding.fix == ("monitor=val/loss",)


def test_data_without_a_split_to_judge_by(make_context: Callable[..., CheckContext]) -> None:
    section = evaluation(make_context("data=wine", "data.val_fraction=0", "data.test_fraction=0"))
    assert section.findings == []
    assert "none" in section.lines[0][1]


def test_where_no_metric_is_finite_none_is_advised(make_context: Callable[..., CheckContext]) -> None:
    context = make_context("data=diabetes", "model=linear")
    with torch.no_grad():
        next(context.parts.state.model.parameters()).fill_(torch.nan)
    (finding,) = evaluation(context).findings
    assert (finding.name, finding.expected, finding.fix) == ("monitor", "a finite number", ())
    assert "of val" in finding.advice
