"""Optimizers against torch's classes and the papers' formulas, on problems small enough to do by hand."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from trainrun import optimizer
from trainrun.vocabulary.errors import ConfigError

CONF = Path(__file__).resolve().parents[2] / "conf" / "optimizer"
NEWER = {"lion", "muon", "own", "per_module", "sam", "schedule_free"}  # tested beside this file
OPTIONS = sorted({path.stem for path in CONF.glob("*.yaml")} - NEWER)
Make = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
START = [1.0, -2.0, 0.5, 3.0]
CURVATURE = [1.0, 10.0, 0.1, 3.0]


def weight(dtype: torch.dtype = torch.float64) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(START, dtype=dtype))


def loss(w: Tensor) -> Tensor:
    """A quadratic with a different curvature along each axis; its gradient is CURVATURE * w."""
    return 0.5 * (torch.tensor(CURVATURE, dtype=w.dtype) * w * w).sum()


def descend(make: Make, steps: int, objective: Callable[[Tensor], Tensor] = loss) -> Tensor:
    w = weight()
    descent = make([{"params": [w]}])
    for _ in range(steps):
        descent.zero_grad()
        objective(w).backward()
        descent.step()
    return w.detach()


def from_yaml(option: str, params: list[dict[str, Any]], **changes: Any) -> torch.optim.Optimizer:
    node = yaml.safe_load((CONF / f"{option}.yaml").read_text()) | changes
    function = getattr(optimizer, node.pop("_target_").rpartition(".")[2])
    del node["lr_scaling"], node["base_batch_size"]
    built: torch.optim.Optimizer = function(params=params, **node)
    return built


# ---- torch's classes, with the same arguments

O = torch.optim  # noqa: E741
PAIRS: dict[str, tuple[Make, Make]] = {
    "sgd": (lambda p: optimizer.sgd(p, 0.1, 0.01), lambda p: O.SGD(p, lr=0.1, weight_decay=0.01)),
    "momentum": (
        lambda p: optimizer.momentum(p, 0.05, 0.8, 0.01),
        lambda p: O.SGD(p, lr=0.05, momentum=0.8, weight_decay=0.01),
    ),
    "nesterov": (
        lambda p: optimizer.nesterov(p, 0.05, 0.8, 0.01),
        lambda p: O.SGD(p, lr=0.05, momentum=0.8, weight_decay=0.01, nesterov=True),
    ),
    "adagrad": (
        lambda p: optimizer.adagrad(p, 0.1, 0.02, 1e-6, 0.01),
        lambda p: O.Adagrad(p, lr=0.1, lr_decay=0.02, eps=1e-6, weight_decay=0.01),
    ),
    "adadelta": (
        lambda p: optimizer.adadelta(p, 0.7, 0.8, 1e-5, 0.01),
        lambda p: O.Adadelta(p, lr=0.7, rho=0.8, eps=1e-5, weight_decay=0.01),
    ),
    "rmsprop": (
        lambda p: optimizer.rmsprop(p, 0.02, 0.9, 1e-6, 0.5, True, 0.01),
        lambda p: O.RMSprop(p, lr=0.02, alpha=0.9, eps=1e-6, momentum=0.5, centered=True, weight_decay=0.01),
    ),
    "adam": (
        lambda p: optimizer.adam(p, 0.1, (0.8, 0.95), 1e-6, True, 0.01),
        lambda p: O.Adam(p, lr=0.1, betas=(0.8, 0.95), eps=1e-6, amsgrad=True, weight_decay=0.01),
    ),
    "adamw": (
        lambda p: optimizer.adamw(p, 0.1, (0.8, 0.95), 1e-6, True, 0.02),
        lambda p: O.AdamW(p, lr=0.1, betas=(0.8, 0.95), eps=1e-6, amsgrad=True, weight_decay=0.02),
    ),
    "adamax": (
        lambda p: optimizer.adamax(p, 0.1, (0.8, 0.95), 1e-6, 0.01),
        lambda p: O.Adamax(p, lr=0.1, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.01),
    ),
    "nadam": (
        lambda p: optimizer.nadam(p, 0.1, (0.8, 0.95), 1e-6, 0.01, True, 0.02),
        lambda p: O.NAdam(
            p,
            lr=0.1,
            betas=(0.8, 0.95),
            eps=1e-6,
            momentum_decay=0.01,
            decoupled_weight_decay=True,
            weight_decay=0.02,
        ),
    ),
    "adafactor": (
        lambda p: optimizer.adafactor(p, 0.1, -0.7, 1e-2, 1.5, 0.02),
        lambda p: O.Adafactor(p, lr=0.1, beta2_decay=-0.7, eps=(None, 1e-2), d=1.5, weight_decay=0.02),
    ),
    "radam": (
        lambda p: optimizer.radam(p, 0.1, (0.8, 0.95), 1e-6, True, 0.02),
        lambda p: O.RAdam(
            p, lr=0.1, betas=(0.8, 0.95), eps=1e-6, decoupled_weight_decay=True, weight_decay=0.02
        ),
    ),
}


def test_every_option_that_is_torchs_is_compared_with_torch() -> None:
    assert {*PAIRS, "lbfgs"} == set(OPTIONS)


@pytest.mark.parametrize("name", PAIRS)
def test_each_function_is_torchs_class_with_the_same_arguments(name: str) -> None:
    ours, theirs = PAIRS[name]
    torch.testing.assert_close(descend(ours, 12), descend(theirs, 12), rtol=1e-12, atol=1e-12)


def test_lbfgs_is_torchs_class_with_the_same_arguments() -> None:
    def after(make: Make) -> Tensor:
        w = weight()
        lbfgs = make([{"params": [w]}])

        def closure() -> Tensor:
            lbfgs.zero_grad()
            value = loss(w) + (w**4).sum()
            value.backward()
            return value

        for _ in range(2):
            lbfgs.step(closure)  # type: ignore[arg-type]
        return w.detach()

    ours = after(lambda p: optimizer.lbfgs(p, 0.5, 3, 2, 1e-8, 1e-10, "strong_wolfe"))
    theirs = after(
        lambda p: O.LBFGS(
            p,
            lr=0.5,
            max_iter=3,
            history_size=2,
            tolerance_grad=1e-8,
            tolerance_change=1e-10,
            line_search_fn="strong_wolfe",
        )
    )
    assert torch.equal(ours, theirs)


# ---- the formulas, by hand, one coordinate at a time


def by_hand(update: Callable[[float, float, int, dict[str, float]], float], steps: int) -> Tensor:
    """`update(w, gradient, step from 1, memory)` gives the next weight."""
    after = []
    for w, curvature in zip(START, CURVATURE, strict=True):
        memory = dict.fromkeys(("m", "v"), 0.0)
        for step in range(1, steps + 1):
            w = update(w, curvature * w, step, memory)
        after.append(w)
    return torch.tensor(after, dtype=torch.float64)


def sgd_by_hand(w: float, g: float, step: int, memory: dict[str, float]) -> float:
    return w - 0.05 * (g + 0.1 * w)


def momentum_by_hand(w: float, g: float, step: int, memory: dict[str, float]) -> float:
    memory["v"] = 0.9 * memory["v"] + g + 0.1 * w
    return w - 0.05 * memory["v"]


def nesterov_by_hand(w: float, g: float, step: int, memory: dict[str, float]) -> float:
    g += 0.1 * w
    memory["v"] = 0.9 * memory["v"] + g
    return w - 0.05 * (g + 0.9 * memory["v"])


def adagrad_by_hand(w: float, g: float, step: int, memory: dict[str, float]) -> float:
    memory["v"] += g**2
    return w - 0.05 * g / (math.sqrt(memory["v"]) + 1e-10)


def rmsprop_by_hand(w: float, g: float, step: int, memory: dict[str, float]) -> float:
    memory["v"] = 0.9 * memory["v"] + 0.1 * g**2
    return w - 0.05 * g / (math.sqrt(memory["v"]) + 1e-8)


def adam_by_hand(w: float, g: float, step: int, memory: dict[str, float]) -> float:
    memory["m"] = 0.9 * memory["m"] + 0.1 * g
    memory["v"] = 0.99 * memory["v"] + 0.01 * g**2
    mean, square = memory["m"] / (1 - 0.9**step), memory["v"] / (1 - 0.99**step)
    return w - 0.05 * mean / (math.sqrt(square) + 1e-8)


def adam_l2_by_hand(w: float, g: float, step: int, memory: dict[str, float]) -> float:
    return adam_by_hand(w, g + 0.1 * w, step, memory)


def adamw_by_hand(w: float, g: float, step: int, memory: dict[str, float]) -> float:
    return adam_by_hand(w, g, step, memory) - 0.05 * 0.1 * w


BETAS = (0.9, 0.99)


@pytest.mark.parametrize(
    ("make", "formula"),
    [
        (lambda p: optimizer.sgd(p, 0.05, 0.1), sgd_by_hand),
        (lambda p: optimizer.momentum(p, 0.05, 0.9, 0.1), momentum_by_hand),
        (lambda p: optimizer.nesterov(p, 0.05, 0.9, 0.1), nesterov_by_hand),
        (lambda p: optimizer.adagrad(p, 0.05, 0.0, 1e-10, 0.0), adagrad_by_hand),
        (lambda p: optimizer.rmsprop(p, 0.05, 0.9, 1e-8, 0.0, False, 0.0), rmsprop_by_hand),
        (lambda p: optimizer.adam(p, 0.05, BETAS, 1e-8, False, 0.0), adam_by_hand),
        (lambda p: optimizer.adam(p, 0.05, BETAS, 1e-8, False, 0.1), adam_l2_by_hand),
        (lambda p: optimizer.adamw(p, 0.05, BETAS, 1e-8, False, 0.1), adamw_by_hand),
    ],
    ids=["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adam_l2", "adamw"],
)
def test_each_step_is_the_papers_formula(make: Make, formula: Any) -> None:
    torch.testing.assert_close(descend(make, 20), by_hand(formula, 20), rtol=1e-10, atol=1e-12)


def test_momentum_with_1_minus_beta_is_momentum_with_a_smaller_learning_rate() -> None:
    def averaged(w: float, g: float, step: int, memory: dict[str, float]) -> float:
        memory["v"] = 0.9 * memory["v"] + (1 - 0.9) * g
        return w - 0.5 * memory["v"]

    ours = descend(lambda p: optimizer.momentum(p, 0.5 * (1 - 0.9), 0.9, 0.0), 20)
    torch.testing.assert_close(ours, by_hand(averaged, 20), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_adams_first_step_is_the_learning_rate_whatever_the_gradient(size: float) -> None:
    make = lambda p: optimizer.adam(p, 0.05, (0.9, 0.999), 1e-8, False, 0.0)  # noqa: E731
    moved = descend(make, 1, lambda w: size * loss(w)) - torch.tensor(START, dtype=torch.float64)
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.05), rtol=1e-3, atol=0)
    assert torch.equal(moved.sign(), -torch.tensor(START, dtype=torch.float64).sign())


def test_adam_with_l2_is_not_adamw() -> None:
    """Where no gradient comes from the loss, L2 alone moves Adam by lr, and decay AdamW by a factor."""
    nothing = lambda w: 0.0 * loss(w)  # noqa: E731
    l2 = descend(lambda p: optimizer.adam(p, 0.05, BETAS, 1e-8, False, 0.1), 1, nothing)
    decay = descend(lambda p: optimizer.adamw(p, 0.05, BETAS, 1e-8, False, 0.1), 1, nothing)
    start = torch.tensor(START, dtype=torch.float64)
    torch.testing.assert_close(l2, start - 0.05 * start.sign(), rtol=1e-6, atol=0)
    torch.testing.assert_close(decay, start * (1 - 0.05 * 0.1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["nadam", "radam"])
def test_decoupled_decay_shrinks_weights_without_a_gradient(name: str) -> None:
    nothing = lambda w: 0.0 * loss(w)  # noqa: E731
    make = lambda p: from_yaml(name, p, lr=0.05, weight_decay=0.1, decoupled=True)  # noqa: E731
    start = torch.tensor(START, dtype=torch.float64)
    torch.testing.assert_close(descend(make, 1, nothing), start * (1 - 0.05 * 0.1), rtol=1e-12, atol=0)


# ---- every option of conf


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_builds_and_makes_progress(option: str) -> None:
    w = weight(torch.float32)
    built = from_yaml(option, [{"params": [w]}])

    def closure() -> Tensor:
        built.zero_grad()
        value = loss(w)
        value.backward()
        return value

    before = float(loss(w.detach()))
    for _ in range(20):
        built.step(closure)  # type: ignore[arg-type]
    assert float(loss(w.detach())) < before


@pytest.mark.parametrize("option", OPTIONS)
def test_a_function_has_no_defaults_of_its_own(option: str) -> None:
    function = getattr(optimizer, option)
    assert {p.default for p in inspect.signature(function).parameters.values()} == {inspect.Parameter.empty}


@pytest.mark.parametrize("option", [option for option in OPTIONS if option != "lbfgs"])
def test_groups_keep_their_own_learning_rate_and_decay(option: str) -> None:
    a, b = weight(), weight()
    built = from_yaml(option, [{"params": [a], "lr": 0.5, "weight_decay": 0.25}, {"params": [b]}])
    node = yaml.safe_load((CONF / f"{option}.yaml").read_text())
    assert [group["lr"] for group in built.param_groups] == [0.5, node["lr"]]
    assert [group["weight_decay"] for group in built.param_groups] == [0.25, node["weight_decay"]]


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam", "adamw"])
def test_the_fused_kernel_is_used_where_there_is_one(name: str) -> None:
    assert from_yaml(name, [{"params": [weight()]}]).param_groups[0]["fused"] is True


def test_adafactor_is_the_papers_algorithm() -> None:
    """Algorithm 5 of Shazeer and Stern (2018) on a matrix, with torch's warm decay 1 - t^-0.8."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
    gradients = torch.randn(5, 3, 4, dtype=torch.float64)
    adafactor = optimizer.adafactor([{"params": [weight]}], 0.3, -0.8, 1e-3, 1.0, 0.0)
    x, rows, columns = weight.detach().clone(), torch.zeros(3), torch.zeros(4)
    for t, gradient in enumerate(gradients, 1):
        beta = 1 - t**-0.8
        rows = beta * rows + (1 - beta) * (gradient**2).mean(1)
        columns = beta * columns + (1 - beta) * (gradient**2).mean(0)
        update = gradient / (torch.outer(rows, columns) / rows.mean()).sqrt()
        update = update / max(1.0, float((update**2).mean().sqrt()))
        size = max(1e-3, float((x**2).mean().sqrt()))
        x = x - size * min(0.3, t**-0.5) * update
        weight.grad = gradient.clone()
        adafactor.step()
    torch.testing.assert_close(weight.detach(), x, rtol=1e-6, atol=1e-9)


