"""The schedule's call for a run of any length, and the learning rates that it comes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from trainrun.assembly.factory import Factory, node_of
from trainrun.checkpoint.state import TrainState
from trainrun.protocols import ObservingSchedule, Schedule
from trainrun.scheduler import FromTorch
from trainrun.scheduler.configured import Configured
from trainrun.vocabulary.duration import Pace
from trainrun.vocabulary.errors import ConfigError

LRPreview = list[tuple[int, float]]  # (step, learning rate)


@dataclass(frozen=True)
class Rates:
    """The learning rate that settings plan: `lr` times the factor of the schedule `over` total steps.

    `over` raises ConfigError where there is no schedule of that length.
    """

    lr: float
    over: Callable[[int], Schedule]

    def course(self, state: TrainState, memory: Mapping[str, Any]) -> LRPreview:
        """From the next step to the last of `state`, at 0, 25, 50, 75 and 100 % of what remains.

        Where nothing does, the last rate that there was. `memory` is a stored schedule. Of one that
        follows a metric, or is torch's, only the next rate is known.
        """
        last = state.total_steps
        first, schedule = min(state.step + 1, last), self.over(max(last, 1))
        shares = (0, 0.25, 0.5, 0.75, 1) if first < last else (0,)
        steps = [first + round(share * (last - first)) for share in shares]
        if isinstance(schedule, Configured):
            return [(first, state.optimizer.param_groups[0]["lr"])]
        if isinstance(schedule, ObservingSchedule):
            if memory["kind"] == type(schedule).__name__:
                schedule.load_state_dict(memory["state"])
            return [(first, self.lr * schedule(state.applied)[0])]
        skipped = state.step - state.applied  # steps that were skipped do not count for the schedule
        return [(step, self.lr * schedule(max(0, step - 1 - skipped))[0]) for step in steps]


def refuse_early_drops(schedule: Schedule) -> None:
    """Raises ConfigError for a schedule that goes down before its warm-up has come to the top."""
    warmup, drops = getattr(schedule, "warmup", 0), getattr(schedule, "drops", ())
    if early := [drop for drop in drops if drop < warmup]:
        text = f"of {warmup} steps is still rising when the schedule drops, after step {early[0]}"
        raise ConfigError.of("scheduler.warmup", f"{text}; shorten it, or drop later", "scheduler.warmup=5%")


def schedule_over(make: Factory, pace: Pace, lr: float, maximize: bool) -> Callable[[int], Schedule]:
    """total steps -> the schedule planned over them; raises ConfigError where none is of that length."""
    thing = make.callable_of("scheduler")
    call = {key: value for key, value in make.settings["scheduler"].items() if key != "also"}

    def over(total_steps: int) -> Schedule:
        offered: dict[str, Any] = {"total_steps": total_steps, "base_lr": lr, "maximize": maximize}
        if isinstance(thing, type) and issubclass(thing, LRScheduler):
            node = {key: value for key, value in call.items() if key != "_target_"}
            asked = {key: offered[v[1:]] if str(v)[:1] == "@" else v for key, v in node.items()}
            return FromTorch(thing, lr, maximize, asked)
        planned = make.over(replace(pace, total_steps=total_steps))
        node = dict(call)
        for name, wanted in call.get("modules", {}).items():
            path = f"scheduler.modules.{name}"
            own = {key: value for key, value in node_of("scheduler", wanted, path).items() if key != "also"}
            node["modules"] = node["modules"] | {name: planned.at(path, own, offered)}
        schedule: Schedule = planned.at("scheduler", node, offered)
        return schedule

    return over
