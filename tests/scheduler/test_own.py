"""Schedules from elsewhere: own functions, tried before training, and torch's classes with their state."""

from __future__ import annotations

import math
from typing import Any

import pytest
from curves import assert_same, factors, through_a_file, torch_curve
from torch.optim import lr_scheduler as torch_schedulers

from trainrun import scheduler
from trainrun.assembly.build import build
from trainrun.config.call import PlainFunction
from trainrun.config.compose.composer import Composer
from trainrun.loop.step import set_learning_rates
from trainrun.scheduler import FromTorch
from trainrun.scheduler.own import as_schedule
from trainrun.vocabulary.errors import ConfigError


def _plain(function: Any, *needs: str) -> PlainFunction:
    return PlainFunction(function, {}, needs, "scheduler")


def test_a_function_gives_the_factor_or_that_and_the_momentum() -> None:
    assert as_schedule(_plain(lambda step: 1 / (step + 1), "step"), 10)(3) == (0.25, None)
    assert as_schedule(_plain(lambda progress: 1 - progress, "progress"), 10)(5) == (0.5, None)
    assert as_schedule(lambda update: (0.5, 0.9), 10)(3) == (0.5, 0.9)


@pytest.mark.parametrize("returned", [None, "x", -0.1, float("nan"), [1, 2, 3]])
def test_what_is_no_factor_is_refused_before_training(returned: Any) -> None:
    with pytest.raises(ConfigError, match="learning rate's factor"):
        as_schedule(lambda step: returned if step == 9 else 1.0, 10)


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


CHANGED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an argument": ({"arguments": {"step_size": 3}}, {"arguments": {"step_size": 4, "gamma": 0.5}}),
    "the class": ({}, {"name": "ExponentialLR", "arguments": {"gamma": 0.9}}),
    "the learning rate": ({}, {"base_lr": 0.06}),
    "from a plateau": ({"name": "ReduceLROnPlateau", "arguments": {}}, {}),
    "the length": (
        {"name": "OneCycleLR", "arguments": {"max_lr": 0.3, "total_steps": 12}},
        {"name": "OneCycleLR", "arguments": {"max_lr": 0.3, "total_steps": 20}},
    ),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_changed_call_takes_effect_on_resume(what: str) -> None:
    """From there on the values are those of a run that had the new call from the start."""
    common: dict[str, Any] = {
        "base_lr": 0.3,
        "maximize": False,
        "name": "StepLR",
        "arguments": {"step_size": 3},
    }
    then, now = (common | change for change in CHANGED[what])
    first, second = scheduler.from_torch(**then), scheduler.from_torch(**now)
    for update in range(8):
        first(update)
    second.load_state_dict(through_a_file(first.state_dict()))
    theirs = torch_curve(
        lambda o: getattr(torch_schedulers, now["name"])(o, **now["arguments"]), 20, now["base_lr"]
    )
    ours = [now["base_lr"] * second(update)[0] for update in range(7, 20)]
    assert_same(ours, [lr for lr, _ in theirs[7:]])
    third = scheduler.from_torch(**now)  # and the new call is what the next checkpoint stores
    third.load_state_dict(through_a_file(second.state_dict()))
    assert third(19) == second(19)


def test_a_changed_call_that_ends_too_early_is_said_in_torchs_words() -> None:
    first = scheduler.from_torch(0.3, False, "OneCycleLR", {"max_lr": 0.3, "total_steps": 20})
    first(15)
    second = scheduler.from_torch(0.3, False, "OneCycleLR", {"max_lr": 0.3, "total_steps": 10})
    with pytest.raises(ValueError, match="Tried to step 11 times"):
        second.load_state_dict(first.state_dict())


def test_torchs_plateau_keeps_what_it_saw_when_its_call_changes() -> None:
    first = scheduler.from_torch(1.0, False, "ReduceLROnPlateau", {"patience": 1, "factor": 0.5})
    for metric in (3.0, 3.0, 3.0, 3.0):  # one drop, and one more that counts towards the next
        first.observe(metric)
    assert first(4)[0] == 0.5
    changed = {"patience": 1, "factor": 0.1, "min_lr": 0.04}
    second = scheduler.from_torch(2.0, False, "ReduceLROnPlateau", changed)
    second.load_state_dict(through_a_file(first.state_dict()))
    assert second(4)[0] == 0.5  # of the new learning rate
    second.observe(3.0)  # not better than the best that was seen, and one too many
    assert second(5)[0] == pytest.approx(0.05)
    for _ in range(4):
        second.observe(3.0)
    assert second(6)[0] == pytest.approx(0.02)  # the new min_lr


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


def test_each_module_has_its_own_schedule() -> None:
    words = ["model=mlp", "budget=10step", "optimizer=per_module", "optimizer.lr=0.1", "scheduler=per_module"]
    words += ["optimizer.modules={body: adam, head: {nesterov: {momentum: 0.8}}}"]
    words += ["parameters.rules={head.*: {lr: 3}}"]
    words += ["scheduler.modules={body: {linear: {warmup: 2step}}, head: {step: {every: 30%, gamma: 0.5}}}"]
    state = build(Composer().checked(words).settings).state
    body, head = state.optimizer.param_groups
    assert (body["name"], body["betas"], head["name"], head["momentum"]) == (
        "body",
        (0.9, 0.999),
        "head",
        0.8,
    )
    for update in range(10):
        state.applied = update
        set_learning_rates(state)
        assert body["lr"] == pytest.approx(0.1 * ((update + 1) / 2 if update < 2 else 1 - (update - 2) / 8))
        assert head["lr"] == pytest.approx(0.3 * 0.5 ** (update // 3))
