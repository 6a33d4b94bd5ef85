"""A choice in the shell wins whole: nothing that was given to another option follows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from trainrun.config.compose.composer import Composer, Composition, store_experiment

Files = Callable[[Mapping[str, str]], None]
SGD = """# @package _global_
defaults:
  - override /optimizer: momentum
  - override /regularization: [ema, dropout]
optimizer: {lr: 0.5, momentum: 0.8}
regularization: {ema: {decay: 0.5}}
batch_size: 7
"""
HUBER = """# @package _global_
defaults:
  - override /data: diabetes
  - override /loss: huber
loss: {delta: 3.0}
"""


def compose(*words: str) -> Composition:
    return Composer().compose(list(words))


@cache
def plain(*words: str) -> dict[str, Any]:
    """Settings without an experiment, which no test's own files change."""
    return compose(*words).settings


@pytest.fixture
def experiments(folder: Path, files: Files) -> None:
    files({"conf/experiment/e.yaml": SGD, "conf/experiment/h.yaml": HUBER})


def test_an_experiments_values_hold_for_its_own_options(experiments: None) -> None:
    settings = compose("experiment=e").settings
    assert settings["optimizer"]["lr"] == 0.5
    assert settings["optimizer"]["momentum"] == 0.8


@pytest.mark.parametrize("order", [("experiment=e", "optimizer=adamw"), ("optimizer=adamw", "experiment=e")])
def test_another_option_does_not_inherit_them(experiments: None, order: tuple[str, str]) -> None:
    composed = compose(*order)
    assert composed.settings["optimizer"] == plain("optimizer=adamw")["optimizer"]
    assert composed.settings["batch_size"] == 7  # what the experiment says elsewhere stays
    (note,) = composed.notes
    assert "optimizer=adamw is yours" in note
    assert "optimizer=momentum are left out" in note


def test_values_of_the_shell_go_on_top(experiments: None) -> None:
    settings = compose("experiment=e", "optimizer=adamw", "optimizer.lr=0.01").settings
    expected = plain("optimizer=adamw")["optimizer"] | {"lr": 0.01}
    assert settings["optimizer"] == expected


def test_the_same_option_keeps_them(experiments: None) -> None:
    composed = compose("experiment=e", "optimizer=momentum")
    assert composed.settings["optimizer"]["lr"] == 0.5
    assert composed.notes == ()


def test_a_loss_leaves_the_others_arguments_behind(experiments: None) -> None:
    composed = compose("experiment=h", "loss=mse")
    assert composed.settings["loss"] == plain("data=diabetes")["loss"]
    assert len(composed.notes) == 1


def test_a_list_leaves_out_who_is_no_longer_in_it(experiments: None) -> None:
    settings = compose("experiment=e", "regularization=[dropout]").settings
    assert settings["regularization"] == plain("regularization=[dropout]")["regularization"]


def test_data_bring_their_task_loss_and_model() -> None:
    settings = compose("data=diabetes").settings
    assert settings["task"]["_target_"] == "trainrun.task.regression.Regression"
    assert settings["loss"]["_target_"] == "trainrun.loss.MSE"
    assert settings["model"]["_target_"] == "trainrun.model.mlp.MLP"


@pytest.mark.parametrize("words", [("data=diabetes", "loss=huber"), ("loss=huber", "data=diabetes")])
def test_an_explicit_choice_wins_over_what_data_bring(words: tuple[str, str]) -> None:
    assert compose(*words).settings["loss"]["_target_"] == "trainrun.loss.Huber"


def test_a_target_of_the_shell_wins_whole() -> None:
    composed = compose("optimizer._target_=torch.optim.SGD", "optimizer.lr=0.1", "optimizer.momentum=0.9")
    optimizer = composed.settings["optimizer"]
    extras = {key: optimizer.pop(key) for key in ("lr_scaling", "base_batch_size")}  # of every optimizer
    assert optimizer == {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}
    assert extras["lr_scaling"] == "none"
    assert composed.notes == ()  # nobody typed optimizer=adamw
    (note,) = compose("optimizer=adamw", "optimizer._target_=torch.optim.SGD", "optimizer.lr=0.1").notes
    assert "optimizer._target_ is yours" in note and "betas" in note and "optimizer=adamw" in note


def test_the_options_own_target_takes_nothing_away() -> None:
    composed = compose("optimizer._target_=trainrun.optimizer.adamw")
    assert composed.settings == plain()
    assert composed.notes == ()


def test_a_target_of_a_file_wins_whole(folder: Path, files: Files) -> None:
    files({"mine.yaml": "model: {_target_: my_model.Net, width: 3}\n"})
    composed = compose(store_experiment(Path("mine.yaml")))
    assert composed.settings["model"] == {"_target_": "my_model.Net", "width": 3}
    assert composed.notes == ()


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["scheduler=torch", "scheduler.arguments={T_max:100}"], "arguments", {"T_max": 100}),
        (["scheduler=torch", "scheduler.arguments.gamma=0.5"], "arguments", {"step_size": 100, "gamma": 0.5}),
        (
            ["scheduler=torch", "scheduler.arguments={T_max:1}", "scheduler.arguments.eta=2"],
            "arguments",
            {"T_max": 1, "eta": 2},
        ),
    ],
)
def test_a_mapping_replaces_and_a_key_adds(words: list[str], key: str, value: Any) -> None:
    assert compose(*words).settings["scheduler"][key] == value


def test_rules_of_parameters_are_whole_too(folder: Path, files: Files) -> None:
    files({"conf/experiment/r.yaml": "# @package _global_\nparameters: {rules: {'a*': {lr: 0.5}}}\n"})
    rules = compose("experiment=r", "parameters.rules={b*:{lr:0.1}}").settings["parameters"]["rules"]
    assert rules == {"b*": {"lr": 0.1}}


def test_arguments_of_a_call_are_merged() -> None:
    clip = compose("loop.clip={norm:2}").settings["loop"]["clip"]
    assert clip["norm"] == 2
    assert clip["_target_"] == "trainrun.loop.step.Clip"


def test_it_holds_in_sweeps(experiments: None) -> None:
    jobs = Composer().compose_sweep(["experiment=e", "optimizer=momentum,adamw"])
    assert [job.settings["optimizer"]["lr"] for job in jobs] == [
        0.5,
        plain("optimizer=adamw")["optimizer"]["lr"],
    ]
