"""Ten samples overfitted: what is concluded from which learning rates learn them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torch import Tensor, nn

import trainrun
from trainrun.check import learning_rate
from trainrun.check.context import CheckContext, time_limit
from trainrun.check.finding import CheckSection
from trainrun.check.learning_rate import (
    Attempt,
    attempt,
    conclude,
    first_steps,
    overfit,
    pick_samples,
    try_rate,
)

INF = float("inf")


def tried(factor: float, share: float, steps: int = 150, in_time: bool = True) -> Attempt:
    return Attempt(factor, share, 1.0 if share < 0.2 else 0.3, steps, in_time)


@pytest.mark.parametrize(
    ("first", "others", "name", "fix"),
    [
        (tried(1, 0.05, 20), [], None, None),
        (tried(1, 0.4), [], None, None),  # slow, but on its way
        (tried(1, 0.9, in_time=False), [], None, None),
        (tried(1, INF), [tried(0.1, 0.9), tried(0.01, 0.05, 90), tried(0.001, 0.09, 20)], "too high", 0.001),
        (tried(1, 1.2), [tried(10, 0.8), tried(100, 0.09, 200), tried(1000, INF)], "too low", 100),
        (tried(1, 1.0), [tried(10, 0.3), tried(100, 0.45)], None, None),
        (tried(1, 1.0), [tried(0.1, 1.0), tried(10, 1.0)], "cannot learn", None),
        (tried(1, 1.0), [tried(0.1, 1.0), tried(10, 1.0, in_time=False)], None, None),
    ],
    ids=[
        "knows",
        "learns",
        "no time",
        "high",
        "low",
        "low but slow",
        "never",
        "no time for all",
    ],
)
def test_what_is_concluded(
    first: Attempt,
    others: list[Attempt],
    name: str | None,
    fix: float | None,
    make_context: Callable[..., CheckContext],
    classes: tuple[str, ...],
) -> None:
    context = make_context(*classes, "model=linear", "optimizer.lr=0.5")
    section = CheckSection("overfit", values={"loss_without_inputs": 2.3})
    conclude(section, context, "10 samples", first, others)
    findings = section.findings
    assert [signal.name.removeprefix("learning rate ") for signal in findings] == ([name] if name else [])
    if fix:
        assert findings[0].fix == (f"optimizer.lr={0.5 * fix:g}",)


def test_samples_are_of_as_many_classes_as_there_are(make_context: Callable[..., CheckContext]) -> None:
    assert sorted(pick_samples(make_context("data=digits")).targets.tolist()) == list(range(10))
    counts = torch.bincount(pick_samples(make_context("data=wine")).targets)
    assert sorted(counts.tolist()) == [3, 3, 4]


def test_a_step_is_the_optimizers_own_without_decay(make_context: Callable[..., CheckContext]) -> None:
    """One step of plain SGD on one sample of a linear model, by hand."""
    context = make_context(
        "data=wine", "model=linear", "optimizer=sgd", "optimizer.weight_decay=0.5", "optimizer.lr=1e-3"
    )
    batch = pick_samples(context)
    layer = next(m for m in context.model.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        x = batch.inputs.flatten(1)
        p = torch.softmax(x @ layer.weight.T + layer.bias, 1) - nn.functional.one_hot(batch.targets, 3)
        layer.weight -= 1e-3 * p.T @ x / len(x)
        layer.bias -= 1e-3 * p.mean(0)
        after = nn.functional.cross_entropy(x @ layer.weight.T + layer.bias, batch.targets)
    two = attempt_of(context, steps=2)
    assert two == pytest.approx(float(after), rel=1e-5)


def attempt_of(context: CheckContext, steps: int) -> float:
    """The loss that the step of that number begins with."""
    losses: list[float] = []
    task = context.parts.task
    whole = type(task).__call__

    class Watched(type(task)):  # type: ignore[misc]
        def __call__(self, model: nn.Module, batch: object) -> object:
            outcome = whole(self, model, batch)
            losses.append(float(outcome.terms["loss"].detach()) / len(batch))  # type: ignore[arg-type]
            return outcome

    task.__class__ = Watched
    attempt(context, pick_samples(context), 1.0, 1.0, time_limit(0.5, 120.0))
    return losses[steps - 1]


class Blind(nn.Module):
    """Gives the same for every input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.zeros_like(x))


def test_a_model_that_sees_nothing_cannot_learn(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    section = overfit(make_context(*classes, model=Blind()), retries=True)
    (finding,) = section.findings
    assert finding.name == "cannot learn"
    assert section.values["share"] == pytest.approx(1, abs=0.1)
    assert overfit(make_context(*classes, model=Blind()), retries=False).findings == []


def test_a_rate_far_too_low_is_mended_by_one_that_learns_them_all(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    section = overfit(make_context(*classes, "model=mlp", "optimizer.lr=1e-8"), retries=True)
    (finding,) = section.findings
    assert finding.name == "learning rate too low"
    (fix,) = finding.fix
    again = overfit(make_context(*classes, "model=mlp", fix), retries=True)
    assert again.findings == [] and again.values["share"] <= 0.1


@pytest.mark.parametrize("optimizer", ["adamw", "momentum", "lbfgs", "sam", "schedule_free", "muon"])
def test_every_kind_of_optimizer_can(
    optimizer: str, make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    section = overfit(make_context(*classes, "model=mlp", f"optimizer={optimizer}"), retries=True)
    assert section.findings == []
    assert section.values["share"] <= 0.5
    assert math.isfinite(section.values["loss_without_inputs"])


class Noisy(Blind):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.randn_like(x))


def test_what_draws_has_no_verdict(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    section = overfit(make_context(*classes, model=Noisy()), retries=True)
    assert section.findings == []
    assert "no verdict" in section.lines[0][1]


@pytest.mark.parametrize("words", [("regularization=mixup",), ("loop.accumulate=2", "loop.clip.norm=0.5")])
def test_they_are_those_that_training_makes(
    words: tuple[str, ...], make_context: Callable[..., CheckContext], tmp_path: Path
) -> None:
    words = ("data=wine", "model.norm=batch", "budget=14step", *words)
    tried = try_rate(make_context(*words), 1.0, time_limit(60.0, 10.0))
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
        assert first_steps(make_context("data=breast_cancer", fix)).findings == []


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
    assert first_steps(make_context(*words)).findings == []


def test_steps_without_anything_to_average_have_no_verdict(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context(*classes, "model=linear")
    expected = first_steps(context).values
    original, calls = learning_rate.loss_in, iter(range(1000))
    monkeypatch.setattr(
        learning_rate, "loss_in", lambda result: math.nan if next(calls) < 1 else original(result)
    )
    section = first_steps(context)
    assert section.findings == [] and section.values["last"] == pytest.approx(expected["last"])
    monkeypatch.setattr(learning_rate, "loss_in", lambda result: math.nan)
    assert first_steps(context).findings == []
