"""One process of a run: its folder and records around the loop, every event to every logger."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from trainrun import ranks
from trainrun.assembly.build import Parts
from trainrun.checkpoint.state import TrainState
from trainrun.checkpoint.store import expected_bytes
from trainrun.config.compose.composer import Composition, to_yaml
from trainrun.data.workers import workers_error
from trainrun.logger.lines import kept, lines_of
from trainrun.run import signing
from trainrun.run.directory import ROOT, claim
from trainrun.run.failures import Failures
from trainrun.run.files import free_bytes, read_json, replace_json, replace_text, storage_failed
from trainrun.run.listing import num_bytes
from trainrun.run.lock import lock
from trainrun.run.record import Record, restore_status, write_status
from trainrun.runtime.interrupt import raise_again
from trainrun.runtime.machine import is_out_of_memory
from trainrun.runtime.signals import Signals, exit_code
from trainrun.runtime.slurm import requeue
from trainrun.session import lineage
from trainrun.session.changes import RunOptions
from trainrun.session.continuation import NOTHING, StoredState, course, restore, stored_state
from trainrun.session.histograms import weighed
from trainrun.session.out_of_memory import out_of_memory
from trainrun.session.provenance import environment
from trainrun.session.sample_pictures import pictured
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import EvaluationOutOfMemory, RankFailed, StorageFailed, TrainrunError
from trainrun.vocabulary.events import Evaluated, Event, Failed, Finished, Interrupted, Started

Sink = Callable[[Event], None]
ShouldStop = Callable[[Evaluated, int], str | None]


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
    kept: str  # which weights it ended with, in words; empty where it was interrupted


def start(composition: Composition, parts: Parts, process: RunOptions, run_dir: Path | None = None) -> Result:
    """Claim a folder for a new run and train. `run_dir`: a sweep's job has its folder already."""
    parts.runtime.require_sync()
    if not ranks.is_main_process():
        return _assist(parts, process)
    wanted, opening = composition.settings["run_dir"], _pictures(parts)
    raise_again()
    _check_room(parts, run_dir or Path(wanted or ROOT).expanduser())
    folder, owner = (run_dir, lock(run_dir)) if run_dir else claim(wanted)
    settled = _pinned(composition.storable, parts)
    settled |= {"name": None} if run_dir else {}  # a sweep's is not its jobs'
    with owner, _failure_recorded(folder):
        try:
            (folder / ".hydra").mkdir(exist_ok=True)
            for name, text in composition.record.items():
                (folder / ".hydra" / name).write_text(text, encoding="utf-8")
            signing.sign(folder, signing.new_id(), to_yaml(settled))
            replace_text(folder / "config.yaml", to_yaml(settled))  # a run's from here on
        except OSError as error:
            raise storage_failed(folder, error) from None
        return _drive(parts, folder, settled, process, opening, NOTHING)


def go_on(parts: Parts, run_dir: Path, storable: Mapping[str, Any], process: RunOptions) -> Result:
    """Train from the newest valid checkpoint of the folder, or from the beginning, to the end.

    What `process` changes becomes the run's once the folder is ours.
    """
    parts.runtime.require_sync()
    if not ranks.is_main_process():
        return _assist(parts, process)
    raise_again()
    _check_room(parts, run_dir)
    with lock(run_dir):
        stored = stored_state(run_dir)
        if process.notes:
            say(*process.notes)
        return _drive(parts, run_dir, storable, process, [], stored)


def _pinned(settings: Mapping[str, Any], parts: Parts) -> dict[str, Any]:
    """With the number of threads: sums are rounded by it, and a resume may find another machine.

    And with the path of the weights it began with.
    """
    runtime = {**settings["runtime"], "threads": parts.runtime.num_threads}
    weights = {"init_from": str(parts.weights.path)} if parts.weights else {}
    return {**settings, "runtime": runtime, **weights}


def _store(settings: Mapping[str, Any], run_dir: Path) -> None:
    """From here on they are the run's, which is no longer complete; what the user signed stays signed."""
    config, file = to_yaml(dict(settings)), run_dir / "config.yaml"
    try:
        write_status(run_dir, state="running", exit_code=None, reason=None)
        before, run_id = file.read_text(encoding="utf-8"), signing.stored_id(run_dir)
        if run_id and signing.doubt(run_dir, before) is None:
            signing.sign(run_dir, run_id, before, config)  # both, for a kill before the next line
        replace_text(file, config)
    except OSError as error:
        raise storage_failed(run_dir, error) from None


