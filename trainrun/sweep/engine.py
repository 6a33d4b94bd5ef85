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
from trainrun.config.check import problems_of
from trainrun.config.compose.composer import Composer, Composition, Space, experiment_files, parse_arguments
from trainrun.config.compose.grammar import value_of
from trainrun.config.overrides import key_of
from trainrun.config.space import Point, PointBatch, Words
from trainrun.config.suggest import hydra_value, together
from trainrun.run import signing
from trainrun.run.files import read_json, storage_failed
from trainrun.run.lock import is_held, lock
from trainrun.session.child import ENDING, handled
from trainrun.session.process_state import current_code
from trainrun.sweep.folder import FILE, PLACE, StoredSweep, read
from trainrun.sweep.identity import digest, identity, is_left_out
from trainrun.sweep.job import STOP, Job, stop
from trainrun.sweep.outcome import PAUSED, PRUNED, TriedPoint, outcome
from trainrun.sweep.plugins import check_search, search_of
from trainrun.sweep.random import draw_allowed
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
    if word := next((word for word in stored.words if not is_trusted(word)), None):
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
    """Check all jobs, run what is left to do, print the result. `doubt`: why `stored` may be a stranger's."""
    if ranks.size() > 1:
        text = f"a sweep starts its jobs' processes itself; run it without {ranks.command()[0]}"
        raise ConfigError.of("-m", f"{text}, and with sweep.ranks={ranks.size()} for as many in each job")
    overrides, typed = _with_source(overrides), _with_source(typed)
    origin = StoredOrigin(stored.path, doubt) if stored else None
    space, composed, folder = planned(composer, overrides, stored, origin)
    first = next(iter(composed.values())).settings
    with _owned(folder):
        search, strategy = search_of(space, first, folder)
        say(f"sweep {folder}: {strategy.about}")
        signature = signing.sign_words(typed) if doubt is None else None
        about = (space, folder, typed, first["sweep"], search, quiet, composed, signature)
        running = RunningSweep(*about, origin, _trusted(overrides))
        with composer.explained(overrides), _stoppable(folder):
            for batch in strategy.batches():
                strategy.tell(_tried(running, batch))
                if (folder / STOP).exists():
                    break
        from trainrun.sweep.closing import close_sweep

        return close_sweep(running)


def planned(
    composer: Composer, overrides: list[str], stored: StoredSweep | None, origin: StoredOrigin | None = None
) -> tuple[Space, dict[Words, Composition], Path]:
    """A sweep's space, jobs composed beforehand, and folder. Raises ConfigError with all their problems."""
    space = composer.space(overrides)
    with composer.explained(overrides):
        drawn = [] if space.is_grid else draw_allowed(space.axes, space.excludes, 0, 1)[0]
        composed = {words: space.job(words) for words in space.samples or drawn}
    jobs = list(composed.values())
    with current_code({"jobs": [job.settings for job in jobs]}):
        if problems := together([problems_of(job, origin, _trusted(overrides)) for job in jobs]):
            raise ConfigError(problems)
    _refuse_incomparable(jobs)
    first = jobs[0].settings
    folder = stored.path if stored else _folder(first, space)
    if stored and space.is_grid:
        _refuse_others(stored, jobs)
    check_search(space, first["sweep"]["trials"])
    return space, composed, folder


def _with_source(words: Sequence[str]) -> list[str]:
    """The words with the run that `init_from` means now: `last` would be another one for every job."""
    from trainrun.session.find_run import find_run

    replaced = []
    for word in words:
        source = value_of(word) if key_of(word) == "init_from" else None
        text = "" if source is None else str(source)
        is_word = text in ("", "pretrained") or "$" in text  # nothing, the library's own, or several
        is_run = not is_word and not Path(text).expanduser().exists()  # no file
        replaced.append(f"init_from={hydra_value(str(find_run(text)))}" if is_run else word)
    return replaced


def _refuse_incomparable(jobs: Iterable[Composition]) -> None:
    """Raise ConfigError where jobs monitor several metrics, which no table can rank."""
    monitors = {(job.settings["monitor"].removeprefix("val/"), job.settings["monitor_mode"]) for job in jobs}
    if len(monitors) > 1:
        names = " and ".join(sorted(f"val/{name}" for name, _ in monitors))
        text = f"the jobs of a sweep are ranked by one metric; these monitor {names}; set one that all have"
        raise ConfigError.of("monitor", f"{text}, such as monitor=val/loss, or start separate sweeps")


def _refuse_others(stored: StoredSweep, jobs: Iterable[Composition]) -> None:
    """Raise ResumeError where a job that was begun is not among today's."""
    today = {identity(job.settings) for job in jobs}
    begun = [job for job in stored.jobs if outcome(stored.path / job.folder).state != "pending"]
    if lost := [job for job in begun if job.key not in today]:
        text = f"conf/ or an experiment's file has changed since: {len(lost)} of its jobs would be different"
        raise ResumeError(f"{stored.path}: {text}; as a new sweep: {shlex.join(['trainrun', *stored.words])}")


