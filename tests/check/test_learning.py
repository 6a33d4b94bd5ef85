"""Which parameters learn, of models where that is known by construction."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainrun import init
from trainrun.check.learning import Learning, learning


def asked(model: nn.Module) -> Learning:
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
    assert asked(mlp()) == Learning([], [], [])
    assert asked(Adapted()) == Learning([], [], [])


def test_what_gets_no_gradient_is_named() -> None:
    learned = asked(Odd())
    assert learned.unused == ["unused.weight", "unused.bias"]
    assert learned.still == ["still.weight", "still.bias"]


def test_units_that_begin_alike_stay_alike() -> None:
    model = mlp()
    init.constant(0.3, False)(model)
    assert asked(model).alike == ["0", "2"]


def test_zeros_never_move() -> None:
    model = mlp()
    init.zeros(False)(model)
    learned = asked(model)
    assert learned.alike == ["0", "2"]
    assert {"0.weight", "2.weight", "4.weight"} <= set(learned.still)


def test_an_output_layer_of_zeros_is_no_fault() -> None:
    model = mlp()
    nn.init.zeros_(model[4].weight)
    assert asked(model) == Learning([], [], [])
