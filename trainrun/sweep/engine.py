"""Run a sweep, `trainrun -m [overrides]`: jobs known by their settings, trained where they are new.

A sweep's folder holds a folder for each job, named by the hash of its settings. So the same line
skips what is finished and goes on with what was interrupted, and a wider one adds what is new.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from trainrun import ranks
from trainrun.config import imports
from trainrun.config.call import StoredOrigin
from trainrun.config.compose.composer import (
    Composer,
    Composition,
    Space,
    experiment_files,
    parse_arguments,
    problems_of,
)
from trainrun.config.compose.grammar import value_of
from trainrun.config.overrides import key_of
from trainrun.config.space import Point, PointBatch, Words
from trainrun.config.suggest import hydra_value, together
from trainrun.run import signing
from trainrun.run.directory import ROOT
from trainrun.run.files import read_json, storage_failed
from trainrun.run.lock import is_held, lock
from trainrun.session.child import ENDING, handled
from trainrun.session.process_state import current_code
from trainrun.sweep.closing import close_sweep
from trainrun.sweep.folder import FILE, StoredSweep, read
from trainrun.sweep.identity import digest, identity, is_left_out
from trainrun.sweep.job import STOP, Job, stop
from trainrun.sweep.outcome import PAUSED, PRUNED, TriedPoint, outcome
from trainrun.sweep.sweep import counted
from trainrun.sweep.sweep_json import RunningSweep, is_trusted, write_sweep_json
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError, FolderBusyError, Problem, ResumeError

_RESUMED = tuple(f"sweep.{name}" for name in ("repeat_failed", "retries", "fail_fast", "trials"))


def resume(folder: Path, more: Sequence[str], quiet: bool) -> int:
    """Resume a sweep: issue its stored line again. `more` are further words about the sweep itself.

    Raises ResumeError where its jobs would be different today, ConfigError for what a file must not say.
    """
    stored = read(folder)
    doubt = signing.doubt_words(stored.words, stored.signature)
    imports.admit(None if doubt is None else _trusted(more))
    line = shlex.join(["trainrun", *stored.words])
    for word in stored.words:
        if not is_trusted(word):
            text = "is taken only from the command line; if you trust it, issue the line yourself"
            raise ConfigError.of(key_of(word), text, line)
    if other := [word for word in more if key_of(word) not in (*_RESUMED, "runtime.trust")]:
        text = f"makes another sweep; a stored one takes {', '.join(_RESUMED)}"
        raise ConfigError([Problem(key_of(word), text) for word in other])
    replaced = {key_of(word) for word in more}
    words = [*(word for word in stored.words if key_of(word) not in replaced), *more]
    arguments = parse_arguments(experiment_files(words))
    typed = [word for word in words if key_of(word) not in ("sweep.repeat_failed", "runtime.trust")]
    return sweep(Composer(arguments.config_dir), arguments.overrides, typed, quiet, stored, doubt)


def _trusted(words: Sequence[str]) -> tuple[str, ...]:
    """The packages that the user's own words trust."""
    values = [value_of(word) for word in words if key_of(word) == "runtime.trust"]
    return tuple(str(name) for value in values if isinstance(value, list) for name in value)


def sweep(
    composer: Composer,
    overrides: list[str],
    typed: Sequence[str],
    quiet: bool,
    stored: StoredSweep | None = None,
    doubt: str | None = None,
) -> int:
    """Check every job before the first starts, run what is left to do, and print the result.

    `stored` is the sweep that is resumed, whose jobs must be the same ones still. `doubt` says why it
    may be a stranger's.
    """
    from trainrun.sweep.plugins import search_of

    if ranks.size() > 1:
        text = "a sweep starts one process for each job; run it without torchrun, or its jobs one by one"
        raise ConfigError.of("-m", text)
    overrides, typed = _with_source(overrides), _with_source(typed)
    origin, trust = StoredOrigin(stored.path, doubt) if stored else None, _trusted(overrides)
    space, composed, folder = planned(composer, overrides, stored, origin, trust)
    first = next(iter(composed.values())).settings
    with _owned(folder):
        search = search_of(space, first, folder)
        say(f"sweep {folder}: {search.strategy.about()}")
        signature = signing.sign_words(typed) if doubt is None else None
        options = first["sweep"]
        running = RunningSweep(
            space, folder, typed, options, search, quiet, composed, signature, origin, trust
        )
        with composer.explained(overrides), _stoppable(folder):
            for batch in search.strategy.batches():
                _run(running, batch)
                if (folder / STOP).exists():
                    break
        return close_sweep(running)


