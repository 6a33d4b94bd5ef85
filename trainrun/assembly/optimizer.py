"""Build the optimizer: learning rate, parameter groups, a wrapped optimizer, its own weight average."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainrun.assembly.factory import Factory, Settings, node_of
from trainrun.assembly.schedule import Rates
from trainrun.optimizer import ScheduleFreeAdamW, configure_optimizers, scaled_lr
from trainrun.optimizer.eager import skip_compiler_import
from trainrun.regularization.kinds import WeightAverage
from trainrun.regularization.schedule_free import ScheduleFreeAverage
from trainrun.scheduler.configured import Configured
from trainrun.task.lightning import plain_name
from trainrun.vocabulary.duration import Pace
from trainrun.vocabulary.errors import ConfigError


def lr_of(make: Factory, window: int) -> tuple[float, str]:
    """The learning rate for `window` samples a step, and the arithmetic it comes from."""
    node = make.settings["optimizer"]
    if "lr" not in node:
        own = inspect.signature(make.callable_of("optimizer")).parameters.get("lr")
        lr = float(own.default) if own and isinstance(own.default, (int, float)) else 1.0
        return lr, f"{lr:g}, the optimizer's own"
    if "lr_scaling" not in node:
        return node["lr"], f"{node['lr']:g}"
    return scaled_lr(node["lr"], window, node["lr_scaling"], node["base_batch_size"])


def optimizer_over(make: Factory, model: nn.Module, params: list[dict[str, Any]], lr: float) -> Any:
    """The optimizer of the groups `params`, each of which learns the rate that it began with.

    Raises ConfigError for groups that it cannot take.
    """
    node = _arguments(make.settings["optimizer"])
    if "lr" in node:
        node["lr"] = lr
    for group in params:
        group["base_lr"] = group["lr"]
    if "base" in node and node["_target_"].startswith("trainrun."):
        node["base"] = _inner_optimizer(make, model, "optimizer.base", node["base"])
    if node["_target_"] == "trainrun.optimizer.per_module":
        node["modules"] = {
            name: _inner_optimizer(make, model, f"optimizer.modules.{name}", wanted)
            for name, wanted in node["modules"].items()
        }
    skip_compiler_import()
    optimizer = make.at("optimizer", node, {"params": params, "model": model})
    if isinstance(optimizer, torch.optim.LBFGS):
        # It views gradients as vectors, and these lie as their weights do.
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.data = parameter.data.contiguous()
    return optimizer


def configured(make: Factory, model: nn.Module, pace: Pace) -> tuple[Any, Rates, str] | None:
    """(optimizer, rates, whose they are) of a module's configure_optimizers; None unless settings say so."""
    if make.callable_of("optimizer") is not configure_optimizers:
        return None
    skip_compiler_import()
    optimizer, entries = configure_optimizers(model)
    schedule, lr = Configured(optimizer, entries, pace.steps_per_epoch), optimizer.param_groups[0]["lr"]
    schedule.refuse_short(pace.total_steps)
    if schedule.monitor and not schedule.monitor.startswith("train"):
        schedule.monitor = plain_name(schedule.monitor)
    return optimizer, Rates(lr, lambda total_steps: schedule), f"{lr:g} of {type(optimizer).__name__}"


def _inner_optimizer(
    make: Factory, model: nn.Module, path: str, wanted: Any
) -> Callable[[Any, float, float], Any]:
    """(params, lr, weight_decay) -> the optimizer that another one wraps."""
    node = _arguments(node_of("optimizer", wanted, path))

    def inner(params: Any, lr: float, weight_decay: float) -> Any:
        shared = {"lr": lr} | ({"weight_decay": weight_decay} if "weight_decay" in node else {})
        return make.at(path, {**node, **shared}, {"params": params, "model": model})

    return inner


def _arguments(node: Settings) -> dict[str, Any]:
    """The call, without what scales the learning rate."""
    arguments = {k: v for k, v in node.items() if k not in ("lr_scaling", "base_batch_size")}
    betas = arguments.get("betas")
    return arguments | ({"betas": tuple(map(float, betas))} if isinstance(betas, list) else {})


def weight_average_of(weight_average: WeightAverage | None, optimizer: Any) -> WeightAverage | None:
    """The one average of the weights: the regulariser's, or the optimizer's own."""
    if not isinstance(optimizer, ScheduleFreeAdamW):
        return weight_average
    if weight_average is not None:
        text = f"{weight_average.name} is one average of the weights, and schedule_free keeps its own"
        raise ConfigError.of("regularization", text)
    return ScheduleFreeAverage(optimizer)
