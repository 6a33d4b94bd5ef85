"""A budget by the clock: how many steps its time will hold, planned from the pace and planned anew."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from trainrun import ranks
from trainrun.checkpoint.state import TrainState
from trainrun.protocols import ObservingSchedule, Schedule
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.events import Replanned

FAR = 1_000_000  # steps, while the pace is unknown: a schedule this long stands at its beginning
_WARM_STEPS = 5  # of a process: caches, threads and compilation make its first ones slow
_WARM_SHARE = 0.02  # of the budget; whichever comes first
_MOVED = 0.005  # a plan that moved by less stays: the schedule would change by what nobody sees
_ASK_EVERY_S = 0.1  # ranks meet for each reading of the clock; a run ends within this time of its budget


class ClockBudget:
    """Ends a run after `limit_s` seconds of training, over all its processes, evaluating and saving included.

    The schedule's place in its course follows the clock: from where it stands once this process knows
    its pace it goes to the end linearly in time, so that total steps = step / place. A resumed run
    goes on from its place, at whatever pace.
    """

    def __init__(self, limit_s: float, schedule_over: Callable[[int], Schedule]) -> None:
        self.limit_s, self.schedule_over = limit_s, schedule_over
        self._due = 0  # the step to ask at
        self._last = 0  # the step of the last call
        self._warm: tuple[int, float] | None = None  # (step, seconds) when this process was warm
        self._asked = (0, 0.0)  # the same when the clock was last read
        self._from: tuple[float, float] | None = None  # (seconds, place) that the plan goes on from

    def restore(self, state: TrainState) -> None:
        """Take up the stored plan; one for another budget is made from the share of time used."""
        total = state.total_steps
        if state.planned_s != self.limit_s:
            used = min(1.0, state.seconds / self.limit_s)
            total = round(state.step / used) if state.step and used else FAR
        state.planned_s = self.limit_s if total != FAR else 0.0
        self._plan(state, max(total, state.step))

    def replan(self, state: TrainState, seconds: Callable[[], float]) -> Replanned | None:
        """The new plan, where there is one. `seconds`: what the run will have used if it ends at this step.

        Asked after every step; it reads the clock a few times a second, and at the end at every step.
        """
        if state.step < self._last:  # a run that went back to an earlier checkpoint finds its pace anew
            self._due, self._warm, self._from = state.step, None, None
        self._last = state.step
        if state.step < self._due:
            return None
        used = ranks.broadcast_object(seconds())  # all ranks plan the same
        was_planned = self._from is not None
        total = self._total(state, used)
        is_first = not was_planned and self._from is not None
        moved = total == state.step or abs(total - state.total_steps) > _MOVED * state.total_steps
        if not moved and not is_first:
            return None
        state.planned_s = self.limit_s
        self._plan(state, total)
        return Replanned(step=state.step, total_steps=total, seconds=used, is_first=is_first)

    def _total(self, state: TrainState, used: float) -> int:
        """The steps of the whole run as they look now, and when to ask again."""
        step = state.step
        self._due = step + 1
        if used >= self.limit_s:
            return step
        if self._warm is None:
            self._warm = step, used
            return max(state.total_steps, step + 1)
        steps, seconds = step - self._warm[0], used - self._warm[1]
        if self._from is None:
            if steps < _WARM_STEPS and seconds < _WARM_SHARE * self.limit_s:
                return max(state.total_steps, step + 1)
            left = max(1, round((self.limit_s - used) * steps / seconds))
            total = max(state.total_steps, step + 1) if state.planned_s else step + left
            self._from, self._asked = (used, step / total), self._warm
        since, place = self._from
        place += (1 - place) * (used - since) / (self.limit_s - since)
        total = max(step + 1, round(step / place))
        recent = (used - self._asked[1]) / (step - self._asked[0])
        wait_s = min(_ASK_EVERY_S, (self.limit_s - used) / 2)
        self._due = step + max(1, min(int(wait_s / max(recent, seconds / steps)), total - step))
        self._asked = step, used
        return total

    def _plan(self, state: TrainState, total: int) -> None:
        """Plan the run over `total` steps. A schedule that a metric steers keeps what it has seen.

        Where no schedule of that length exists, for its warm-up alone is longer, the last one stays.
        """
        state.total_steps = total
        with suppress(ConfigError):
            schedule = self.schedule_over(max(total, 1))
            if isinstance(schedule, ObservingSchedule) and isinstance(state.schedule, ObservingSchedule):
                schedule.load_state_dict(state.schedule.state_dict())
            state.schedule = schedule
