"""Plan the numbers of `scheduler.also`, and find where the live parts keep them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer

from trainrun.assembly.factory import Factory, node_of
from trainrun.checkpoint.state import TrainState
from trainrun.config.call import annotation_of
from trainrun.config.scheduled_numbers import DROPOUT, OF_GROUPS, course_of
from trainrun.config.tree import value_at
from trainrun.config.values import complaint
from trainrun.protocols import ObservingSchedule
from trainrun.regularization.kinds import ModelChange, Stopper
from trainrun.scheduler.scheduled_numbers import Course, ScheduledNumbers
from trainrun.vocabulary.errors import ConfigError

if TYPE_CHECKING:
    from trainrun.assembly.build import Parts

Put = Callable[[float], None]

_MOMENTUM = {"optimizer.momentum", "optimizer.betas.0"}
_INSIDE = ("_modules", "options", "function", "arguments")  # where parts keep what they wrap


def _course(make: Factory, key: str, how: Any, total_steps: int) -> Course:
    to, by = course_of(how)
    path = f"scheduler.also.{key}"
    node = node_of("scheduler", by, path)
    node |= {name: None for name in ("momentum_high", "momentum_low") if name in node}
    node.pop("also", None)
    offered = {"total_steps": total_steps, "base_lr": 1.0, "maximize": True}
    schedule = make.at(f"{path}.by", node, offered)
    if isinstance(schedule, ObservingSchedule):
        raise ConfigError.of(path, f"cannot follow {node['_target_']}, which keeps state of its own")
    return Course(value_at(make.settings, key), to, schedule)


def scheduled_numbers(parts: Parts) -> ScheduledNumbers | None:
    """The numbers of a run that are on a schedule, None where there are none.

    Raises ConfigError for a number that its part does not keep, and for values out of its range.
    """
    make, state, total = parts.make, parts.state, parts.state.total_steps
    also = make.settings["scheduler"].get("also")
    if not also:
        return None

    def over(total_steps: int) -> dict[str, Course]:
        planned = make.over(replace(parts.pace, total_steps=total_steps))
        return {key: _course(planned, key, how, total_steps) for key, how in also.items()}

    if state.schedule(0)[1] is not None and (doubly := _MOMENTUM & also.keys()):
        fix = "use scheduler.momentum_high=null scheduler.momentum_low=null"
        raise ConfigError.of(f"scheduler.also.{min(doubly)}", f"is what the scheduler itself moves; {fix}")
    live = {f"regularization.{name}": part for name, part in parts.regularizers.items()}
    live |= {"optimizer": state.optimizer, "loss": getattr(parts.task, "loss", None), "loop.clip": parts.clip}
    put = {key: _put(key, value_at(make.settings, key), state, live) for key in also}
    for key, course in over(total).items():
        for update in (0, total // 2, total - 1):
            _check_range(make, key, course(update), update)
    return ScheduledNumbers(also, over, put)


def _check_range(make: Factory, key: str, value: float, update: int) -> None:
    """Raise ConfigError for a value that the setting itself could not have."""
    path, _, name = key.rpartition(".")
    given: Any = value
    if name.isdecimal():  # an entry of a list, such as betas.0
        given = list(value_at(make.settings, path))
        given[int(name)] = value
        path, _, name = path.rpartition(".")
    target = (value_at(make.settings, path) or {}).get("_target_")
    if target and (wrong := complaint(given, annotation_of(target, name))):
        raise ConfigError.of(f"scheduler.also.{key}", f"{wrong} at step {update + 1}")


def _put(key: str, start: float, state: TrainState, live: Mapping[str, Any]) -> Put:
    """What sets the number at `key`, which now is `start`."""
    path, _, name = key.rpartition(".")
    put = None
    if key in DROPOUT:
        put = _of_layers(state.model, start)
    elif key.split(".")[1] in OF_GROUPS and path.startswith("optimizer"):
        put = _of_groups(state.optimizer, key.split(".")[1], int(name) if name.isdecimal() else None, start)
    elif not isinstance(part := live.get(path), (ModelChange, Stopper)):
        kept = _kept_in(part, name, start)
        put = None if kept is None else lambda value: kept.__setitem__(name, value)
    if put is None:
        text = "is not read at each step by what is called there, so that a schedule would have no effect"
        raise ConfigError.of(f"scheduler.also.{key}", text)
    return put


def _of_groups(optimizer: Optimizer, name: str, index: int | None, start: float) -> Put | None:
    """Of each group that has it; one with a value of its own keeps its share, as of the learning rate."""
    before = [group.get(name) for group in optimizer.param_groups]

    def put(value: float) -> None:
        for group, own in zip(optimizer.param_groups, before, strict=True):
            if isinstance(own, tuple) and index is not None:
                group[name] = tuple(value if place == index else beta for place, beta in enumerate(own))
            elif own is not None:
                group[name] = value if own == start else own * value / start

    return put if any(own is not None for own in before) else None


def _of_layers(model: nn.Module, start: float) -> Put | None:
    """Of every layer that drops with the probability `start`."""
    layers = [
        (vars(layer), name)
        for layer in model.modules()
        for name in ("p", "dropout")
        if vars(layer).get(name) == start
    ]

    def put(value: float) -> None:
        for attributes, name in layers:
            attributes[name] = value

    return put if layers else None


def _kept_in(part: Any, name: str, start: float) -> dict[str, Any] | None:
    """The attributes or arguments in which a part, or what it wraps, keeps a number."""
    attributes = part if isinstance(part, dict) else getattr(part, "__dict__", {})
    if attributes.get(name) == start:
        return attributes
    inside = (_kept_in(attributes[inner], name, start) for inner in _INSIDE if inner in attributes)
    return next((kept for kept in inside if kept is not None), None)
