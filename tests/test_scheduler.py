"""Schedules against torch's own classes value by value, and against closed forms where torch has none."""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.optim import lr_scheduler as torch_schedulers

from trainrun import scheduler
from trainrun.duration import Pace, parse, to_steps
from trainrun.errors import ConfigError
from trainrun.scheduler import FromTorch, Plateau, Warmed

CONF = Path(__file__).resolve().parents[1] / "conf" / "scheduler"
OPTIONS = sorted(path.stem for path in CONF.glob("*.yaml"))
LENGTHS = [1, 2, 3, 7, 100, 1000]
Curve = list[tuple[float, float]]


def torch_curve(make: Callable[[torch.optim.Optimizer], Any], updates: int, lr: float = 1.0) -> Curve:
    """(learning rate, momentum) at updates 0 .. updates - 1, as a plain torch loop sees them."""
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr, momentum=0.9)
    follower = make(optimizer)
    curve = []
    for update in range(updates):
        group = optimizer.param_groups[0]
        curve.append((group["lr"], group["momentum"]))
        optimizer.step()
        if update < updates - 1:
            follower.step()
    return curve


def factors(schedule: Callable[[int], tuple[float, float | None]], updates: int) -> list[float]:
    return [schedule(update)[0] for update in range(updates)]


def assert_same(ours: list[float], theirs: list[float]) -> None:
    assert len(ours) == len(theirs)
    for update, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert abs(a - b) <= 1e-12, f"update {update}: {a!r} is not {b!r}"


def from_yaml(option: str, total: int, per_epoch: int = 10, **changes: Any) -> Any:
    """The schedule of a YAML option as a run of `total` steps would build it, at base lr 1."""
    node = yaml.safe_load((CONF / f"{option}.yaml").read_text()) | changes
    function = getattr(scheduler, node.pop("_target_").rpartition(".")[2])
    pace = Pace(window=1, samples_per_epoch=per_epoch, total_steps=total)
    notes = inspect.get_annotations(function)
    for key, value in node.items():
        if any(word in notes[key] for word in ("Steps", "Period")) and value is not None:
            many = isinstance(value, list)
            node[key] = [to_steps(parse(v), pace) for v in value] if many else to_steps(parse(value), pace)
    offered = {"total_steps": total, "base_lr": 1.0, "maximize": True}
    return function(**node, **{k: v for k, v in offered.items() if k in notes})


# ---- against torch, value by value, at base lr 1


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize(("every", "gamma"), [(1, 0.5), (3, 0.1), (30, 0.9)])
def test_step_is_torchs(total: int, every: int, gamma: float) -> None:
    ours = scheduler.step(1.0, every, gamma, 0, 0.0, 0.0)
    theirs = torch_curve(lambda o: torch_schedulers.StepLR(o, every, gamma), total)
    assert_same(factors(ours, total), [lr for lr, _ in theirs])


@pytest.mark.parametrize("total", LENGTHS)
@pytest.mark.parametrize("at", [[2], [1, 2], [50, 75], [5, 5, 90]])
def test_multistep_is_torchs(total: int, at: list[int]) -> None:
    ours = scheduler.multistep(1.0, at, 0.1, 0, 0.0, 0.0)
    theirs = torch_curve(lambda o: torch_schedulers.MultiStepLR(o, at, 0.1), total)
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
@pytest.mark.parametrize(("first", "mult"), [(1, 1), (1, 2), (5, 1), (7, 3)])
@pytest.mark.parametrize("min_lr", [0.0, 0.05])
def test_cosine_restarts_are_torchs(total: int, first: int, mult: int, min_lr: float) -> None:
    ours = scheduler.cosine_restarts(1.0, first, mult, 0, 0.0, min_lr)
    make = torch_schedulers.CosineAnnealingWarmRestarts
    theirs = torch_curve(lambda o: make(o, first, mult, min_lr), total)
    assert_same(factors(ours, total), [lr for lr, _ in theirs])


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


