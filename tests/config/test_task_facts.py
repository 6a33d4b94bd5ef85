"""What source says of the built-in tasks and losses is what the classes have."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import yaml

from trainrun.config.paths import CONF
from trainrun.config.task_facts import TASK_LOSSES, kind_of_target, loss_option, metric_modes, metrics_of

TASKS = sorted(set(TASK_LOSSES))
LOSSES = sorted(file.stem for file in (CONF / "loss").glob("*.yaml") if file.stem != "auto")


def target_of(group: str, option: str) -> str:
    settings = yaml.safe_load((CONF / group / f"{option}.yaml").read_text())
    return str(settings.get(group, settings)["_target_"])


def class_of(task: str) -> Any:
    module, _, name = target_of("task", task).rpartition(".")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_read_as_it_is(task: str) -> None:
    assert (kind_of_target(task),) == class_of(task).kinds
    assert class_of(task).metric_modes.items() <= metrics_of(target_of("task", task)).items()


def test_every_metric_has_one_direction_whatever_the_task() -> None:
    for task in TASKS:
        assert class_of(task).metric_modes.items() <= metric_modes().items()
    assert metric_modes()["top5"] == "max"  # which a task has only with six classes or more
    assert set(metric_modes().values()) == {"max", "min"}


def test_the_tasks_and_losses_are_those_of_conf() -> None:
    assert sorted(file.stem for file in (CONF / "task").glob("*.yaml") if file.stem != "auto") == TASKS
    assert {loss for losses in TASK_LOSSES.values() for loss in losses} == set(LOSSES)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_known_by_what_it_calls(loss: str) -> None:
    assert loss_option(target_of("loss", loss)) == loss


def test_what_is_not_built_in_has_no_facts() -> None:
    assert kind_of_target("auto") is None
    assert loss_option("my_package.MyLoss") is None
    assert metrics_of("my_package.MyTask") == {}
