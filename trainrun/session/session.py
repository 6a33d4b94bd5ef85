"""Train one run in this process: claim its folder, restore its state, train, log every event."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from trainrun import ranks
from trainrun.assembly.build import Parts
from trainrun.assembly.compiled import compiled
from trainrun.assembly.costs import memory_at_end
from trainrun.assembly.schedule import Rates
from trainrun.checkpoint.state import TrainState
from trainrun.checkpoint.store import expected_bytes
from trainrun.config.compose.composer import Composition, to_yaml
from trainrun.logger.lines import describe_kept_weights as describe_final_weights
from trainrun.loop.loop import Loop
from trainrun.run import signing
from trainrun.run.directory import ROOT, claim
from trainrun.run.files import free_bytes, read_json, replace_json, replace_text, storage_errors
from trainrun.run.history import history_of
from trainrun.run.listing import num_bytes
from trainrun.run.lock import lock
from trainrun.run.record import Record, restore_status, write_status
from trainrun.runtime.signals import Signals, exit_code, raise_again
from trainrun.runtime.slurm import requeue
from trainrun.session.failure import failure_recorded, record_for_main_process, reported, send_failure
from trainrun.session.provenance import Changes, add_lineage, environment
from trainrun.session.restore import NOTHING, StoredState, lr_preview, restore, stored_state
from trainrun.session.sample_pictures import sample_pictures
from trainrun.session.sinks import Sink, sinks_of, with_histograms
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import StorageError
from trainrun.vocabulary.events import Evaluated, Event, Finished, Interrupted, Started

# Asked after each evaluation of the validation split but the last, with the run's length in steps: a
# reason to stop there, saved, or None.
ShouldStop = Callable[[Evaluated, int], str | None]


@dataclass(frozen=True)
class RunOptions:
    """The command as typed, and its changes with `notes` on them for people."""

    command: Sequence[str]
    quiet: bool
    changes: Changes = field(default_factory=dict)
    notes: Sequence[str] = ()
    previous_rates: Rates | None = None  # as planned so far, where the changes plan others
    watch: Callable[[Event], None] | None = None  # given every event after all loggers
    should_stop: ShouldStop | None = None


@dataclass(frozen=True)
class Result:
    """The result of a finished or interrupted run."""

    run_dir: Path
    exit_code: int
    state: str  # "completed" or "interrupted"
    reason: str  # "budget", "stop_at", "early_stopping", a signal's name or "time_limit"
    step: int
    best: float | None
    seconds: float  # of training, over all processes of the run
    metrics: Mapping[str, Mapping[str, float]]  # the last of each split
    final_weights: str  # which weights it ended with, in words; empty where it was interrupted
    seconds_by_part: Mapping[str, float]  # steps, data, evaluation, save, logging
    memory: str = ""  # at its peak beside what was planned, in words

    def history(self, frame: bool = False) -> Any:
        """The run's curves, as `trainrun.history` returns them."""
        return history_of(self.run_dir, frame)


def start(composition: Composition, parts: Parts, options: RunOptions, run_dir: Path | None = None) -> Result:
    """Claim a folder for a new run and train. `run_dir`: a sweep's job has its folder already."""
    parts.runtime.require_sync()
    requested_dir = composition.settings["run_dir"]
    if requested_dir and not run_dir and ranks.is_main_process() and _is_run(requested_dir):
        claim(requested_dir)  # raises, before compiling takes its time
    parts = compiled(parts, options.quiet)
    if not ranks.is_main_process():
        return _assist(parts, options)
    samples = _logged_samples(parts)
    raise_again()
    check_disk_space(parts, run_dir or Path(requested_dir or ROOT).expanduser())
    folder, owner = (run_dir, lock(run_dir)) if run_dir else claim(requested_dir)
    settings = _pinned(composition.storable, parts)
    settings |= {"name": None} if run_dir else {}  # a sweep's name is not its jobs'
    with owner, failure_recorded(folder):
        with storage_errors(folder):
            (folder / ".hydra").mkdir(exist_ok=True)
            for name, text in composition.record.items():
                (folder / ".hydra" / name).write_text(text, encoding="utf-8")
            signing.sign(folder, signing.new_id(), to_yaml(settings))
            replace_text(folder / "config.yaml", to_yaml(settings))  # a run's from here on
        return _run(parts, folder, settings, options, samples, NOTHING)


