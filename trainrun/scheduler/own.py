"""The user's own learning-rate schedule: a function of step, or of progress from 0 to 1, returns a factor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from trainrun.config.call import PlainFunction
from trainrun.protocols import ObservingSchedule
from trainrun.vocabulary.errors import ConfigError


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


def as_schedule(scheduler: Any, total_steps: int) -> Any:
    """Wrap a function as a schedule, tried at start and end; an ObservingSchedule stays as it is."""
    if isinstance(scheduler, ObservingSchedule):
        return scheduler
    schedule = OwnSchedule(scheduler, total_steps)
    for update in (0, total_steps - 1):
        schedule(update)
    return schedule
