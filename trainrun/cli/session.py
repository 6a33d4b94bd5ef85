"""One process of a run: its folder and records around the loop, every event to every logger."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from trainrun.checkpoint import Checkpoints
from trainrun.cli.lineage import Process, table
from trainrun.config.build import Parts
from trainrun.config.build.schedule import Course, Rates
from trainrun.config.compose import Composition, to_yaml
from trainrun.errors import OutOfMemory, StorageFailed, TrainrunError
from trainrun.events import Evaluated, Event, Failed, Finished, Interrupted, Started
from trainrun.logger.lines import lines_of
from trainrun.run import lineage
from trainrun.run.directory import claim
from trainrun.run.files import free_bytes, read_json, replace_json, replace_text, storage_failed
from trainrun.run.lock import lock
from trainrun.run.provenance import environment
from trainrun.run.record import Record, write_status
from trainrun.run.signals import exit_code
from trainrun.run.slurm import requeue
from trainrun.state import TrainState

Sink = Callable[[Event], None]


@dataclass(frozen=True)
class Result:
    """What a finished or interrupted run came to."""

    run_dir: Path
    exit_code: int
    state: str  # "completed" or "interrupted"
    reason: str  # "budget", "stop_at", "early_stopping", a signal's name or "time_limit"
    step: int
    best: float | None
    seconds: float  # of training, over all processes of the run
    metrics: Mapping[str, Mapping[str, float]]  # the last of each split


def start(
    composition: Composition, parts: Parts, command: list[str], quiet: bool, run_dir: Path | None = None
) -> Result:
    """Claim a folder for a new run and train. `run_dir`: a sweep's job has its folder already."""
    storable = composition.storable | ({"init_from": str(parts.weights.path)} if parts.weights else {})
    folder, owner = (run_dir, lock(run_dir)) if run_dir else claim(composition.settings["run_dir"])
    with owner:
        try:
            (folder / ".hydra").mkdir(exist_ok=True)
            for name, text in composition.record.items():
                (folder / ".hydra" / name).write_text(text, encoding="utf-8")
            replace_text(folder / "config.yaml", to_yaml(storable))  # a run's from here on
        except OSError as error:
            raise storage_failed(folder, error) from None
        _introduce(folder, parts, command)
        return _drive(parts, folder, storable, quiet, Process(command, {}, None))


def go_on(parts: Parts, run_dir: Path, storable: Mapping[str, Any], quiet: bool, process: Process) -> Result:
    """Train from the newest valid checkpoint of the folder, or from the beginning, to the end.

    What `process` changes becomes the run's once the folder is ours.
    """
    with lock(run_dir):
        _introduce(run_dir, parts, ["trainrun", "resume", str(run_dir)])
        return _drive(parts, run_dir, storable, quiet, process)


def _introduce(run_dir: Path, parts: Parts, command: list[str]) -> None:
    """Give a run its identity and provenance, unless a start that was killed got as far as this."""
    try:
        if not (run_dir / "environment.json").exists():
            content = environment(parts.runtime, parts.info, command)
            if parts.weights:
                content["init_from"] = {"path": str(parts.weights.path), "sha256": parts.weights.sha256}
            replace_json(run_dir / "environment.json", content)
        if not read_json(run_dir / "status.json").get("run_id"):
            write_status(run_dir, name=parts.settings["name"], run_id=secrets.token_hex(8))
    except OSError as error:
        raise storage_failed(run_dir, error) from None


def _drive(parts: Parts, run_dir: Path, storable: Mapping[str, Any], quiet: bool, process: Process) -> Result:
    """Open the records, restore what is stored, and follow the loop; the folder is ours."""
    with contextlib.ExitStack() as opened:
        record = opened.enter_context(contextlib.closing(Record(run_dir)))
        signals = parts.runtime.signals()
        opened.callback(signals.restore)
        run_id = str(read_json(run_dir / "status.json").get("run_id", ""))
        loop = parts.loop(run_dir, run_id, record, signals)
        opened.callback(loop.checkpoints.close)
        resumed_from = _restore(parts, loop.checkpoints, record, process.was)
        if process.changes:
            parts.state.stop_reason = None  # what ended the run is judged anew
            write_status(run_dir, state="running", exit_code=None, reason=None)  # no longer complete
            replace_text(run_dir / "config.yaml", to_yaml(dict(storable)))
        _check_room(parts.state, loop.checkpoints)
        lineage.add(run_dir, shlex.join(process.command), parts.state.step, process.changes, _course(parts))
        views = [view for name, view in parts.loggers(run_dir).items() if name != "console" or not quiet]
        sinks: list[Sink] = [record, Forgiving(Log(run_dir)), *map(Forgiving, views)]
        started = _started(parts, run_dir, storable, resumed_from)
        signals.install()
        try:
            result = _follow(chain([started], loop.train(parts.state)), sinks, run_dir, parts.state)
        except BaseException as error:
            _tell_failure(error, sinks, parts.state.step)
            failed = as_trainrun_error(error)
            if failed is not None and failed is not error:
                raise failed from error
            raise
        if result.reason == signals.preemption:
            print(requeue(), file=sys.stderr)
        return result


