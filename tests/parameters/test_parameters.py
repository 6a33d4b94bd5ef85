"""Which parameter is trained how: rules by pattern, groups, and what weight decay spares."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from trainrun.parameters import ParamConfig, Parameters
from trainrun.vocabulary.errors import ConfigError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.ReLU(), nn.Linear(3, 3, bias=False))
        self.head = nn.Linear(3, 2)


Rules = dict[str, dict[str, Any]]


def table(
    rules: Rules | None = None, decay_norm_and_bias: bool = False, weight_decay: float | None = 0.1
) -> dict[str, ParamConfig]:
    configs = Parameters(decay_norm_and_bias, 1.0, rules or {}, None, None).param_configs(Net(), weight_decay)
    return {config.name: config for config in configs}


NAMES = ["body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias", "body.3.weight"]
NAMES += ["head.weight", "head.bias"]
MATRICES = ("body.0.weight", "body.3.weight", "head.weight")


def test_every_parameter_has_one_entry_in_the_models_order() -> None:
    configs = Parameters(False, 1.0, {}, None, None).param_configs(Net(), 0.1)
    assert [config.name for config in configs] == NAMES
    assert [config.shape for config in configs] == [(3, 4), (3,), (3,), (3,), (3, 3), (2, 3), (2,)]


def test_norms_and_biases_are_not_decayed() -> None:
    decays = {name: config.weight_decay for name, config in table().items()}
    assert decays == {name: 0.1 if name in MATRICES else 0.0 for name in NAMES}


@pytest.mark.parametrize(
    "model",
    [
        nn.LayerNorm([4, 4]),
        nn.RMSNorm([4, 4]),
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm1d(4, affine=True),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_norm_is_not_decayed_whatever_its_shape(model: nn.Module) -> None:
    for whole in (model, nn.Sequential(nn.Identity(), model)):
        configs = Parameters(False, 1.0, {}, None, None).param_configs(whole, 0.1)
        assert configs and {config.weight_decay for config in configs} == {0.0}


def test_the_biases_of_recurrent_layers_are_not_decayed() -> None:
    configs = Parameters(False, 1.0, {}, None, None).param_configs(nn.LSTM(3, 4), 0.1)
    assert {config.name: config.weight_decay for config in configs} == {
        "weight_ih_l0": 0.1,
        "weight_hh_l0": 0.1,
        "bias_ih_l0": 0.0,
        "bias_hh_l0": 0.0,
    }


def test_one_flag_decays_norms_and_biases_too() -> None:
    assert {config.weight_decay for config in table(decay_norm_and_bias=True).values()} == {0.1}


def test_without_decay_in_the_optimizer_there_is_none_in_the_table() -> None:
    assert {config.weight_decay for config in table(weight_decay=None).values()} == {None}


@pytest.mark.parametrize(
    ("pattern", "hit"),
    [
        ("head*", ["head.weight", "head.bias"]),
        ("*.bias", ["body.0.bias", "body.1.bias", "head.bias"]),
        ("body.[01].weight", ["body.0.weight", "body.1.weight"]),
        ("body.?.weight", ["body.0.weight", "body.1.weight", "body.3.weight"]),
        ("head.weight", ["head.weight"]),
        ("*", NAMES),
    ],
)
def test_a_pattern_matches_whole_names(pattern: str, hit: list[str]) -> None:
    assert [n for n, config in table({pattern: {"lr": 0.5}}).items() if config.lr_factor == 0.5] == hit


def test_later_rules_win_setting_by_setting() -> None:
    configs = table(
        {
            "*": {"lr": 0.1, "weight_decay": 0.5, "init": "zeros"},
            "head*": {"lr": 2.0},
            "*.bias": {"weight_decay": 0.3, "freeze": True},
            "head.bias": {"freeze": False},
        }
    )
    said = {
        n: (config.lr_factor, config.weight_decay, config.frozen, config.init)
        for n, config in configs.items()
    }
    assert said["body.0.weight"] == (0.1, 0.5, False, "zeros")
    assert said["body.1.weight"] == (0.1, 0.5, False, None)  # a rule outweighs the flag
    assert said["body.0.bias"] == (0.1, 0.3, True, None)
    assert said["head.weight"] == (2.0, 0.5, False, "zeros")
    assert said["head.bias"] == (2.0, 0.3, False, None)


@pytest.mark.parametrize(
    ("pattern", "hit"),
    [
        ("head*", ["head.weight"]),  # its bias is left to the run's init
        ("*", ["body.0.weight", "body.3.weight", "head.weight"]),
        ("*.bias", ["body.0.bias", "body.1.bias", "head.bias"]),
        ("body.1.weight", ["body.1.weight"]),
    ],
)
def test_an_init_is_for_matrices_and_for_vectors_named_alone(pattern: str, hit: list[str]) -> None:
    assert [name for name, config in table({pattern: {"init": "zeros"}}).items() if config.init] == hit


@pytest.mark.parametrize(
    ("pattern", "nearest"),
    [
        ("haed*", "head"),
        ("head.wieght", "head.weight"),
        ("*.bais", "bias"),
        ("bdoy.0*", "body.0"),
    ],
)
def test_a_pattern_that_matches_nothing_names_the_nearest(pattern: str, nearest: str) -> None:
    said = f"parameters.rules.{pattern}: matches no parameter; nearest is {nearest}"
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        table({pattern: {"lr": 0.5}})


def test_all_idle_patterns_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        table({"x*": {"lr": 1.0}, "head*": {"lr": 1.0}, "y*": {"freeze": True}})
    assert [problem.key for problem in caught.value.problems] == [
        "parameters.rules.x*",
        "parameters.rules.y*",
    ]


@pytest.mark.parametrize(
    "rules", [{"*": {"freeze": True}}, {"body*": {"freeze": True}, "h*": {"freeze": True}}]
)
def test_freezing_everything_is_an_error(rules: Rules) -> None:
    with pytest.raises(ConfigError, match="nothing is left to train"):
        table(rules)


def test_what_the_model_froze_itself_stays_frozen_unless_a_rule_thaws_it() -> None:
    for rules, frozen in ({}, True), ({"head*": {"freeze": False}}, False):
        model = Net()
        model.head.requires_grad_(False)
        parameters = Parameters(False, 1.0, rules, None, None)  # type: ignore[arg-type]
        param_configs = parameters.param_configs(model, 0.1)
        assert [config.frozen for config in param_configs] == [False] * 5 + [frozen] * 2
        parameters.groups(model, param_configs, 0.1)
        assert model.head.weight.requires_grad is not frozen


def test_groups_feed_an_optimizer() -> None:
    model = Net()
    rules: Rules = {"head*": {"lr": 0.5}, "body.0*": {"freeze": True}}
    parameters = Parameters(False, 1.0, rules, None, None)
    groups = parameters.groups(model, parameters.param_configs(model, 0.1), 0.2)
    optimizer = torch.optim.SGD(groups, lr=123.0)
    rows = {
        name: (group["lr"], group["weight_decay"])
        for name, parameter in model.named_parameters()
        for group in optimizer.param_groups
        if any(parameter is other for other in group["params"])
    }
    assert rows == {
        "body.1.weight": (0.2, 0.0),
        "body.1.bias": (0.2, 0.0),
        "body.3.weight": (0.2, 0.1),
        "head.weight": (0.1, 0.1),
        "head.bias": (0.1, 0.0),
    }
    assert [len(group["params"]) for group in groups] == [2, 1, 1, 1]
    assert [group["name"] for group in groups] == [
        "decay 0",
        "decay 0.1",
        "lr x 0.5, decay 0.1",
        "lr x 0.5, decay 0",
    ]


def test_a_step_moves_what_is_trained_at_its_own_rate_and_nothing_frozen() -> None:
    model = Net()
    parameters = Parameters(False, 1.0, {"head*": {"lr": 0.5}, "body.0*": {"freeze": True}}, None, None)
    groups = parameters.groups(model, parameters.param_configs(model, 0.1), 0.2)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(groups, lr=123.0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    wanted = {"head.weight": (0.1, 0.1), "head.bias": (0.1, 0.0), "body.0.weight": (0.0, 0.0)}
    wanted |= {"body.1.weight": (0.2, 0.0), "body.1.bias": (0.2, 0.0), "body.3.weight": (0.2, 0.1)}
    wanted["body.0.bias"] = (0.0, 0.0)
    for name, parameter in model.named_parameters():
        lr, decay = wanted[name]
        torch.testing.assert_close(parameter.detach(), before[name] - lr * (1 + decay * before[name]))


def test_one_group_where_nothing_differs() -> None:
    model = Net()
    parameters = Parameters(False, 1.0, {}, None, None)
    (group,) = parameters.groups(model, parameters.param_configs(model, None), 0.1)
    assert group["name"] == "all" and len(group["params"]) == 7 and "weight_decay" not in group


def test_factors_that_print_alike_are_still_two_groups() -> None:
    model = Net()
    parameters = Parameters(True, 1.0, {"body*": {"lr": 0.12345671}, "head*": {"lr": 0.12345672}}, None, None)
    groups = parameters.groups(model, parameters.param_configs(model, 0.1), 1.0)
    assert [group["lr"] for group in groups] == [0.12345671, 0.12345672]


def test_a_shared_weight_is_trained_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    parameters = Parameters(False, 1.0, {}, None, None)
    (group,) = parameters.groups(model, parameters.param_configs(model, 0.1), 0.1)
    assert len(group["params"]) == 1


class Deep(nn.Module):
    """An embedding, two blocks and a head, with norms between."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 3)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"norm": nn.LayerNorm(3), "up": nn.Linear(3, 5), "down": nn.Linear(5, 3)})
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(3)
        self.head = nn.Linear(3, 2)


def test_layer_decay_lowers_the_rate_with_the_distance_from_the_output() -> None:
    decayed = Parameters(False, 0.5, {"blocks.0.up.*": {"lr": 2.0}}, None, None).param_configs(Deep(), None)
    factors = {config.name: config.lr_factor for config in decayed}
    assert factors.pop("blocks.0.up.weight") == factors.pop("blocks.0.up.bias") == 2.0
    wanted = {"embedding": 0.125, "blocks.0": 0.25, "blocks.1": 0.5, "norm": 0.5, "head": 1.0}
    for name, factor in factors.items():
        assert factor == next(value for layer, value in wanted.items() if name.startswith(layer)), name


def test_layer_decay_reaches_the_optimizers_groups() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    rules = Parameters(True, 0.1, {}, None, None)
    groups = rules.groups(model, rules.param_configs(model, None), 0.5)
    assert [group["lr"] for group in groups] == pytest.approx([0.005, 0.05, 0.5])
    assert [len(group["params"]) for group in groups] == [2, 4, 2]