def continue_run(parts: Parts, run_dir: Path, storable: Mapping[str, Any], options: RunOptions) -> Result:
    """Train from the newest valid checkpoint of the folder, or from the beginning, to the end.

    What `options` change becomes the run's once this process holds the folder's lock.
    """
    parts.runtime.require_sync()
    parts = compiled(parts, options.quiet)
    if not ranks.is_main_process():
        return _assist(parts, options)
    raise_again()
    check_disk_space(parts, run_dir)
    with lock(run_dir):
        stored = stored_state(run_dir)
        if options.notes:
            say(*options.notes)
        return _run(parts, run_dir, storable, options, [], stored)


def _run(
    parts: Parts,
    run_dir: Path,
    storable: Mapping[str, Any],
    options: RunOptions,
    samples: Sequence[Event],
    stored: StoredState,
) -> Result:
    """Restore the state, open the records and follow the loop; the caller holds the folder's lock.

    Whatever may be refused is read and checked before anything is written.
    """
    ranks.broadcast_object(str(run_dir))
    resumed_from = restore(parts, stored.parts, options)
    run_id = stored.run_id or signing.stored_id(run_dir) or signing.new_id()
    loggers = parts.loggers(run_dir)
    with (
        contextlib.closing(Record(run_dir)) as record,
        _loop_of(parts, run_dir, run_id, record) as (loop, signals),
    ):
        loop.checkpoints.clean()
        record.cut(stored.metrics_bytes)
        _write_start(parts, run_dir, storable, options, run_id)
        sinks = sinks_of(record, loggers, run_dir, options)
        started = _started(parts, run_dir, storable, resumed_from)
        events = chain([started, *samples], _training(loop, parts, options, signals))
        signals.install()
        with reported(lambda error: send_failure(error, loop, sinks, parts.state.step), parts, run_dir):
            result = _follow(events, sinks, run_dir, parts.state)
        if result.reason == signals.preemption:
            say(requeue())
        return replace(result, memory=memory_at_end(parts.settings, parts.state, parts.activations))


def _assist(parts: Parts, options: RunOptions) -> Result:
    """Run any other rank: compute, and leave folder, records and loggers to the main process."""
    run_dir = Path(ranks.broadcast_object(""))
    with _loop_of(parts, run_dir, "", None) as (loop, signals):
        restore(parts, None, options)
        signals.install()
        with reported(lambda error: record_for_main_process(run_dir, error), parts, run_dir):
            return _follow(loop.train(parts.state), [], run_dir, parts.state)


@contextlib.contextmanager
def _loop_of(
    parts: Parts, run_dir: Path, run_id: str, record: Record | None
) -> Iterator[tuple[Loop, Signals]]:
    signals = parts.runtime.signals()
    with contextlib.ExitStack() as closing:
        closing.callback(signals.restore)
        loop = parts.loop(run_dir, run_id, record, signals)
        closing.callback(loop.checkpoints.close)
        yield loop, signals


def _training(loop: Loop, parts: Parts, options: RunOptions, signals: Signals) -> Iterator[Event]:
    """The loop's events, with histograms where a logger asks; stopped where `should_stop` has a reason."""
    events, state = loop.train(parts.state), parts.state
    if any(node.get("histograms") for node in (parts.settings["logger"] or {}).values()):
        events = with_histograms(events, state.model)
    for event in events:
        yield event
        if options.should_stop is None or not isinstance(event, Evaluated) or event.split != "val":
            continue
        if event.step < state.total_steps and (reason := options.should_stop(event, state.total_steps)):
            signals.ask(reason)


def _follow(events: Iterable[Event], sinks: Sequence[Sink], run_dir: Path, state: TrainState) -> Result:
    """Hand every event to every sink, in order; the last event says how the run ended."""
    metrics: dict[str, Mapping[str, float]] = {}
    event: Event | None = None
    for event in events:
        for sink in sinks:
            sink(event)
        if isinstance(event, Evaluated):
            metrics[event.split] = event.metrics
    assert isinstance(event, Interrupted | Finished)
    if isinstance(event, Interrupted):
        end, weights = (exit_code(event.signal), "interrupted", event.signal), ""
    else:
        end, weights = (0, "completed", event.reason), describe_final_weights(event)
    seconds, by_part = event.seconds, event.seconds_by_part
    return Result(run_dir, *end, state.step, state.best, seconds, metrics, weights, by_part)