def _started(parts: Parts, run_dir: Path, storable: Mapping[str, Any], resumed_from: int | None) -> Started:
    monitor = parts.monitor
    return Started(
        name=str(parts.settings["name"] or run_dir.name),
        run_dir=str(run_dir),
        step=parts.state.step,
        total_steps=parts.state.total_steps if parts.budget is None or parts.state.planned_s else None,
        steps_per_epoch=parts.pace.steps_per_epoch,
        monitor=f"val/{monitor.name}" if monitor else "",
        monitor_mode="max" if monitor and monitor.maximize else "min",
        plan=parts.plan,
        config=to_yaml(dict(storable)),
        resumed_from=resumed_from,
    )


def _follow(events: Iterable[Event], sinks: Sequence[Sink], run_dir: Path, state: TrainState) -> Result:
    """Hand every event to every sink, in order; the last event says how the run ended."""
    metrics: dict[str, Mapping[str, float]] = {}
    event: Event | None = None
    for event in events:
        for sink in sinks:
            sink(event)
        if isinstance(event, Evaluated):
            metrics[event.split] = event.metrics
    step, best = state.step, state.best
    if isinstance(event, Interrupted):
        code, why = exit_code(event.signal), event.signal
        return Result(run_dir, code, "interrupted", why, step, best, state.seconds, metrics)
    assert isinstance(event, Finished)
    return Result(run_dir, 0, "completed", event.reason, step, best, event.seconds, metrics)


def _tell_failure(error: BaseException, sinks: Sequence[Sink], step: int) -> None:
    failed = as_trainrun_error(error)
    code = failed.exit_code if failed else 130 if isinstance(error, KeyboardInterrupt) else 1
    reason = (str(failed or f"{type(error).__name__}: {error}").splitlines() or [""])[0]
    for sink in sinks:
        with contextlib.suppress(Exception):  # the storage may be what failed
            sink(Failed(step=step, reason=reason, exit_code=code))


class Log:
    """trainrun.log: every event as plain lines."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "trainrun.log"

    def __call__(self, event: Event) -> None:
        if lines := lines_of(event):
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))


class Forgiving:
    """A logger whose failure is told once and never stops the run."""

    def __init__(self, logger: Callable[[Event], None]) -> None:
        self.logger: Callable[[Event], None] | None = logger

    def __call__(self, event: Event) -> None:
        if self.logger is None:
            return
        try:
            self.logger(event)
        except Exception as error:
            name = type(self.logger).__name__.lower()
            self.logger = None
            print(
                f"logger.{name}: failed and is off from here on: {type(error).__name__}: {error}",
                file=sys.stderr,
            )


def as_trainrun_error(error: BaseException) -> TrainrunError | None:
    """The error as one of ours: itself, or out of memory, which torch has no single type for."""
    if isinstance(error, TrainrunError):
        return error
    text = str(error)
    told = ("DefaultCPUAllocator", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in text for words in told):
        return OutOfMemory(
            "out of memory: halve batch_size and double loop.accumulate, which trains the same, "
            "or try precision=bf16"
        )
    return None


def _check_room(state: TrainState, checkpoints: Checkpoints) -> None:
    """Raises StorageFailed where the disk has no room for one checkpoint, before time is spent."""
    needed, free = checkpoints.expected_bytes(state), free_bytes(checkpoints.folder)
    if free < needed:
        folder = checkpoints.folder.parent
        text = f"{folder}: a checkpoint needs about {needed:,} bytes, {free:,} are free"
        raise StorageFailed(f"{text}; make room, or set run_dir to a folder on another disk")


def _restore(parts: Parts, checkpoints: Checkpoints, record: Record, was: Rates | None) -> int | None:
    """Load the newest valid checkpoint and cut metrics.jsonl back to it; None where there is none.

    Prints the learning rates ahead beside what they were by `was`.
    """
    checkpoints.clean()
    stored = checkpoints.load_newest(lambda text: print(text, file=sys.stderr))
    if stored is None:
        record.cut(0)
        return None
    record.cut(stored.pop("metrics_bytes"))
    total = parts.state.total_steps
    parts.state.load_state_dict(stored)
    before = was.course(parts.state, stored["schedule"]) if was else []
    if parts.budget is None:
        parts.state.total_steps, parts.state.planned_s = total, 0.0
    else:
        parts.budget.restore(parts.state)
    parts.data.restore(parts.state.fitted)
    if was:
        print(table(before, _course(parts)), file=sys.stderr)
    return parts.state.step


def _course(parts: Parts) -> Course:
    """The learning rates ahead; none where the clock's pace is not known yet."""
    is_known = parts.budget is None or parts.state.planned_s
    return parts.rates.course(parts.state, parts.state.state_dict()["schedule"]) if is_known else []
