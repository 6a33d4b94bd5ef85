"""Optimizer and learning rates of a LightningModule's own `configure_optimizers`."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from trainrun.assembly.factory import Factory
from trainrun.assembly.schedule import Rates
from trainrun.optimizer.eager import skip_compiler_import
from trainrun.optimizer.own import configure_optimizers
from trainrun.scheduler.configured import Configured
from trainrun.task.lightning import plain_name
from trainrun.vocabulary.duration import Pace
from trainrun.vocabulary.errors import ConfigError


def configured(make: Factory, model: nn.Module, pace: Pace) -> tuple[Optimizer, Rates, str] | None:
    """(optimizer, learning rates, whose they are); None where the settings name another optimizer."""
    if make.callable_of("optimizer") is not configure_optimizers:
        return None
    skip_compiler_import()
    optimizer, entries = configure_optimizers(model)
    schedule = Configured(optimizer, entries, pace.steps_per_epoch)
    if schedule.monitor is not None:
        if schedule.monitor.startswith("train"):
            text = f"follows {schedule.monitor}; name a metric of validation_step"
            raise ConfigError.of("optimizer", f"own {text}")
        schedule.monitor = plain_name(schedule.monitor)
    for number, group in enumerate(optimizer.param_groups):
        group["base_lr"] = group["lr"] = float(group["lr"])
        group.setdefault("name", f"group {number}" if len(optimizer.param_groups) > 1 else "all")
    lr = optimizer.param_groups[0]["lr"]
    return optimizer, Rates(lr, lambda total_steps: schedule), f"{lr:g} of {type(optimizer).__name__}"
