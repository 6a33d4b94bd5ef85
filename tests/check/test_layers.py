"""What is told of a model's layers, and which override mends it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from trainrun.check.context import CheckContext
from trainrun.check.layers import layers


def names(context: CheckContext) -> list[str]:
    return [finding.name for finding in layers(context).findings]


@pytest.mark.parametrize(
    ("words", "name", "fix"),
    [
        (("init=zeros",), "zero weights", ("init=auto",)),
        (("init=constant", "init.value=0.1"), "equal weights", ("init=auto",)),
        (("model.depth=8", "init=normal", "init.std=0.001"), "vanishing", ("init=auto",)),
        (("model.depth=8", "init=normal", "init.std=3"), "exploding", ("init=auto",)),
        (("model.activation=tanh", "init=normal", "init.std=9"), "saturated units", ("init=auto",)),
        (
            ("model.depth=40", "model.activation=sigmoid"),
            "vanishing",
            ("model.activation=relu", "model.norm=batch"),
        ),
    ],
    ids=["zeros", "constant", "small", "large", "saturated", "sigmoid"],
)
def test_a_fault_has_a_name_and_an_override(
    words: tuple[str, ...],
    name: str,
    fix: tuple[str, ...],
    make_context: Callable[..., CheckContext],
    classes: tuple[str, ...],
) -> None:
    (finding,) = layers(make_context(*classes, "model=mlp", *words)).findings
    assert (finding.name, finding.fix) == (name, fix)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "selu"])
def test_usual_models_have_none(
    activation: str, make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    assert names(make_context(*classes, "model=mlp", "model.depth=6", f"model.activation={activation}")) == []


def test_norms_that_begin_otherwise_are_named(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    context = make_context(*classes, "model=mlp", "model.norm=layer")
    assert ("norms", "2 norm layers, weight 1 and bias 0") in layers(context).lines
    with torch.no_grad():
        next(m for m in context.parts.state.model.modules() if isinstance(m, nn.LayerNorm)).bias.fill_(0.5)
    assert names(context) == ["norm layers"]


def test_unused_parameters_are_a_fault_of_the_model_first(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.extra = nn.Linear(6, 3), nn.Parameter(torch.ones(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    (finding,) = layers(make_context(*classes, model=Net())).findings
    assert finding.name == "unused parameters"
    assert finding.fix == ()
    assert finding.advice.startswith("use them in forward")
    assert finding.advice.endswith("'parameters.rules={extra:{freeze:true}}'")
