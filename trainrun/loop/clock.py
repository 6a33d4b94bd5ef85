"""Wall time of one process of a run by what it went into, and the verdict that it waits for its data."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from trainrun.checkpoint.state import TrainState
from trainrun.protocols import Data, Window
from trainrun.vocabulary.events import Event

PARTS = ("data", "evaluation", "save", "logging", "profiling")  # of a run's time; the rest are its steps
PROGRESS_EVERY_S = 0.2  # as fast as an eye follows a number
STARVED, STARVED_S = 0.3, 5.0  # share of the steps' time, and seconds, of waiting: less is not worth a change


class Clock:
    """Wall time of one process of a run: for people and for timing.jsonl, never for arithmetic."""

    def __init__(self, state: TrainState) -> None:
        self.before, self.began = state.seconds, time.perf_counter()
        self.by_part_before = dict(state.seconds_by_part)
        self.spent, self.part_now, self.since = defaultdict[str, float](float), "steps", self.began
        self.last_progress = self.began
        self.evaluation_s = 0.0  # what the last evaluation took
        self.stepping = 0.0  # seconds from the fetch to the end of each step
        self.log_began = (state.samples, 0.0, 0.0)  # samples, seconds of data, and of steps until then
        self.first_ended: tuple[int, float, float] | None = None  # of the log windows, which starts loaders
        self.has_warned = False

    def restart(self, state: TrainState) -> None:
        """Begin a log window."""
        self.log_began = (state.samples, self.spent["data"], self.stepping)
        self.first_ended = self.first_ended or self.log_began

    def fetch(self, windows: Iterator[Window]) -> Window:
        """The next window, its time counted as waiting for data."""
        with self.part("data"):
            self.fetching = self.since
            return next(windows)

    def record_step(self) -> None:
        """A step that began with `fetch` is done. Evaluating and saving are no part of any."""
        self.stepping += time.perf_counter() - self.fetching

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time within as that part's, but for what another part inside it takes."""
        outer = self.part_now
        self.switch(name)
        try:
            yield
        finally:
            self.switch(outer)

    def switch(self, name: str) -> None:
        """Count the time from here on as that part's."""
        now = time.perf_counter()
        self.spent[self.part_now] += now - self.since
        self.part_now, self.since = name, now

    def progress_is_due(self) -> bool:
        now = time.perf_counter()
        due = now - self.last_progress >= PROGRESS_EVERY_S
        if due:
            self.last_progress = now
        return due

    def samples_per_s(self, state: TrainState) -> float:
        """Trained on since the last log, by the time that steps took."""
        samples, _, stepping = self.log_began
        return (state.samples - samples) / max(self.stepping - stepping, 1e-9)

    def data_wait(self) -> float:
        """Share of the time of the steps since the last log that was spent waiting for data."""
        _, waited, stepping = self.log_began
        return (self.spent["data"] - waited) / max(self.stepping - stepping, 1e-9)

    def seconds(self) -> float:
        """Spent training by all processes of the run so far."""
        return self.before + time.perf_counter() - self.began

    def seconds_here(self) -> dict[str, float]:
        """Spent by this process, by part."""
        self.switch(self.part_now)
        spent = {name: self.spent[name] for name in PARTS}
        return {"steps": self.since - self.began - sum(spent.values()), **spent}

    def seconds_by_part(self) -> dict[str, float]:
        """The same by all processes of the run that counted it, to milliseconds."""
        before = self.by_part_before
        return {name: round(before.get(name, 0.0) + s, 3) for name, s in self.seconds_here().items()}

    def seconds_with_end(self) -> float:
        """The same and a last evaluation: what the run will have used if it ends now."""
        return self.seconds() + self.evaluation_s

    def account(self) -> Iterable[Event]:
        """What there is to tell at the end of the process; of a profiler, where the time went."""
        return ()

    def close(self) -> None:
        """Measure nothing any more."""

    def starved(self, data: Data) -> str | None:
        """What to say, once, where much of the time so far went into waiting for data; else None."""
        _, waited_then, stepping_then = self.first_ended or self.log_began
        waited, stepping = self.spent["data"] - waited_then, self.stepping - stepping_then
        if self.has_warned or waited < max(STARVED * stepping, STARVED_S):
            return None
        self.has_warned = True
        return f"waiting for data took {waited / stepping:.0%} of {stepping:.0f} s of steps; {_remedy(data)}"


def _remedy(data: Data) -> str:
    if data.info.in_memory and data.info.files:
        return "they are read from disk by the run itself: a larger data.memory_mib keeps them in memory"
    if data.info.in_memory:
        return "they are in memory already: a larger batch_size or a simpler augment costs less a sample"
    workers, most = getattr(data, "num_workers", 0), os.cpu_count() or 1
    if workers < most:
        return f"resume with data.num_workers={most}, or have them in memory"
    advice = "smaller samples, or have them in memory"
    return f"{workers} loader processes on {most} cores are not enough: {advice}"
