"""Further numbers of the run on a schedule: weight decay, dropout, label smoothing, a loss's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trainrun.protocols import Schedule


@dataclass(frozen=True)
class Course:
    """A number's way from `start`, where the schedule's factor is 1, to `to`, where it is 0."""

    start: float
    to: float
    schedule: Schedule

    def __call__(self, update: int) -> float:
        factor = self.schedule(update)[0]
        return self.start * factor + self.to * (1 - factor)


class ScheduledNumbers:
    """Sets numbers before each step. Each is a function of the update alone, so nothing is stored.

    `also` names the numbers, `over` plans their courses for a run of any length, `put` sets them.
    """

    def __init__(
        self,
        also: dict[str, Any],
        over: Callable[[int], Mapping[str, Course]],
        put: Mapping[str, Callable[[float], None]],
    ) -> None:
        self.also, self.over, self.put = also, over, put
        self._total = 0
        self._courses: Mapping[str, Course] = {}

    def at(self, update: int, total_steps: int) -> dict[str, float]:
        """The value of each number at an update; a budget by the clock moves the run's end."""
        if total_steps != self._total:
            self._total, self._courses = total_steps, self.over(total_steps)
        return {key: course(update) for key, course in self._courses.items()}

    def set(self, update: int, total_steps: int) -> None:
        """Give the run's parts their values for this update."""
        for key, value in self.at(update, total_steps).items():
            self.put[key](value)