def planned(
    composer: Composer,
    overrides: list[str],
    stored: StoredSweep | None,
    origin: StoredOrigin | None = None,
    trust: Collection[str] = (),
) -> tuple[Space, dict[Words, Composition], Path]:
    """The space of a sweep, its jobs that can be composed beforehand, and its folder.

    Raises ConfigError with the problems of all jobs.
    """
    from trainrun.sweep.plugins import check_search

    space = composer.space(overrides)
    with composer.explained(overrides):
        composed = {words: space.job(words) for words in space.samples}
    jobs = composed.values()
    with current_code({"jobs": [job.settings for job in jobs]}):
        if problems := together([problems_of(job, origin, trust) for job in jobs]):
            raise ConfigError(problems)
    _refuse_incomparable(jobs)
    first = next(iter(jobs)).settings
    folder = stored.path if stored else _folder(first, space)
    if stored and space.is_grid:
        _refuse_others(stored, jobs)
    check_search(space, first["sweep"]["trials"])
    return space, composed, folder


def _with_source(words: Sequence[str]) -> list[str]:
    """The words with the run that `init_from` means now: `last` would be another one for every job."""
    from trainrun.session.find_run import find_run

    return [
        f"init_from={hydra_value(str(find_run(str(value_of(word)))))}"
        if key_of(word) == "init_from" and _is_name(value_of(word))
        else word
        for word in words
    ]


def _is_name(source: Any) -> bool:
    """Whether a run is named, rather than a file, a folder or several."""
    text = "" if source is None else str(source)
    return text not in ("", "pretrained") and "$" not in text and not Path(text).expanduser().exists()


def _refuse_incomparable(jobs: Iterable[Composition]) -> None:
    """Raise ConfigError where jobs monitor several metrics, which no table can rank."""
    monitors = {(job.settings["monitor"].removeprefix("val/"), job.settings["monitor_mode"]) for job in jobs}
    if len(monitors) > 1:
        names = " and ".join(sorted(f"val/{name}" for name, _ in monitors))
        text = f"the jobs of a sweep are ranked by one metric; these monitor {names}"
        advice = "set one that all have, such as monitor=val/loss, or start separate sweeps"
        raise ConfigError.of("monitor", f"{text}; {advice}")


def _refuse_others(stored: StoredSweep, jobs: Iterable[Composition]) -> None:
    """Raise ResumeError where a job that was begun is not among today's."""
    today = {identity(job.settings) for job in jobs}
    begun = [job for job in stored.jobs if outcome(stored.path / job.folder).state != "pending"]
    if lost := [job for job in begun if job.key not in today]:
        text = f"conf/ or an experiment's file has changed since: {len(lost)} of its jobs would be different"
        line = shlex.join(["trainrun", *stored.words])
        raise ResumeError(f"{stored.path}: {text}; as a new sweep: {line}")


def _folder(settings: Mapping[str, Any], space: Space) -> Path:
    """`run_dir`, or a folder that the same line finds again: by its name, or by what it holds fixed."""
    if settings["run_dir"]:
        return Path(settings["run_dir"]).expanduser()
    if settings["name"]:
        return ROOT / "multirun" / str(settings["name"])
    fixed = sorted(word for word in space.fixed if not is_left_out(key_of(word)))
    varied = sorted(axis.key if space.is_grid else repr(axis) for axis in space.axes)
    swept = "-".join(sorted(key.rpartition(".")[2] for axis in space.axes for key in axis.key.split(",")))
    mark = digest([fixed, varied, space.sweeper.get("_target_")])[:6]
    return ROOT / "multirun" / "-".join(filter(None, [swept[:40], mark]))


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """The folder, made where it is new, for this process alone."""
    if (folder / "config.yaml").exists() or (
        folder.is_dir() and any(folder.iterdir()) and not (folder / FILE).exists() and not _is_begun(folder)
    ):
        raise FolderBusyError(f"run_dir: {folder} holds something else; name another folder for the sweep")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        owner = lock(folder)
        (folder / STOP).unlink(missing_ok=True)
    except FileExistsError:
        raise FolderBusyError(f"run_dir: {folder} is a file") from None
    except OSError as error:
        raise storage_failed(folder, error) from None
    with owner:
        yield


def _is_begun(folder: Path) -> bool:
    """Whether a start was killed there before it wrote its first record."""
    return all(path.name.startswith((".", "study.db")) for path in folder.iterdir())