def _folder(settings: Mapping[str, Any], space: Space) -> Path:
    """`run_dir`, or a folder that the same line finds again: by its name, or by what it holds fixed."""
    if settings["run_dir"]:
        return Path(settings["run_dir"]).expanduser()
    if settings["name"]:
        return PLACE / str(settings["name"])
    fixed = sorted(word for word in space.fixed if not is_left_out(key_of(word)))
    varied = sorted(axis.key if space.is_grid else repr(axis) for axis in space.axes)
    swept = "-".join(sorted(key.rpartition(".")[2] for axis in space.axes for key in axis.key.split(",")))
    mark = digest([fixed, varied, space.sweeper.get("_target_")])[:6]
    return PLACE / "-".join(filter(None, [swept[:40], mark]))


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """The folder, made where it is new, for this process alone."""
    files = [] if (folder / FILE).exists() or not folder.is_dir() else folder.iterdir()
    # A start that was killed before it wrote its first record left only these.
    is_foreign = not all(path.name.startswith((".", "study.db")) for path in files)
    if is_foreign or (folder / "config.yaml").exists():
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


def _tried(sweep: RunningSweep, batch: PointBatch) -> list[TriedPoint]:
    """Run what is left to do of a batch; returns the outcomes of all its points."""
    points: dict[str, Point] = {}
    folders: list[Path] = []
    for point in batch.points:
        job = sweep.composed.pop(point.words, None)
        if job is None:
            job = sweep.space.job(point.words)
            if problems := problems_of(job, sweep.origin, sweep.trust):
                raise ConfigError(problems)
        key = identity(job.settings)
        points.setdefault(key, point)
        folders.append(sweep.folder / key)
        sweep.planned.setdefault(key, (point, job))
    todo = {key: point for key, point in points.items() if _is_due(sweep, key, batch.share)}
    _say_counts(sweep, points, todo)
    write_sweep_json(sweep, "running")
    if todo:
        sweep.begun |= todo.keys()
        _launch(sweep, todo, _job(sweep, todo, batch.share))
    return [TriedPoint(p, folder, outcome(folder)) for p, folder in zip(batch.points, folders, strict=True)]


def _launch(sweep: RunningSweep, todo: Mapping[str, Point], job: Job) -> None:
    keys, size = list(todo), sweep.search.chunk or len(todo)
    for start in range(0, len(keys), size):
        chunk = {key: todo[key].words for key in keys[start : start + size]}
        try:
            sweep.space.launch(chunk, job, sweep.folder, sweep.search.launcher)
        except Exception:
            if not (sweep.folder / STOP).exists():
                raise  # else the signal has ended the launcher's own processes as well
        write_sweep_json(sweep, "running")


def _is_due(sweep: RunningSweep, key: str, share: float | None) -> bool:
    """Whether something of a job is left to do, until `share` of its budget."""
    job = outcome(sweep.folder / key)
    if job.state == "failed":
        return bool(sweep.options["repeat_failed"]) and key not in sweep.begun
    if job.state == PAUSED and share is not None:
        return job.step < share * (job.total_steps or 0)
    return not job.is_over or (job.state == PRUNED and sweep.search.pruner is None)


def _job(sweep: RunningSweep, todo: Mapping[str, Point], share: float | None) -> Job:
    numbers = {key: number for number, key in enumerate(sweep.planned, 1)}
    words = {key: shlex.join(map(_short, point.words)) for key, point in todo.items()}
    total = sweep.options["trials"] if sweep.search.name == "optuna" else len(sweep.planned)
    heads = {key: f"job {numbers[key]} of {total}{', ' * bool(text)}{text}:" for key, text in words.items()}
    trials = {key: point.trial or 0 for key, point in todo.items()}
    quiet = sweep.quiet or not sweep.search.in_turn
    return Job(sweep.folder, heads, trials, sweep.options, sweep.search, quiet, share)


def _short(word: str) -> str:
    """An override with its number rounded, for people."""
    key, _, value = word.partition("=")
    return f"{key}={float(value):.4g}" if re.fullmatch(r"-?\d+\.\d{5,}(e-?\d+)?", value) else word


def _say_counts(sweep: RunningSweep, keys: Collection[str], todo: Collection[str]) -> None:
    """Print a line on a batch before it starts; where points come one at a time, on the first alone."""
    if len(keys) == 1 and sweep.begun:
        return
    states = {key: outcome(sweep.folder / key).state for key in keys}
    due, done = [states[key] for key in todo], [states[key] for key in keys if key not in todo]
    parts = {
        "done before": len(done) - done.count("failed"),
        "failed before": done.count("failed"),
        "to go on with": due.count("interrupted") + due.count(PAUSED),
        "to repeat": due.count("failed"),
        "new": due.count("pending"),
    }
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