@pytest.mark.parametrize(("total", "warmup"), [(3, 2), (7, 2), (7, 5), (100, 50), (1000, 5), (1000, 999)])
@pytest.mark.parametrize("start", [0.0, 0.1, 1.0])
def test_warmup_then_cosine_is_torchs_sequential(total: int, warmup: int, start: float) -> None:
    ours = scheduler.cosine(total, 1.0, warmup, start, 1e-3)

    def theirs(o: torch.optim.Optimizer) -> torch_schedulers.SequentialLR:
        first = start + (1 - start) / warmup  # of update 0; torch reaches 1 at total_iters
        rise = torch_schedulers.LinearLR(o, first, total_iters=warmup - 1)
        fall = torch_schedulers.CosineAnnealingLR(o, total - warmup, 1e-3)
        return torch_schedulers.SequentialLR(o, [rise, fall], [warmup])

    assert_same(factors(ours, total + 1), [lr for lr, _ in torch_curve(theirs, total + 1)])


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("patience", [0, 2])
@pytest.mark.parametrize("threshold", [0.0, 0.05])
@pytest.mark.parametrize("cooldown", [0, 3])
def test_plateau_is_torchs_on_random_metrics(
    maximize: bool, patience: int, threshold: float, cooldown: int
) -> None:
    draws = random.Random(0)
    ours = scheduler.plateau(1.0, maximize, 0.5, patience, threshold, cooldown, 0, 0.0, 0.01)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], 1.0)
    theirs = torch_schedulers.ReduceLROnPlateau(
        optimizer,
        "max" if maximize else "min",
        0.5,
        patience,
        threshold,
        cooldown=cooldown,
        min_lr=0.01,
        eps=0.0,
    )
    seen = []
    for update in range(100):
        metric = draws.uniform(0.5, 1.5)
        ours.observe(metric)
        theirs.step(metric)
        seen.append(optimizer.param_groups[0]["lr"])
        assert abs(ours(update)[0] - seen[-1]) <= 1e-12
    assert len(set(seen)) > 3  # it did come down


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


@pytest.mark.parametrize("start", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("warmup", [1, 2, 10])
def test_warmup_factor_is_n_plus_1_over_w_from_its_start(start: float, warmup: int) -> None:
    ours = scheduler.constant(warmup, start)
    rise = [start + (1 - start) * (n + 1) / warmup for n in range(warmup)]
    assert_same(factors(ours, warmup + 5), rise + [1.0] * 5)


# ---- warm-up and min_lr with every schedule

SHAPED = [option for option in OPTIONS if not option.startswith("warmup_") and option != "torch"]
FROM_THE_START = ("step", "multistep", "exponential", "cyclic")


@pytest.mark.parametrize("option", [option for option in SHAPED if option != "noam"])
def test_warmup_composes_with_every_schedule(option: str) -> None:
    """What follows the warm-up is the unwarmed schedule: over the rest, or counted from the start."""
    total, warmup, start = 100, 20, 0.2
    lengths = {"at": ["40step", "60step"], "every": "30step", "first": "10step"}
    lengths |= {"up": "10step", "down": "5step", "decay": "16step"}
    node = yaml.safe_load((CONF / f"{option}.yaml").read_text())
    changes = {key: value for key, value in lengths.items() if key in node}
    ours = from_yaml(option, total, **changes, warmup=f"{warmup}step", warmup_start=start)
    if option in FROM_THE_START:
        bare = from_yaml(option, total, **changes, warmup="0step")
        after = [bare(n)[0] for n in range(warmup, total)]
        first = [bare(n)[0] for n in range(warmup)]
    else:
        bare = from_yaml(option, total - warmup, **changes, warmup="0step")
        after = factors(bare, total - warmup)
        first = [bare(0)[0]] * warmup
    ramp = [start + (1 - start) * (n + 1) / warmup for n in range(warmup)]
    assert_same(factors(ours, total), [a * b for a, b in zip(first, ramp, strict=True)] + after)


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
    with pytest.raises(ConfigError, match=r"scheduler\.min_lr: is above the learning rate 1, got 2"):
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


@pytest.mark.parametrize("option", ["warmup_cosine", "warmup_linear", "warmup_constant", "wsd"])
def test_a_run_of_one_step_has_the_whole_learning_rate(option: str) -> None:
    assert factors(from_yaml(option, 1), 1) == [1.0]


def test_the_default_schedule_of_a_run_of_two_steps() -> None:
    """5 % of 2 steps, rounded up, is a warm-up of one; the cosine begins at the other."""
    assert factors(from_yaml("warmup_cosine", 2), 3) == [1.0, 1.0, 0.0]


def test_two_shares_of_a_run_may_meet_in_one_step() -> None:
    """80 % and 20 % of 3 steps are 3 and 1, rounded up."""
    assert factors(scheduler.wsd(3, 1.0, 3, "linear", 1, 0.0, 0.0), 4) == [1.0, 1.0, 0.5, 0.0]


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_a_warmup_longer_than_the_run_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match=r"scheduler\.warmup: takes 11 steps, the whole run only 10"):
        getattr(scheduler, name)(10, 1.0, 11, 0.0, 0.0)


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
    one = scheduler.one_cycle(10, 1.0, 0.3, 25.0, 1e4, None, None, 0, 0.0, 0.0)
    two = scheduler.cyclic(1.0, 5, None, "triangular", 1.0, 0.1, None, None, 0, 0.0, 0.0)
    assert {one(n)[1] for n in range(10)} | {two(n)[1] for n in range(10)} == {None}


