"""Where a run's events go: its record, trainrun.log, failures/ and the loggers, with histograms for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainrun.logger.lines import lines_of
from trainrun.run.files import replacing
from trainrun.run.record import Record
from trainrun.session.probe_files import probe_files
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import TrainrunError
from trainrun.vocabulary.events import Event, Histogram, NotFinite, StepsLogged, Weighed

if TYPE_CHECKING:
    from trainrun.session.session import RunOptions

Sink = Callable[[Event], None]

_MOST_FAILURES = 3  # the first ones of a run: each holds all weights
_BINS = 40  # enough to see two modes or a long tail, and few enough for a line of metrics


def sinks_of(record: Record, loggers: Mapping[str, Sink], run_dir: Path, options: RunOptions) -> list[Sink]:
    """All sinks of a run in their order; with -q without the console."""
    views: list[Sink] = [_log_of(run_dir / "trainrun.log"), _failures_of(run_dir / "failures")]
    views += [probe_files(run_dir / "probes")]
    views += [logger for name, logger in loggers.items() if name != "console" or not options.quiet]
    return [record, *map(FailSafeLogger, views), *([options.watch] if options.watch else [])]


def _log_of(path: Path) -> Sink:
    """trainrun.log: every event as plain lines."""

    def log(event: Event) -> None:
        if lines := lines_of(event):
            with path.open("a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))

    return log


def _failures_of(folder: Path) -> Sink:
    """failures/step-N.pt: what it takes to see again a step whose gradient was not finite.

    `batches` (inputs, targets, indices), the weights as `model`, and what was found. `torch.load` reads
    the file with weights_only=True.
    """

    def failures(event: Event) -> None:
        if not isinstance(event, NotFinite) or len(list(folder.glob("step-*.pt"))) >= _MOST_FAILURES:
            return
        about = {"step": event.step, "where": event.where, "samples": list(event.samples), "norm": event.norm}
        folder.mkdir(exist_ok=True)
        with replacing(folder / f"step-{event.step:09d}.pt") as part:
            torch.save({**about, **event.replay}, part)

    return failures


class FailSafeLogger:
    """A logger whose failure is reported once and never stops the run."""

    def __init__(self, logger: Sink) -> None:
        self.logger: Sink | None = logger

    def __call__(self, event: Event) -> None:
        if self.logger is None:
            return
        try:
            self.logger(event)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # nobody reads stderr
        except Exception as error:
            name = getattr(self.logger, "__name__", type(self.logger).__name__.lower())
            self.logger = None
            text = str(error) if isinstance(error, TrainrunError) else f"{type(error).__name__}: {error}"
            say(f"logger.{name}: failed and is off from here on: {text}")


def with_histograms(events: Iterable[Event], model: nn.Module) -> Iterator[Event]:
    """Pass the events on, each log of steps followed by the histograms of `model` as it is then.

    A gradient is that of the log's last step, after clipping.
    """
    for event in events:
        yield event
        if isinstance(event, StepsLogged):
            weights = dict(model.named_parameters())
            yield Weighed(
                step=event.step,
                weights={name: histogram(w) for name, w in weights.items()},
                gradients={name: histogram(w.grad) for name, w in weights.items() if w.grad is not None},
            )


def histogram(values: Tensor) -> Histogram:
    """The histogram of the finite ones among `values`, of any shape, in bins of one width."""
    finite = values.detach().cpu().double().flatten()  # first to the host: a GPU has no room for copies
    finite = finite[finite.isfinite()]
    if not len(finite):
        return Histogram(edges=(0.0, 0.0), counts=(0,), total=0.0, total_squares=0.0)
    counts, edges = torch.histogram(finite, 1 if finite.min() == finite.max() else _BINS)
    return Histogram(
        edges=tuple(edges.tolist()),
        counts=tuple(map(int, counts.tolist())),
        total=float(finite.sum()),
        total_squares=float(finite.square().sum()),
    )
