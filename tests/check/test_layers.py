"""What is told of a model's layers, and which override mends it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trainrun import init
from trainrun.check.context import CheckContext
from trainrun.check.layers import layers, learning


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


def asked(model: nn.Module) -> tuple[list[str], list[str], list[str]]:
    torch.manual_seed(0)
    x, t = torch.randn(16, 4), torch.randn(16, 2)
    return learning(model, lambda: (model(x) - t).square().mean())


def mlp() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


class Odd(nn.Module):
    """One part that is never used, one that is multiplied by 0, one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused, self.still = nn.Linear(4, 2), nn.Linear(4, 2), nn.Linear(4, 2)
        self.frozen = nn.Linear(4, 2).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x) + 0 * self.still(x) + self.frozen(x)


class Adapted(nn.Module):
    """A low-rank adapter, whose second matrix begins at 0, as it should."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.down, self.up = (
            nn.Linear(4, 2),
            nn.Linear(4, 3, bias=False),
            nn.Linear(3, 2, bias=False),
        )
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def test_a_usual_model_learns_everywhere() -> None:
    assert asked(mlp()) == ([], [], [])
    assert asked(Adapted()) == ([], [], [])


def test_what_gets_no_gradient_is_named() -> None:
    unused, still, _ = asked(Odd())
    assert unused == ["unused.weight", "unused.bias"]
    assert still == ["still.weight", "still.bias"]


def test_units_that_begin_alike_stay_alike() -> None:
    model = mlp()
    init.constant(0.3, False)(model)
    assert asked(model)[2] == ["0", "2"]


def test_zeros_never_move() -> None:
    model = mlp()
    init.zeros(False)(model)
    _, still, alike = asked(model)
    assert alike == ["0", "2"]
    assert {"0.weight", "2.weight", "4.weight"} <= set(still)


def test_an_output_layer_of_zeros_is_no_fault() -> None:
    model = mlp()
    nn.init.zeros_(model[4].weight)
    assert asked(model) == ([], [], [])
