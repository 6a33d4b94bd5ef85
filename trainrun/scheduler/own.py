"""Schedules of a module each, of the user's function of step or progress, of torch.optim.lr_scheduler."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from trainrun.config.call import PlainFunction
from trainrun.config.suggest import did_you_mean
from trainrun.protocols import ObservingSchedule, Schedule
from trainrun.vocabulary.errors import ConfigError

# State of ReduceLROnPlateau that comes from the metrics it observed.
_OBSERVED = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


class OwnSchedule:
    """A schedule from a function that returns the learning rate's factor, or (factor, momentum)."""

    def __init__(self, function: Callable[[float], Any], total_steps: int) -> None:
        self.function, self.total_steps = function, total_steps
        self.is_of_progress = isinstance(function, PlainFunction) and function.needs == ("progress",)

    def __call__(self, update: int) -> tuple[float, float | None]:
        result = self.function(update / self.total_steps if self.is_of_progress else update)
        factor, momentum = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
        try:
            number = float(factor)
            if not (math.isfinite(number) and number >= 0):
                raise ValueError
        except (TypeError, ValueError):
            name = getattr(self.function, "__name__", type(self.function).__name__)
            got = "None; does it lack a return?" if result is None else repr(result)
            text = f"{name} must return the learning rate's factor, such as 0.5, got {got}"
            raise ConfigError.of("scheduler", f"{text} at step {update}") from None
        return number, None if momentum is None else float(momentum)


@dataclass(frozen=True)
class ModuleSchedules:
    """`modules` have a schedule each; where one learning rate is shown it is the first's."""

    modules: Mapping[str, Schedule]

    def __call__(self, update: int) -> tuple[float, float | None]:
        return next(iter(self.modules.values()))(update)


def per_module(modules: dict[str, Schedule]) -> ModuleSchedules:
    """A schedule for each module that optimizer=per_module names."""
    return ModuleSchedules(modules)


def as_schedule(scheduler: Any, total_steps: int) -> Any:
    """Wrap a function as a schedule, tried at start and end; an ObservingSchedule stays as it is."""
    if isinstance(scheduler, ObservingSchedule):
        return scheduler
    schedule = OwnSchedule(scheduler, total_steps)
    schedule(0)
    schedule(total_steps - 1)
    return schedule


class FromTorch:
    """A schedule that steps a class of `torch.optim.lr_scheduler` on a stand-in optimizer.

    Its state is that of the torch scheduler and the call that created it. ReduceLROnPlateau follows
    the monitored metric, in the direction of `maximize` unless a mode is given.
    """

    def __init__(
        self, target: type[LRScheduler], base_lr: float, maximize: bool, arguments: Mapping[str, Any]
    ) -> None:
        parameter = torch.nn.Parameter(torch.zeros(()))
        self.optimizer = torch.optim.SGD([parameter], base_lr, momentum=0.9, foreach=False)
        self.needs_metric = issubclass(target, lr_scheduler.ReduceLROnPlateau)
        if self.needs_metric:
            arguments = {"mode": "max" if maximize else "min", **arguments}
        try:
            self.scheduler = target(self.optimizer, **arguments)
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError.of("scheduler", f"{target.__name__}: {error}") from None
        self.optimizer.step()  # torch warns where a scheduler steps before its optimizer
        self.base_lr, self.update = base_lr, 0
        name = f"{target.__module__}.{target.__qualname__}"
        self.call = {"name": name, "base_lr": base_lr, "arguments": dict(arguments)}
        self.sets_momentum = getattr(self.scheduler, "cycle_momentum", False)

    def __call__(self, update: int) -> tuple[float, float | None]:
        if update < self.update:
            raise ValueError(f"a torch scheduler cannot go back from update {self.update} to {update}")
        while self.update < update:
            if not self.needs_metric:
                self.scheduler.step()
            self.update += 1
        group = self.optimizer.param_groups[0]
        return float(group["lr"]) / self.base_lr, float(group["momentum"]) if self.sets_momentum else None

    def observe(self, metric: float) -> None:
        if self.needs_metric and math.isfinite(metric):
            self.scheduler.step(metric)  # type: ignore[arg-type]  # ReduceLROnPlateau takes a metric

    def state_dict(self) -> dict[str, Any]:
        group = {key: value for key, value in self.optimizer.param_groups[0].items() if key != "params"}
        state = {"call": self.call, "at": self.update, "scheduler": self.scheduler.state_dict()}
        return state | {"group": group}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of the same call; replay another, but for metrics that it observed."""
        group, before = self.optimizer.param_groups[0], state["call"]
        if before == self.call:
            self.update = state["at"]
            self.scheduler.load_state_dict(state["scheduler"])
            group.update(state["group"])
            return
        self(state["at"])
        if self.needs_metric and before["name"] == self.call["name"]:
            self.scheduler.load_state_dict({key: state["scheduler"][key] for key in _OBSERVED})
            group["lr"] = state["group"]["lr"] * self.base_lr / before["base_lr"]


def from_torch(base_lr: float, maximize: bool, name: str, arguments: dict[str, Any]) -> FromTorch:
    """The class `name` of `torch.optim.lr_scheduler`, called with `arguments`."""
    classes = {
        name: thing
        for name, thing in vars(lr_scheduler).items()
        if isinstance(thing, type) and issubclass(thing, LRScheduler) and not name.endswith("LRScheduler")
    }
    if name not in classes:
        hint = did_you_mean(name, classes) or f"; one of {', '.join(sorted(classes))}"
        raise ConfigError.of("scheduler.name", f"torch.optim.lr_scheduler has no {name!r}{hint}")
    return FromTorch(classes[name], base_lr, maximize, arguments)