def test_torch_chooses_the_kernel_for_what_no_fused_one_takes() -> None:
    odd = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))
    assert not from_yaml("adamw", [{"params": [odd]}]).param_groups[0]["fused"]


def test_nesterov_without_momentum_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.momentum: .*use sgd"):
        optimizer.nesterov([{"params": [weight()]}], 0.1, 0.0, 0.0)


# ---- L-BFGS


def rosenbrock(w: Tensor) -> Tensor:
    """Minimum 0 at (1, 1), at the end of a curved valley."""
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


def solve(objective: Callable[[Tensor], Tensor], start: list[float], steps: int) -> Tensor:
    w = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    lbfgs = from_yaml("lbfgs", [{"params": [w]}], max_iter=20)

    def closure() -> Tensor:
        lbfgs.zero_grad()
        value = objective(w)
        value.backward()
        return value

    for _ in range(steps):
        lbfgs.step(closure)  # type: ignore[arg-type]
    return w.detach()


def test_lbfgs_solves_a_quadratic_in_one_step() -> None:
    assert float(solve(loss, START, 1).abs().max()) < 1e-4


def test_lbfgs_solves_rosenbrock_where_gradient_descent_crawls() -> None:
    solved = solve(rosenbrock, [-1.2, 1.0], 5)
    torch.testing.assert_close(solved, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-5)


def test_only_lbfgs_needs_a_closure() -> None:
    needy = [
        option for option in OPTIONS if optimizer.needs_closure(from_yaml(option, [{"params": [weight()]}]))
    ]
    assert needy == ["lbfgs"]


@pytest.mark.parametrize(
    ("scaling", "window", "wanted", "words"),
    [
        ("none", 512, 0.1, "0.1"),
        ("linear", 512, 0.2, "0.1 x 512 / 256 = 0.2"),
        ("linear", 64, 0.025, "0.1 x 64 / 256 = 0.025"),
        ("sqrt", 1024, 0.2, "0.1 x sqrt(1024 / 256) = 0.2"),
        ("sqrt", 512, 0.1 * math.sqrt(2), "0.1 x sqrt(512 / 256) = 0.141421"),
    ],
)
def test_the_learning_rate_scales_with_the_batch(
    scaling: Any, window: int, wanted: float, words: str
) -> None:
    lr, said = optimizer.scaled_lr(0.1, window, scaling, 256)
    assert lr == pytest.approx(wanted, rel=1e-12)
    assert said == words
