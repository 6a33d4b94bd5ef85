"""Ten samples overfitted: what is concluded from which learning rates learn them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trainrun.check.context import CheckContext, Patience
from trainrun.check.overfit import Attempt, attempt, overfit, pick_samples, verdict

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
    findings = verdict(context, 10, 2.3, first, others)
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
    attempt(context, pick_samples(context), 1.0, 1.0, Patience(0.5, 60.0))
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
    assert overfit(make_context(*classes, model=Blind()), retries=False).findings == ()


def test_a_rate_far_too_low_is_mended_by_one_that_learns_them_all(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    section = overfit(make_context(*classes, "model=mlp", "optimizer.lr=1e-8"), retries=True)
    (finding,) = section.findings
    assert finding.name == "learning rate too low"
    (fix,) = finding.fix
    again = overfit(make_context(*classes, "model=mlp", fix), retries=True)
    assert again.findings == () and again.values["share"] <= 0.1


@pytest.mark.parametrize("optimizer", ["adamw", "momentum", "lbfgs", "sam", "schedule_free", "muon"])
def test_every_kind_of_optimizer_can(
    optimizer: str, make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    section = overfit(make_context(*classes, "model=mlp", f"optimizer={optimizer}"), retries=True)
    assert section.findings == ()
    assert section.values["share"] <= 0.5
    assert math.isfinite(section.values["loss_without_inputs"])


class Noisy(Blind):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.randn_like(x))


def test_what_draws_has_no_verdict(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    section = overfit(make_context(*classes, model=Noisy()), retries=True)
    assert section.findings == ()
    assert "no verdict" in section.lines[0][1]