def test_a_schedule_is_a_pure_function_of_the_update() -> None:
    for option in SHAPED:
        schedule = from_yaml(option, 50)
        forwards = factors(schedule, 50)
        assert [schedule(n)[0] for n in reversed(range(50))] == forwards[::-1], option


# ---- plateau's state


def plateau(maximize: bool = False, patience: int = 0, threshold: float = 1e-4) -> Plateau:
    return scheduler.plateau(1.0, maximize, 0.1, patience, threshold, 0, 0, 0.0, 0.0)


@pytest.mark.parametrize("metric", [math.nan, math.inf, -math.inf])
def test_plateau_ignores_what_is_not_finite(metric: float) -> None:
    one = plateau()
    one.observe(metric)
    assert one.best is None
    one.observe(1.0)
    for _ in range(10):
        one.observe(metric)
    assert one(0)[0] == 1.0
    one.observe(1.0)
    assert one(0)[0] == pytest.approx(0.1)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("metric", [-3.0, 0.0, 3.0])
def test_plateau_sees_that_a_constant_metric_stalls(maximize: bool, metric: float) -> None:
    one = plateau(maximize, patience=2, threshold=1e-4)
    for _ in range(3):
        one.observe(metric)
    assert one(0)[0] == 1.0
    one.observe(metric)
    assert one(0)[0] == pytest.approx(0.1)


