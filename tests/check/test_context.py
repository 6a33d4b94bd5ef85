"""Losses of outputs that know nothing, against their formulas; and that nothing of the run is disturbed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy import same_bits

from trainrun.check.checks import examine
from trainrun.check.context import (
    CheckContext,
    blank_loss,
    blind_loss,
    fresh_state,
    isolated,
    loss_in,
    time_limit,
    without_dropout,
)
from trainrun.protocols import Batch, Outcome, StepResult


def test_the_loss_of_outputs_of_0_is_that_of_equal_chances(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...], table: tuple[str, ...]
) -> None:
    context = make_context(*classes)
    assert math.isclose(
        blank_loss(context.parts.task, context.model, context.batch), math.log(3), rel_tol=1e-6
    )
    context = make_context("data=breast_cancer", "task=binary", "loss=bce_with_logits")
    assert math.isclose(
        blank_loss(context.parts.task, context.model, context.batch), math.log(2), rel_tol=1e-6
    )
    context = make_context(*table)
    targets = context.parts.task.targets(context.batch.targets)
    assert math.isclose(
        blank_loss(context.parts.task, context.model, context.batch),
        float(targets.square().mean()),
        rel_tol=1e-5,
    )


def test_the_loss_without_inputs_is_entropy_or_variance(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...], table: tuple[str, ...]
) -> None:
    context = make_context(*classes)
    shares = torch.bincount(context.batch.targets).double() / len(context.batch)
    entropy = -float((shares * shares.log()).sum())
    assert math.isclose(blind_loss(context.parts.task, context.model, context.batch), entropy, rel_tol=1e-4)
    context = make_context(*table)
    variance = float(context.parts.task.targets(context.batch.targets).var(correction=0))
    assert math.isclose(blind_loss(context.parts.task, context.model, context.batch), variance, rel_tol=1e-4)


def test_without_dropout_two_passes_are_equal() -> None:
    model = nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5), nn.Linear(50, 4)).train()
    x = torch.randn(8, 4)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(without_dropout(model)(x), model(x))
    deep = nn.LSTM(4, 8, num_layers=3, dropout=0.5).train()
    assert not torch.equal(deep(x)[0], deep(x)[0])
    assert torch.equal(without_dropout(deep)(x)[0], deep(x)[0])


def test_generators_come_out_as_they_were() -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def seed() -> None:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    seed()
    expected = drawn()
    seed()
    with isolated():
        drawn()
    assert drawn() == expected


def test_a_check_leaves_the_run_as_it_was(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    parts = make_context(*classes, "model=mlp", "model.norm=batch").parts
    before = {key: value.clone() for key, value in parts.state.model.state_dict().items()}
    drawn = torch.get_rng_state()
    examine(parts)
    after = parts.state.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert torch.equal(drawn, torch.get_rng_state())
    assert parts.state.step == 0 and not parts.state.optimizer.state
    assert all(p.grad is None for p in parts.state.model.parameters())


def test_time_ends() -> None:
    assert time_limit(0.0, 60.0)()
    assert time_limit(60.0, 0.0)()
    assert not time_limit(60.0, 1.0)()


def test_a_model_may_give_more_than_one_tensor(own_task: CheckContext) -> None:
    """Nothing is found, and what its losses are compared with is that of the tensor that counts."""
    sections = {section.title: section for section in examine(own_task.parts)}
    assert [finding for section in sections.values() for finding in section.findings] == []
    assert len(sections["model"].values["layers"]) == 2
    has_outputs = "expected" in sections["start"].values
    assert has_outputs == (sections["modes"].values == {"evaluation": 0.0})
    if has_outputs:
        assert sections["start"].values["expected"] == pytest.approx(math.log(3), rel=1e-6)
        assert sections["overfit"].values["share"] < 0.5
    else:
        assert "not compared" in sections["modes"].lines[0][1]
        assert "compared with nothing" in sections["start"].lines[0][1]
        assert "no verdict" in sections["overfit"].lines[0][1]


def test_what_a_task_of_its_own_is_compared_with(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    """A penalty beside the outputs, which is 0 at best, changes neither loss."""

    context = make_context(*classes)

    class Pair(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"outputs": x[:, :3], "penalty": x.square().mean(), "classes": x.argmax(1)}

    class First(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            given = self.model(x=x)
            return given["outputs"] + given["penalty"]

    def task(model: nn.Module, batch: Batch) -> Outcome:
        return context.parts.task(First(model), batch)

    task.count = context.parts.task.count  # type: ignore[attr-defined]
    assert blank_loss(task, Pair(), context.batch) == pytest.approx(math.log(3), rel=1e-6)
    assert blind_loss(task, Pair(), context.batch) == pytest.approx(
        blind_loss(context.parts.task, context.model, context.batch), rel=1e-5
    )


def test_a_loss_over_nothing_is_no_number() -> None:
    zero, two = torch.zeros(()), torch.tensor(2.0)
    assert loss_in(StepResult(4, {"a": two, "b": two}, {"a": 4.0, "b": two}, {}, 1.0, 1.0, True)) == 1.5
    assert math.isnan(
        loss_in(StepResult(4, {"a": two, "b": zero}, {"a": 4.0, "b": zero}, {}, 1.0, 1.0, True))
    )


class Failing(nn.Module):
    """Raises what its caller gives it."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.layer, self.error = nn.Linear(6, 3), error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize("error", [ZeroDivisionError("by 0"), NotImplementedError("by 0"), EOFError("by 0")])
def test_whatever_the_users_code_raises_is_a_finding_of_the_section(
    error: Exception, make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    sections = {
        section.title: section.findings
        for section in examine(make_context(*classes, model=Failing(error)).parts)
    }
    assert {"model", "numbers", "modes", "overfit"} <= set(sections)
    for title in ("model", "numbers", "modes", "overfit"):
        (finding,) = sections[title]
        assert (finding.name, finding.measured) == (f"{title} fails", f"{type(error).__name__}: by 0")


def test_what_follows_from_too_few_samples_is_not_asked(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    sections = examine(make_context(*classes, "data.limit=1", "model=mlp", "model.norm=batch").parts)
    (finding,) = [finding for section in sections for finding in section.findings]
    assert finding.name == "too few training samples"
    assert sections[-1].lines == [("not asked", "with 1 training sample the answers would say nothing")]


WORDS = [
    ("optimizer=adamw", "scheduler=plateau", "regularization=early_stopping"),
    ("optimizer=lbfgs",),
    ("optimizer=schedule_free", "scheduler=constant"),
    ("optimizer=sam", "regularization=ema", "parameters.rules={head*:{lr:0.1}}"),
]


@pytest.mark.parametrize("words", WORDS, ids=lambda words: words[0])
def test_it_is_what_the_run_begins_with(
    words: tuple[str, ...], make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    context = make_context(*classes, "model=mlp", *words)
    parts = context.parts
    state = fresh_state(context, context.model, parts.settings["optimizer"], parts.rates.lr)
    assert same_bits(state.state_dict(), parts.state.state_dict())
    loop = parts.loop(Path(), "", None, parts.runtime.signals())
    before = {key: value.clone() for key, value in parts.state.model.state_dict().items()}
    loop.step(state, [context.batch])
    loop.checkpoints.close()
    assert same_bits(before, dict(parts.state.model.state_dict()))
    assert not same_bits(before, dict(state.model.state_dict()))
