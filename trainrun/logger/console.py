"""The terminal: live progress and one table line per evaluation; plain lines elsewhere; a notebook's line."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, assert_never

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from trainrun.logger.lines import lines_of
from trainrun.terminal.numbers import metrics_text, number
from trainrun.terminal.streams import stop_before
from trainrun.terminal.visible import visible
from trainrun.vocabulary import events

WORTH_TELLING_S = 90.0  # a shorter rest is over before it is read


class Console:
    """Writes to stderr; stdout is for results."""

    def __init__(self, run_dir: Path) -> None:
        self.view: Callable[[events.Event], None]
        if (shell := _notebook()) is not None:
            from trainrun.logger.notebook import NotebookConsole, publisher

            self.view = NotebookConsole(publisher(shell))
        elif sys.stderr and sys.stderr.isatty():
            self.view = Live(RichConsole(stderr=True, highlight=False, soft_wrap=True))
        else:
            self.view = PlainConsole()

    def __call__(self, event: events.Event) -> None:
        self.view(event)


def _notebook() -> Any:
    """The shell of the notebook that calls; None elsewhere: IPython's in a terminal has no kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if getattr(shell, "kernel", None) is not None else None


class PlainConsole:
    """One line per thing that happened, for pipes, logs and batch systems."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.started: tuple[float, events.Started] | None = None  # until the first steps have told their pace

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.Started):
            self.started = (self.clock(), event)
        is_silent = isinstance(event, (events.CheckpointSaved, events.Failed))  # the command prints its error
        for line in () if is_silent else lines_of(event):
            print(visible(line), file=sys.stderr, flush=True)
        if isinstance(event, events.StepsLogged) and self.started and event.step > self.started[1].step:
            self._estimate(event.step, *self.started)
            self.started = None

    def _estimate(self, step: int, began: float, start: events.Started) -> None:
        """How long it will take, if long: the time of the first steps, for all that are to come."""
        done, ahead = step - start.step, (start.total_steps or 0) - step
        ahead_s = (self.clock() - began) * ahead / done
        if ahead_s >= WORTH_TELLING_S:
            rest = f"{ahead_s / 60:.0f} min" if ahead_s < 7200 else f"{ahead_s / 3600:.1f} h"
            print(f"  about {rest} to go, by the first {done} steps", file=sys.stderr, flush=True)


class Live:
    """A progress bar at the bottom, and above it a table that grows by a line per evaluation."""

    def __init__(self, console: RichConsole) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("step {task.completed}{task.fields[of]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
        )
        self.task: TaskID | None = None
        self.note = ""
        self.columns: list[str] = []
        self.monitor = ""
        self.undo: Callable[[], None] = lambda: None  # what `breakpoint()` does meanwhile

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.Started():
                self._start(event)
            case events.Progressed():
                self._advance(event)
            case events.Replanned():
                self._update(total=event.total_steps, of=f"/{event.total_steps}")
            case events.StepsLogged():
                self.note = f"loss {number(event.loss)}  lr {max(event.lr.values()):.2g}"
                self._advance(event)
            case events.Evaluated():
                self._evaluated(event)
            case events.Warned() | events.NotFinite() | events.RolledBack():
                self._print(lines_of(event), "yellow")
            case events.Sampled() | events.Probed() | events.Profiled():
                head = isinstance(event, events.Sampled)  # which the row above it makes needless
                self._print(lines_of(event)[head:], "dim")
            case events.Finished() | events.Interrupted() | events.Failed():
                self._stop(event)
            case events.Pictured() | events.Weighed() | events.CheckpointSaved():
                pass
            case _:
                assert_never(event)

    def _start(self, event: events.Started) -> None:
        self.monitor = event.monitor.replace("/", " ", 1)
        title = Text("trainrun ", style="bold") + Text(visible(event.run_dir), style="cyan")
        if event.resumed_from is not None:
            title += Text(f"  resumed at step {event.step}", style="yellow")
        self.console.print(title)
        for label, text in event.plan:
            head = f"  {label:<10} "
            width = max(20, self.console.width - len(head))
            for part in textwrap.wrap(visible(text), width, break_on_hyphens=False):
                self.console.print(Text.assemble((head, "dim"), part))
                head = " " * len(head)
        self.console.print()
        total, of = event.total_steps, f"/{event.total_steps}" if event.total_steps else ""
        self.task = self.progress.add_task("", total=total, completed=event.step, of=of, note="")
        self.progress.start()
        self.undo = stop_before(self.progress.stop)

    def _advance(self, event: events.Progressed | events.StepsLogged) -> None:
        speed = f"{event.samples_per_s:,.0f} samples/s"
        self._update(completed=event.step, note="  ".join(filter(None, (self.note, speed))))

    def _update(self, **fields: Any) -> None:
        if self.task is not None:
            self.progress.update(self.task, **fields)

    def _print(self, lines: list[str], style: str) -> None:
        for line in lines:
            self.console.print(Text(visible(line), style=style))

    def _stop(self, event: events.Finished | events.Interrupted | events.Failed) -> None:
        self.progress.stop()  # also gives the cursor back
        self.undo()
        if isinstance(event, events.Interrupted):
            self.console.print(f"{event.signal}: saved at step {event.step}")

    def _evaluated(self, event: events.Evaluated) -> None:
        if event.split == "test":
            self.progress.stop()
            which = "" if event.weights == "raw" else f"{event.weights} weights of "
            line = Text(f"\ntest   {visible(metrics_text(event.metrics))}", style="bold")
            self.console.print(line + Text(f"   ({which}step {event.step})", style="dim"))
            return
        cells = {"epoch": "" if event.epoch is None else f"{event.epoch:g}", "step": str(event.step)}
        cells |= {visible(f"train {name}"): number(value) for name, value in event.train.items()}
        cells |= {visible(f"val {name}"): number(value) for name, value in event.metrics.items()}
        cells |= {"lr": "" if event.lr is None else f"{event.lr:.2g}"}
        if not self.columns:
            self.columns = fitting(list(cells), self.monitor, self.console.width)
            heads = "".join(f"{name:>{_width(name)}}" for name in self.columns)
            self.console.print(Text(heads, style="dim"))
        row = Text("".join(f"{cells.get(name, ''):>{_width(name)}}" for name in self.columns))
        self.console.print(row + Text("  best", style="green") if event.is_best else row)


def fitting(columns: list[str], monitor: str, width: int) -> list[str]:
    """The columns that a terminal has room for, at least the step and what is monitored."""
    room, taken = width - len("  best"), set[str]()
    for name in dict.fromkeys(["step", monitor, "val loss", "train loss", "epoch", "lr", *columns]):
        if name in columns and (name in ("step", monitor) or _width(name) <= room):
            taken.add(name)
            room -= _width(name)
    return [name for name in columns if name in taken]


def _width(name: str) -> int:
    return max(8, len(name) + 2)