def test_plateau_keeps_its_warmup() -> None:
    one = scheduler.plateau(1.0, False, 0.5, 0, 0.0, 0, 4, 0.0, 0.0)
    assert factors(one, 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_plateau_resumes_where_it_stood() -> None:
    draws = random.Random(1)
    metrics = [draws.random() for _ in range(60)]
    whole = scheduler.plateau(1.0, False, 0.9, 1, 1e-4, 2, 0, 0.0, 0.0)
    scales = []
    for metric in metrics:
        whole.observe(metric)
        scales.append(whole(0)[0])
    for cut in (1, 7, 30):
        first, second = (scheduler.plateau(1.0, False, 0.9, 1, 1e-4, 2, 0, 0.0, 0.0) for _ in range(2))
        for metric in metrics[:cut]:
            first.observe(metric)
        second.load_state_dict(through_a_file(first.state_dict()))
        for metric, wanted in zip(metrics[cut:], scales[cut:], strict=True):
            second.observe(metric)
            assert second(0)[0] == wanted


# ---- any torch scheduler

ADAPTED: list[tuple[str, dict[str, Any]]] = [
    ("StepLR", {"step_size": 3}),
    ("MultiStepLR", {"milestones": [2, 5], "gamma": 0.5}),
    ("ConstantLR", {"factor": 0.5, "total_iters": 4}),
    ("LinearLR", {"start_factor": 0.1, "total_iters": 8}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("PolynomialLR", {"total_iters": 15, "power": 2.0}),
    ("CosineAnnealingLR", {"T_max": 20, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.3, "step_size_up": 4, "mode": "triangular2"}),
    ("OneCycleLR", {"max_lr": 0.3, "total_steps": 20}),
]


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """Saved and loaded as a checkpoint is: without pickle's code."""
    file = BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize(("name", "arguments"), ADAPTED, ids=[name for name, _ in ADAPTED])
def test_the_adapter_gives_torchs_values(name: str, arguments: dict[str, Any]) -> None:
    ours = scheduler.from_torch(0.3, False, name, arguments)
    theirs = torch_curve(lambda o: getattr(torch_schedulers, name)(o, **arguments), 20, lr=0.3)
    for update, (lr, momentum) in enumerate(theirs):
        factor, sets = ours(update)
        assert 0.3 * factor == pytest.approx(lr, abs=1e-15)
        assert sets == (momentum if name in ("CyclicLR", "OneCycleLR") else None)


@pytest.mark.parametrize("cut", [0, 1, 7, 19])
@pytest.mark.parametrize(("name", "arguments"), ADAPTED, ids=[name for name, _ in ADAPTED])
def test_the_adapter_resumes_bit_for_bit(name: str, arguments: dict[str, Any], cut: int) -> None:
    whole = scheduler.from_torch(0.3, False, name, arguments)
    values = [whole(update) for update in range(20)]
    first, second = (scheduler.from_torch(0.3, False, name, arguments) for _ in range(2))
    for update in range(cut + 1):
        first(update)
    second.load_state_dict(through_a_file(first.state_dict()))
    assert [second(update) for update in range(cut, 20)] == values[cut:]


def test_the_adapter_repeats_the_rate_of_a_skipped_update() -> None:
    ours = scheduler.from_torch(1.0, False, "ExponentialLR", {"gamma": 0.5})
    assert [ours(n)[0] for n in (0, 0, 1, 1, 1, 2)] == [1.0, 1.0, 0.5, 0.5, 0.5, 0.25]


def test_the_adapter_cannot_go_back() -> None:
    ours = scheduler.from_torch(1.0, False, "StepLR", {"step_size": 3})
    ours(5)
    with pytest.raises(ValueError, match="cannot go back"):
        ours(4)


@pytest.mark.parametrize(("maximize", "metrics"), [(True, [0.5, 0.6, 0.7]), (False, [0.7, 0.6, 0.5])])
def test_torchs_plateau_knows_which_way_is_better(maximize: bool, metrics: list[float]) -> None:
    ours = scheduler.from_torch(1.0, maximize, "ReduceLROnPlateau", {"patience": 0, "factor": 0.5})
    for metric in [*metrics, math.nan]:
        ours.observe(metric)
    assert ours(3)[0] == 1.0
    ours.observe(metrics[0])
    assert ours(3)[0] == 0.5
    resumed = scheduler.from_torch(1.0, maximize, "ReduceLROnPlateau", {"patience": 0, "factor": 0.5})
    resumed.load_state_dict(through_a_file(ours.state_dict()))
    resumed.observe(metrics[0])
    assert resumed(4)[0] == 0.25


def test_the_adapter_takes_a_class_of_the_users_own() -> None:
    class Halving(torch_schedulers.LRScheduler):
        def get_lr(self) -> list[float]:  # type: ignore[override]
            return [base / (1 + self.last_epoch) for base in self.base_lrs]

    assert_same(factors(FromTorch(Halving, 1.0, False, {}), 5), [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("StepLr", {"step_size": 3}, "has no 'StepLr'; did you mean StepLR"),
        ("Zebra", {}, "one of .*CosineAnnealingLR.*StepLR"),
        ("LRScheduler", {}, "has no 'LRScheduler'"),
        ("Optimizer", {}, "has no 'Optimizer'"),
        ("StepLR", {}, "StepLR: .*step_size"),
        ("StepLR", {"step": 3}, "StepLR: .*'step'"),
        ("OneCycleLR", {"max_lr": 1.0}, "OneCycleLR: "),
    ],
)
def test_a_wrong_torch_scheduler_is_a_config_error(name: str, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        scheduler.from_torch(1.0, False, name, arguments)


def test_warmed_is_public_enough_to_make_your_own() -> None:
    ours = Warmed(lambda n: 1 / (1 + n), warmup=2, warmup_start=0.0, spans_rest=True)
    assert_same(factors(ours, 4), [0.5, 1.0, 1.0, 0.5])
