"""The schedule's call, for a run of any length: a budget by the clock plans it again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from trainrun.config.build.maker import Maker
from trainrun.config.call import resolve
from trainrun.config.slots import SLOTS
from trainrun.duration import Pace
from trainrun.protocols import Schedule
from trainrun.scheduler import FromTorch


def schedule_over(make: Maker, pace: Pace, lr: float, maximize: bool) -> Callable[[int], Schedule]:
    """total steps -> the schedule planned over them; raises ConfigError where none is of that length."""
    node = make.settings["scheduler"]
    thing = resolve(node["_target_"], "scheduler", SLOTS["scheduler"], make.trust, make.stored)

    def over(total_steps: int) -> Schedule:
        offered: dict[str, Any] = {"total_steps": total_steps, "base_lr": lr, "maximize": maximize}
        if isinstance(thing, type) and issubclass(thing, LRScheduler):
            asked = {
                key: offered[value[1:]] if isinstance(value, str) and value[:1] == "@" else value
                for key, value in node.items()
                if key != "_target_"
            }
            return FromTorch(thing, lr, maximize, asked)
        schedule: Schedule = make.over(replace(pace, total_steps=total_steps))("scheduler", offered)
        return schedule

    return over
