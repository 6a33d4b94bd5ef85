"""The optimizer's call: its learning rate, scaled where asked for, and its groups of parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from trainrun.config.build.maker import Maker
from trainrun.config.call import resolve
from trainrun.config.slots import SLOTS
from trainrun.errors import ConfigError
from trainrun.optimizer import needs_closure, scaled_lr


def lr_of(make: Maker, window: int) -> tuple[float, str]:
    """The learning rate for `window` samples a step, and the arithmetic it comes from."""
    node = make.settings["optimizer"]
    if "lr" not in node:
        lr = _own_lr(resolve(node["_target_"], "optimizer", SLOTS["optimizer"], make.trust, make.stored))
        return lr, f"{lr:g}, the optimizer's own"
    if "lr_scaling" not in node:
        return node["lr"], f"{node['lr']:g}"
    return scaled_lr(node["lr"], window, node["lr_scaling"], node["base_batch_size"])


def optimizer_over(make: Maker, params: list[dict[str, Any]], lr: float) -> Any:
    """The optimizer of these groups. Raises ConfigError for groups that it cannot take."""
    node = {k: v for k, v in make.settings["optimizer"].items() if k not in ("lr_scaling", "base_batch_size")}
    if "lr" in node:
        node["lr"] = lr
    if isinstance(node.get("betas"), list):
        node["betas"] = tuple(node["betas"])
    for group in params:
        group["base_lr"] = group["lr"]
    optimizer = make.at("optimizer", node, {"params": params})
    if needs_closure(optimizer) and len(optimizer.param_groups) > 1:
        raise ConfigError.one("optimizer", "L-BFGS takes one group of parameters")
    return optimizer


def _own_lr(optimizer: Callable[..., Any]) -> float:
    """The learning rate that an optimizer of no option has by default."""
    parameter = inspect.signature(optimizer).parameters.get("lr")
    return float(parameter.default) if parameter and isinstance(parameter.default, (int, float)) else 1.0