# What a start checks and writes


def _is_run(folder: str) -> bool:
    return (Path(folder).expanduser() / "config.yaml").exists()


def check_disk_space(parts: Parts, folder: Path) -> None:
    """Raise StorageError where the disk lacks room for the checkpoints to come.

    Those that are there already count as room: new ones replace them.
    """
    needed, free = expected_bytes(parts.state), free_bytes(folder)
    room = free + num_bytes(folder / "checkpoints")
    advice = "make room, or set run_dir to a folder on another disk"
    if room < needed:
        text = f"{folder}: a checkpoint needs about {needed:,} bytes, {free:,} are free"
        raise StorageError(f"{text}; {advice}")
    offered = {"folder": Path(), "run_id": "", "record": None}
    with contextlib.closing(parts.make("checkpoint", offered)) as checkpoints:
        count: int = checkpoints.most_kept(parts.state.total_steps)
    if room < needed * count:
        text = f"{folder}: {count} checkpoints of about {needed:,} bytes are kept, {free:,} bytes are free"
        raise StorageError(f"{text}; {advice}, or checkpoint.keep_last=1")


def _pinned(settings: Mapping[str, Any], parts: Parts) -> dict[str, Any]:
    """Pin what a resume must not change: the threads, and the paths of initial weights and teacher.

    The number of threads decides how sums are rounded.
    """
    runtime = {**settings["runtime"], "threads": parts.runtime.num_threads}
    weights = {"init_from": str(parts.weights.path)} if parts.weights else {}
    loss = {**settings["loss"], **({"teacher": str(parts.teacher[0])} if parts.teacher else {})}
    return {**settings, "runtime": runtime, "loss": loss, **weights}


def _write_start(
    parts: Parts, run_dir: Path, storable: Mapping[str, Any], options: RunOptions, run_id: str
) -> None:
    """Bring the folder's files in line with the training that is about to begin."""
    command = shlex.join(options.command)
    with storage_errors(run_dir):
        if not (run_dir / "environment.json").exists():  # else an earlier start that was killed got as far
            content = environment(parts.runtime, parts.info, parts.samples_per_step, command)
            content["run_id"] = run_id
            if parts.teacher:
                content["teacher"] = {"path": str(parts.teacher[0]), "sha256": parts.teacher[1]}
            if parts.weights:
                content["init_from"] = {"path": str(parts.weights.path), "sha256": parts.weights.sha256}
            replace_json(run_dir / "environment.json", content)
        if read_json(run_dir / "status.json").get("run_id") != run_id:
            write_status(run_dir, name=_name(storable), run_id=run_id)
        restore_status(run_dir, parts.state.best_step)
        if options.changes:
            _write_settings(run_dir, to_yaml(dict(storable)))
    add_lineage(run_dir, command, parts.state.step, options.changes, lr_preview(parts))


def _write_settings(run_dir: Path, config: str) -> None:
    """Replace the run's settings: it is no longer complete, and what the user signed stays signed."""
    file = run_dir / "config.yaml"
    write_status(run_dir, state="running", exit_code=None, reason=None)
    before, run_id = file.read_text(encoding="utf-8"), signing.stored_id(run_dir)
    if run_id and signing.doubt(run_dir, before) is None:
        signing.sign(run_dir, run_id, before, config)  # both, for a kill before the next line
    replace_text(file, config)


# The first events


def _name(storable: Mapping[str, Any]) -> str | None:
    """The run's name; None where it comes from the environment, which is not written to the disk."""
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


def _logged_samples(parts: Parts) -> list[Event]:
    """The training samples that a logger asks for: at most one event."""
    members = parts.settings["logger"] or {}
    counts = {f"logger.{name}.samples": node.get("samples") or 0 for name, node in members.items()}
    key = max(counts, key=lambda key: counts[key], default="")
    return [sample_pictures(parts.data, counts[key], parts.settings["seed"], key)] if counts.get(key) else []
