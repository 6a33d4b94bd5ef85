"""Schedules against torch's own classes value by value, and against formulas where torch has none."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from curves import LENGTHS, OPTIONS, SHAPED, assert_same, factors, from_yaml, torch_curve
from torch.optim import lr_scheduler as torch_schedulers

from trainrun import scheduler
from trainrun.vocabulary.errors import ConfigError

# ---- against torch, value by value, at base lr 1


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize(("every", "gamma"), [(1, 0.5), (3, 0.1), (30, 0.9)])
def test_step_is_torchs(total: int, every: int, gamma: float) -> None:
    ours = scheduler.step(1.0, every, gamma, 0, 0.0, 0.0)
    theirs = torch_curve(lambda o: torch_schedulers.StepLR(o, every, gamma), total)
    assert_same(factors(ours, total), [lr for lr, _ in theirs])


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize("milestones", [[2], [1, 2], [50, 75], [5, 5, 90]])
def test_multistep_is_torchs(total: int, milestones: list[int]) -> None:
    ours = scheduler.multistep(1.0, milestones, 0.1, 0, 0.0, 0.0)
    theirs = torch_curve(lambda o: torch_schedulers.MultiStepLR(o, milestones, 0.1), total)
    assert_same(factors(ours, total), [lr for lr, _ in theirs])


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize("gamma", [0.9, 0.999])
def test_exponential_is_torchs(total: int, gamma: float) -> None:
    ours = scheduler.exponential(1.0, gamma, 1, 0, 0.0, 0.0)
    theirs = torch_curve(lambda o: torch_schedulers.ExponentialLR(o, gamma), total)
    assert_same(factors(ours, total), [lr for lr, _ in theirs])


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize("min_lr", [0.0, 0.01])
def test_linear_is_torchs_with_its_end_value_at_the_total(total: int, min_lr: float) -> None:
    ours = scheduler.linear(total, 1.0, 0, 0.0, min_lr)
    theirs = torch_curve(lambda o: torch_schedulers.LinearLR(o, 1.0, min_lr, total), total + 1)
    assert_same(factors(ours, total + 1), [lr for lr, _ in theirs])


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize("power", [1.0, 0.5, 2.0, 3.0])
def test_polynomial_is_torchs_with_its_end_value_at_the_total(total: int, power: float) -> None:
    ours = scheduler.polynomial(total, 1.0, power, 0, 0.0, 0.0)
    theirs = torch_curve(lambda o: torch_schedulers.PolynomialLR(o, total, power), total + 1)
    assert_same(factors(ours, total + 1), [lr for lr, _ in theirs])


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize("min_lr", [0.0, 1e-5, 0.1])
def test_cosine_is_torchs_with_its_end_value_at_the_total(total: int, min_lr: float) -> None:
    ours = scheduler.cosine(total, 1.0, 0, 0.0, min_lr)
    theirs = torch_curve(lambda o: torch_schedulers.CosineAnnealingLR(o, total, min_lr), total + 1)
    assert_same(factors(ours, total + 1), [lr for lr, _ in theirs])


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize("rise", [0.0, 0.3, 0.45, 0.8])
def test_one_cycle_is_torchs_momentum_included(total: int, rise: float) -> None:
    ours = scheduler.one_cycle(total, 1.0, rise, 25.0, 1e4, 0.95, 0.85, 0, 0.0, 0.0)
    theirs = torch_curve(
        lambda o: torch_schedulers.OneCycleLR(o, 1.0, total_steps=total, pct_start=rise), total
    )
    curve = [ours(update) for update in range(total)]
    assert_same([lr for lr, _ in curve], [lr for lr, _ in theirs])
    assert_same([m for _, m in curve if m is not None], [m for _, m in theirs])


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize(("up", "down"), [(4, None), (3, 8), (1, 1)])
@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
def test_cyclic_is_torchs_in_all_modes_momentum_included(
    total: int, up: int, down: int | None, mode: Any
) -> None:
    ours = scheduler.cyclic(1.0, up, down, mode, 0.99, 0.1, 0.9, 0.8, 0, 0.0, 0.0)
    theirs = torch_curve(
        lambda o: torch_schedulers.CyclicLR(
            o, 0.1, 1.0, up, down, mode=mode, gamma=0.99, base_momentum=0.8, max_momentum=0.9
        ),
        total,
    )
    curve = [ours(update) for update in range(total)]
    assert_same([lr for lr, _ in curve], [lr for lr, _ in theirs])
    assert_same([m for _, m in curve if m is not None], [m for _, m in theirs])


# ---- closed forms


def test_exponential_decays_by_gamma_over_each_every() -> None:
    ours = scheduler.exponential(1.0, 0.9, 40, 0, 0.0, 0.0)
    assert_same(factors(ours, 200), [math.exp(math.log(0.9) * n / 40) for n in range(200)])


@pytest.mark.parametrize("warmup", [1, 4, 400])
@pytest.mark.parametrize("d_model", [64, 512])
def test_noam_is_the_papers_formula(warmup: int, d_model: int) -> None:
    ours = scheduler.noam(1.0, d_model, warmup, 0.0, 0.0)
    paper = [d_model**-0.5 * min(n**-0.5, n * warmup**-1.5) for n in range(1, 1001)]
    assert_same(factors(ours, 1000), paper)


@pytest.mark.parametrize("warmup", [1, 4, 200])
@pytest.mark.parametrize("start", [0.0, 0.3])
def test_noam_without_d_model_rises_to_the_learning_rate_then_falls_as_a_root(
    warmup: int, start: float
) -> None:
    rise = [start + (1 - start) * n / warmup for n in range(1, warmup + 1)]
    fall = [(warmup / n) ** 0.5 for n in range(warmup + 1, 1001)]
    assert_same(factors(scheduler.noam(1.0, None, warmup, start, 0.0), 1000), rise + fall)


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize(
    ("curve", "formula"),
    [
        ("linear", lambda x: 1 - x),
        ("cosine", lambda x: 0.5 + 0.5 * math.cos(math.pi * x)),
        ("sqrt", lambda x: 1 - x**0.5),
    ],
)
def test_wsd_is_constant_then_decays_over_the_last_part(
    total: int, curve: Any, formula: Callable[[float], float]
) -> None:
    decay = math.ceil(total / 5)
    ours = scheduler.wsd(total, 1.0, decay, curve, 0, 0.0, 0.1)
    begin = total - decay
    wanted = [1.0 if n < begin else 0.1 + 0.9 * formula((n - begin) / decay) for n in range(total + 1)]
    assert_same(factors(ours, total + 1), wanted)
    assert ours(total)[0] == pytest.approx(0.1, abs=1e-12)


def test_wsd_without_decay_is_constant() -> None:
    assert factors(scheduler.wsd(10, 1.0, 0, "sqrt", 0, 0.0, 0.0), 11) == [1.0] * 11


@pytest.mark.parametrize("base_lr", [1.0, 0.3])
@pytest.mark.parametrize("warmup", [0, 10])
def test_min_lr_is_the_learning_rate_at_the_end(base_lr: float, warmup: int) -> None:
    total, low = 200, 1e-2
    common = (warmup, 0.0, low)
    ends = {
        "linear": scheduler.linear(total, base_lr, *common),
        "polynomial": scheduler.polynomial(total, base_lr, 2.0, *common),
        "cosine": scheduler.cosine(total, base_lr, *common),
        "wsd": scheduler.wsd(total, base_lr, 50, "sqrt", *common),
        "one_cycle": scheduler.one_cycle(total, base_lr, 0.3, 25.0, 1e4, None, None, *common),
        "step": scheduler.step(base_lr, 10, 0.5, *common),
        "multistep": scheduler.multistep(base_lr, [50, 100], 0.01, *common),
        "exponential": scheduler.exponential(base_lr, 0.9, 1, *common),
        "noam": scheduler.noam(base_lr, 512, max(1, warmup), 0.0, low),
    }
    for name, schedule in ends.items():
        rates = [base_lr * schedule(n)[0] for n in range(warmup, total + 1)]
        assert rates[-1] == pytest.approx(low, abs=1e-12), name
        assert min(rates) >= low - 1e-12, name


def test_min_lr_is_the_bottom_of_a_cycle() -> None:
    rates = factors(scheduler.cyclic(1.0, 5, 5, "triangular", 1.0, 0.0, None, None, 0, 0.0, 0.2), 21)
    assert min(rates) == rates[0] == rates[10] == rates[20] == pytest.approx(0.2, abs=1e-12)
    assert max(rates) == rates[5] == 1.0


@pytest.mark.parametrize("option", [option for option in SHAPED if option != "constant"])
def test_a_min_lr_above_the_learning_rate_is_an_error(option: str) -> None:
    with pytest.raises(ConfigError, match=r"scheduler\.min_lr: must be at most the learning rate 1, got 2"):
        from_yaml(option, 100, min_lr=2.0)


def test_cosine_never_rises_again() -> None:
    values = factors(scheduler.cosine(50, 1.0, 0, 0.0, 0.0), 150)
    assert all(b <= a for a, b in pairwise(values))


# ---- the shortest runs


@pytest.mark.parametrize("total", [1, 2, 3, 4])
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_runs_however_short_the_run(option: str, total: int) -> None:
    schedule = from_yaml(option, total)
    values = factors(schedule, total)
    assert all(0 < value <= 1 for value in values)


def test_a_decay_that_does_not_fit_beside_the_warmup_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"scheduler\.decay: of 80 steps and the warm-up of 40"):
        scheduler.wsd(100, 1.0, 80, "linear", 40, 0.0, 0.0)


@pytest.mark.parametrize(("high", "low"), [(0.9, None), (None, 0.8)])
def test_half_a_momentum_range_is_an_error(high: float | None, low: float | None) -> None:
    with pytest.raises(ConfigError, match="give both"):
        scheduler.one_cycle(10, 1.0, 0.3, 25.0, 1e4, high, low, 0, 0.0, 0.0)
    with pytest.raises(ConfigError, match="give both"):
        scheduler.cyclic(1.0, 5, None, "triangular", 1.0, 0.1, high, low, 0, 0.0, 0.0)


def test_momentum_is_left_alone_unless_asked() -> None:
    schedule = scheduler.one_cycle(10, 1.0, 0.3, 25.0, 1e4, None, None, 0, 0.0, 0.0)
    two = scheduler.cyclic(1.0, 5, None, "triangular", 1.0, 0.1, None, None, 0, 0.0, 0.0)
    assert {schedule(n)[1] for n in range(10)} | {two(n)[1] for n in range(10)} == {None}


def test_a_schedule_is_a_pure_function_of_the_update() -> None:
    for option in SHAPED:
        schedule = from_yaml(option, 50)
        forwards = factors(schedule, 50)
        assert [schedule(n)[0] for n in reversed(range(50))] == forwards[::-1], option