def _run(sweep: RunningSweep, batch: PointBatch) -> None:
    """Run what is left to do of a batch, and give the search the outcomes of all its points."""
    keys: dict[str, Point] = {}
    folders: list[tuple[Point, Path]] = []
    for point in batch.points:
        job = sweep.composed.pop(point.words, None) or _composed(sweep, point)
        key = identity(job.settings)
        keys.setdefault(key, point)
        folders.append((point, sweep.folder / key))
        sweep.planned.setdefault(key, (point, job))
    todo = {key: point for key, point in keys.items() if _is_due(sweep, key, batch.share)}
    _say_counts(sweep, keys, todo)
    write_sweep_json(sweep, "running")
    if todo:
        sweep.begun |= set(todo)
        _launch(sweep, {key: point.words for key, point in todo.items()}, _job(sweep, todo, batch.share))
    tried = [TriedPoint(point, folder, outcome(folder)) for point, folder in folders]
    sweep.search.strategy.tell(tried)


def _launch(sweep: RunningSweep, jobs: Mapping[str, Words], job: Job) -> None:
    keys, size = list(jobs), sweep.search.chunk or len(jobs)
    for start in range(0, len(keys), size):
        chunk = {key: jobs[key] for key in keys[start : start + size]}
        try:
            sweep.space.launch(chunk, job, sweep.folder, sweep.search.launcher)
        except Exception:
            if not (sweep.folder / STOP).exists():
                raise  # else the signal has ended the launcher's own processes as well
        write_sweep_json(sweep, "running")


def _composed(sweep: RunningSweep, point: Point) -> Composition:
    job = sweep.space.job(point.words)
    if problems := problems_of(job, sweep.origin, sweep.trust):
        raise ConfigError(problems)
    return job


def _is_due(sweep: RunningSweep, key: str, share: float | None) -> bool:
    """Whether something of a job is left to do, until `share` of its budget."""
    job = outcome(sweep.folder / key)
    if job.state == "failed":
        return bool(sweep.options["repeat_failed"]) and key not in sweep.begun
    if job.state == PAUSED and share is not None:
        return job.step < share * (job.total_steps or 0)
    return not job.is_over or (job.state == PRUNED and sweep.search.pruner is None)


def _job(sweep: RunningSweep, todo: Mapping[str, Point], share: float | None) -> Job:
    search, options = sweep.search, sweep.options
    numbers = {key: number for number, key in enumerate(sweep.planned, 1)}
    words = {key: shlex.join(map(_short, point.words)) for key, point in todo.items()}
    total = options["trials"] if search.name == "optuna" else len(sweep.planned)
    heads = {key: f"job {numbers[key]} of {total}{', ' * bool(text)}{text}:" for key, text in words.items()}
    return Job(
        sweep=sweep.folder,
        heads=heads,
        trials={key: point.trial or 0 for key, point in todo.items()},
        retries=options["retries"],
        fail_fast=options["fail_fast"],
        quiet=sweep.quiet or not search.in_turn,
        threads=search.threads,
        gpus=search.gpus,
        is_local=search.is_local,
        share=share,
        pruner=search.pruner,
    )


def _short(word: str) -> str:
    """An override with its number rounded, for people."""
    key, _, value = word.partition("=")
    return f"{key}={float(value):.4g}" if re.fullmatch(r"-?\d+\.\d{5,}(e-?\d+)?", value) else word


def _say_counts(sweep: RunningSweep, keys: Mapping[str, Point], todo: Mapping[str, Point]) -> None:
    """Print a line on a batch before it starts; where points come one at a time, on the first alone."""
    states = {key: outcome(sweep.folder / key).state for key in keys}
    due = [states[key] for key in todo]
    failed = sum(states[key] == "failed" for key in keys if key not in todo)
    parts = {
        "done before": len(keys) - len(todo) - failed,
        "failed before": failed,
        "to go on with": sum(state in ("interrupted", PAUSED) for state in due),
        "to repeat": due.count("failed"),
        "new": due.count("pending"),
    }
    if len(keys) > 1 or not sweep.begun:
        counts = ", ".join(f"{count} {kind}" for kind, count in parts.items() if count)
        say(f"{counted(len(keys), 'job')}: {counts}")


@contextlib.contextmanager
def _stoppable(folder: Path) -> Iterator[None]:
    """Within, a signal ends the jobs that run, saved, and no further one is begun."""
    starter = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != starter:
            os._exit(128 + number)
        stop(folder, signal.Signals(number).name)
        for status in folder.glob("*/status.json"):
            content = read_json(status)
            pid = content.get("pid")
            if content.get("state") == "running" and isinstance(pid, int) and is_held(status.parent):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)

    with handled(ENDING, end):
        yield