def _introduce(
    run_dir: Path, parts: Parts, storable: Mapping[str, Any], command: Sequence[str], run_id: str
) -> None:
    """Give a run its identity and provenance, unless a start that was killed got as far as this."""
    try:
        if not (run_dir / "environment.json").exists():
            content = environment(parts.runtime, parts.info, parts.samples_per_step, command)
            content["run_id"] = run_id
            if parts.weights:
                content["init_from"] = {"path": str(parts.weights.path), "sha256": parts.weights.sha256}
            replace_json(run_dir / "environment.json", content)
        if read_json(run_dir / "status.json").get("run_id") != run_id:
            write_status(run_dir, name=_name(storable), run_id=run_id)
    except OSError as error:
        raise storage_failed(run_dir, error) from None


def _bring_in_line(run_dir: Path, state: TrainState) -> None:
    """What status.json says of metrics, by the state that training goes on from."""
    try:
        restore_status(run_dir, state.best_step)
    except OSError as error:
        raise storage_failed(run_dir, error) from None


def _pictures(parts: Parts) -> list[Event]:
    """The training samples that a logger asks for."""
    members = parts.settings["logger"] or {}
    asked = {f"logger.{name}.samples": node.get("samples") or 0 for name, node in members.items()}
    key = max(asked, key=lambda one: asked[one], default="")
    return [pictured(parts.data, asked[key], parts.settings["seed"], key)] if key and asked[key] else []


def _drive(
    parts: Parts,
    run_dir: Path,
    storable: Mapping[str, Any],
    process: RunOptions,
    opening: Sequence[Event],
    stored: StoredState,
) -> Result:
    """Restore what is stored, open the records, and follow the loop; the folder is ours.

    What may be refused is read and judged before anything is written. `opening` is told before the
    first step.
    """
    ranks.broadcast_object(str(run_dir))
    resumed_from = restore(parts, stored.parts, process)
    run_id = stored.run_id or signing.stored_id(run_dir) or signing.new_id()
    loggers = parts.loggers(run_dir).items()
    with contextlib.ExitStack() as opened:
        record = opened.enter_context(contextlib.closing(Record(run_dir)))
        signals = parts.runtime.signals()
        opened.callback(signals.restore)
        loop = parts.loop(run_dir, run_id, record, signals)
        opened.callback(loop.checkpoints.close)
        loop.checkpoints.clean()
        record.cut(stored.metrics_bytes)
        _introduce(run_dir, parts, storable, process.command, run_id)
        _bring_in_line(run_dir, parts.state)
        if process.changes:
            _store(storable, run_dir)
        lineage.add(run_dir, shlex.join(process.command), parts.state.step, process.changes, course(parts))
        views = [view for name, view in loggers if name != "console" or not process.quiet]
        told: list[Sink] = [Log(run_dir), Failures(run_dir), *views]
        sinks: list[Sink] = [record, *map(FailSafeLogger, told), *([process.watch] if process.watch else [])]
        started, trained = _started(parts, run_dir, storable, resumed_from), loop.train(parts.state)
        if any(node.get("histograms") for node in (parts.settings["logger"] or {}).values()):
            trained = weighed(trained, parts.state.model)
        signals.install()
        try:
            events: Iterable[Event] = chain([started, *opening], trained)
            events = _judged(events, process.judge, parts.state, signals) if process.judge else events
            result = _follow(events, sinks, run_dir, parts.state)
        except BaseException as error:
            loop.checkpoints.close()  # a half-written one may fill the disk, and the status needs room
            failed = _as_trainrun_error(error, parts, run_dir) or error
            _tell_failure(failed, sinks, parts.state.step)
            if failed is not error:
                raise failed from error
            raise
        if result.reason == signals.preemption:
            say(requeue())
        return result


def _assist(parts: Parts, process: RunOptions) -> Result:
    """What every rank but the first does: compute, and leave folder, records and views to the first."""
    run_dir = Path(ranks.broadcast_object(""))
    with contextlib.ExitStack() as opened:
        signals = parts.runtime.signals()
        opened.callback(signals.restore)
        loop = parts.loop(run_dir, "", None, signals)
        opened.callback(loop.checkpoints.close)
        restore(parts, None, process)
        signals.install()
        try:
            return _follow(loop.train(parts.state), [], run_dir, parts.state)
        except Exception as error:
            failed = _as_trainrun_error(error, parts, run_dir)
            if isinstance(failed, RankFailed):
                tell_for_first(run_dir, failed)
            if failed is not None and failed is not error:
                raise failed from error
            raise


def tell_for_first(run_dir: Path, error: RankFailed) -> None:
    """Write into a run's status why it ended, where the first rank died before it could: its lock is free."""
    with contextlib.suppress(TrainrunError, OSError), lock(run_dir):
        if read_json(run_dir / "status.json").get("state") == "running":
            write_status(run_dir, state="failed", exit_code=error.exit_code, reason=str(error))


def _name(storable: Mapping[str, Any]) -> str | None:
    """The run's name; none where it comes from the environment, which is kept off the disk."""
    name = storable["name"]
    return None if name is None or "${" in name else str(name)


