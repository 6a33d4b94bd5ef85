"""A notebook's cell: one line that lives while the run trains, and becomes its summary."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from trainrun.logger.lines import describe_kept_weights, lines_of
from trainrun.terminal.lines import say
from trainrun.terminal.numbers import metrics_text, number
from trainrun.terminal.visible import visible
from trainrun.vocabulary import events

_EVERY_S = 0.2  # as fast as an eye follows a number
Publish = Callable[[str, bool], object]  # (text, whether it replaces what was shown)


def publisher(shell: Any) -> Publish:
    """What shows a text below the cell that the notebook's `shell` runs."""
    transient = {"display_id": f"trainrun-{time.time_ns()}"}

    def publish(text: str, replaces: bool) -> None:
        data = {"text/plain": text}
        shell.display_pub.publish(data=data, metadata={}, transient=transient, update=replaces)

    return publish


class NotebookConsole:
    """Shows where the run is; at its end what came of it. All else is in trainrun.log."""

    def __init__(self, publish: Publish, clock: Callable[[], float] = time.monotonic) -> None:
        self.publish, self.clock = publish, clock
        self.run_dir, self.total, self.step, self.monitor = "", "", 0, ""
        self.loss, self.speed = "", ""
        self.metrics: dict[str, str] = {}  # the last of each split
        self.value = ""  # of the monitor
        self.shown_at: float | None = None

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.Started():
                self._start(event)
            case events.Replanned():
                self.total = f"/{event.total_steps}"
            case events.Progressed() | events.StepsLogged():
                self._advance(event)
            case events.Evaluated():
                self._evaluated(event)
            case events.Warned() | events.NotFinite() | events.RolledBack() | events.Profiled():
                say(*lines_of(event))
            case events.Finished():
                self._show(*self._summary(event))
            case events.Interrupted() | events.Failed():  # whose error stands below the cell
                ended = f"{event.signal}: saved" if isinstance(event, events.Interrupted) else "failed"
                self._show(f"{ended} at step {event.step}: {self.run_dir}")

    def _start(self, event: events.Started) -> None:
        self.run_dir, self.step, self.monitor = event.run_dir, event.step, event.monitor
        self.total = f"/{event.total_steps}" if event.total_steps else ""
        for label, text in event.plan:
            if label == "caution":
                say(f"caution: {text}")
        self._live()

    def _advance(self, event: events.Progressed | events.StepsLogged) -> None:
        self.step, self.speed = event.step, f"{event.samples_per_s:,.0f} samples/s"
        if isinstance(event, events.StepsLogged):
            self.loss = f"loss {number(event.loss)}"
        if self.shown_at is None or self.clock() - self.shown_at >= _EVERY_S:
            self._live()

    def _evaluated(self, event: events.Evaluated) -> None:
        weights = "" if event.weights == "raw" else f"{event.weights} weights of "
        self.metrics[event.split] = f"{metrics_text(event.metrics)} ({weights}step {event.step})"
        split, _, name = self.monitor.partition("/")
        if event.split == split and name in event.metrics:
            self.value = f"{split} {name} {number(event.metrics[name])}"
        self._live()

    def _live(self) -> None:
        self._show(
            "  ".join(filter(None, (f"step {self.step}{self.total}", self.loss, self.value, self.speed)))
        )

    def _summary(self, event: events.Finished) -> list[str]:
        why = "" if event.reason == "budget" else f", by {event.reason}"
        lines = [f"finished in {event.seconds:.1f} s{why}: {self.run_dir}", describe_kept_weights(event)]
        return lines + [f"{split:<5} {text}" for split, text in self.metrics.items()]

    def _show(self, *lines: str) -> None:
        self.publish("\n".join(map(visible, lines)), self.shown_at is not None)
        self.shown_at = self.clock()