def _started(parts: Parts, run_dir: Path, storable: Mapping[str, Any], resumed_from: int | None) -> Started:
    monitor = parts.monitor
    return Started(
        name=_name(storable) or run_dir.name,
        run_dir=str(run_dir),
        step=parts.state.step,
        total_steps=parts.state.total_steps if parts.budget is None or parts.state.planned_s else None,
        monitor=f"val/{monitor.name}" if monitor else "",
        plan=parts.plan,
        config=to_yaml(dict(storable)),
        class_names=parts.info.class_names,
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
        return Result(run_dir, code, "interrupted", why, step, best, state.seconds, metrics, "")
    assert isinstance(event, Finished)
    seconds, ended_with = event.seconds, kept(event)
    return Result(run_dir, 0, "completed", event.reason, step, best, seconds, metrics, ended_with)


def _judged(
    events: Iterable[Event], judge: ShouldStop, state: TrainState, signals: Signals
) -> Iterator[Event]:
    """The same events; the run is asked to stop where the judge has a reason."""
    for event in events:
        yield event
        if not isinstance(event, Evaluated) or event.split != "val" or event.step >= state.total_steps:
            continue
        if reason := judge(event, state.total_steps):
            signals.ask(reason)


def _tell_failure(error: BaseException, sinks: Sequence[Sink], step: int) -> None:
    code, reason = _cause(error)
    for sink in sinks:
        with contextlib.suppress(Exception):  # the storage may be what failed
            sink(Failed(step=step, reason=reason, exit_code=code))


def _cause(error: BaseException) -> tuple[int, str]:
    """(exit code, reason in one line)."""
    code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
    is_ours = isinstance(error, TrainrunError)
    text = " ".join(str(error).split()) if is_ours else f"{type(error).__name__}: {error}"
    return code, (text.splitlines() or [""])[0]


@contextlib.contextmanager
def _failure_recorded(run_dir: Path) -> Iterator[None]:
    """Write into a new run's status what ends it before its loop could."""
    try:
        yield
    except BaseException as error:
        is_run = (run_dir / "config.yaml").exists()  # a folder without is unused, and may be begun anew
        if is_run and read_json(run_dir / "status.json").get("state", "running") == "running":
            code, reason = _cause(error)
            with contextlib.suppress(OSError):
                write_status(run_dir, state="failed", exit_code=code, reason=reason)
        raise


class Log:
    """trainrun.log: every event as plain lines."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "trainrun.log"

    def __call__(self, event: Event) -> None:
        if lines := lines_of(event):
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))


class FailSafeLogger:
    """A logger whose failure is told once and never stops the run."""

    def __init__(self, logger: Callable[[Event], None]) -> None:
        self.logger: Callable[[Event], None] | None = logger

    def __call__(self, event: Event) -> None:
        if self.logger is None:
            return
        try:
            self.logger(event)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # nobody reads what is told
        except Exception as error:
            name = getattr(self.logger, "__name__", type(self.logger).__name__.lower())
            self.logger = None
            text = str(error) if isinstance(error, TrainrunError) else f"{type(error).__name__}: {error}"
            say(f"logger.{name}: failed and is off from here on: {text}")


def _as_trainrun_error(error: BaseException, parts: Parts, run_dir: Path) -> TrainrunError | None:
    """The error as one of ours: itself, or one that torch has no type for."""
    if isinstance(error, EvaluationOutOfMemory):
        return out_of_memory(parts, run_dir, evaluating=True)
    if isinstance(error, TrainrunError):
        return error
    if (dead := workers_error(error)) is not None:
        return dead
    return out_of_memory(parts, run_dir, evaluating=False) if is_out_of_memory(error) else None


def _check_room(parts: Parts, folder: Path) -> None:
    """Raises StorageFailed where the disk lacks room for the checkpoints to come, before anything is written.

    Those that lie there already make room for others.
    """
    needed, free, held = expected_bytes(parts.state), free_bytes(folder), num_bytes(folder / "checkpoints")
    advice = "make room, or set run_dir to a folder on another disk"
    if free + held < needed:
        text = f"{folder}: a checkpoint needs about {needed:,} bytes, {free:,} are free"
        raise StorageFailed(f"{text}; {advice}")
    kept = _most_kept(parts)
    if free + held < needed * kept:
        text = f"{folder}: {kept} checkpoints of about {needed:,} bytes are kept, {free:,} bytes are free"
        raise StorageFailed(f"{text}; {advice}, or checkpoint.keep_last=1")


def _most_kept(parts: Parts) -> int:
    """How many checkpoints the run's folder holds at most."""
    offered = {"folder": Path(), "run_id": "", "record": None}
    with contextlib.closing(parts.make("checkpoint", offered)) as checkpoints:
        kept: int = checkpoints.most_kept(parts.state.total_steps)
    return kept
