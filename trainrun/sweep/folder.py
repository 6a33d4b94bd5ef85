"""Find a stored sweep by path, prefix, name or `last`, and read its sweep.json."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from trainrun.config.suggest import did_you_mean
from trainrun.run.directory import ROOT
from trainrun.run.listing import printable
from trainrun.vocabulary.errors import ConfigError, ResumeError

FILE = "sweep.json"
PLACE = ROOT / "multirun"
_MOST_BYTES = 1 << 25  # a job takes about a thousand: more than any sweep has
_LARGEST = 1e300  # far above any metric, and sums of such numbers stay finite
_T = TypeVar("_T")


@dataclass(frozen=True)
class SweptJob:
    """One job of a sweep. What its record lacks is None or empty."""

    key: str
    number: int
    folder: str  # below the sweep's, one name
    overrides: tuple[str, ...]
    swept: Mapping[str, Any]  # "optimizer.lr" -> 0.1; seed and fold are among them
    state: str  # completed, interrupted, failed, pruned, paused, pending
    value: float | None  # of what is monitored, at its best
    step: int | None
    seconds: float | None
    exit_code: int | None
    reason: str
    test: Mapping[str, float]

    @property
    def is_completed(self) -> bool:
        return self.state == "completed"


@dataclass(frozen=True)
class StoredSetting:
    """The jobs that differ in seed and fold alone."""

    swept: Mapping[str, Any]
    mean: float | None
    std: float | None  # None where a single job has a value
    count: int
    values: tuple[float, ...]
    jobs: tuple[str, ...]  # their keys


@dataclass(frozen=True)
class Best:
    """The job with the best value, and the command that repeats it."""

    key: str
    folder: str
    value: float
    command: str


@dataclass(frozen=True)
class StoredSweep:
    """A sweep as its sweep.json has it."""

    path: Path
    words: tuple[str, ...]  # of the command
    signature: Any  # of the words, made and checked by `trainrun.run.signing`
    sweeper: str
    monitor: str  # "val/accuracy"
    mode: str  # max or min: which way is better
    state: str
    best: Best | None
    settings: tuple[StoredSetting, ...]  # the best first, those without a value last
    jobs: tuple[SweptJob, ...]


def find_sweep(sweep: str) -> Path:
    """The folder that SWEEP means: a path, `last`, or a name below outputs/multirun/ or its beginning.

    Raises ResumeError naming what there is, ConfigError where several begin so.
    """
    path = Path(sweep).expanduser()
    path = path.parent if path.name == FILE else path
    if (path / FILE).is_file():
        return path
    folders = sweeps()
    if sweep == "last":
        if folders:
            return folders[-1]
        raise ResumeError(f"SWEEP: there is no sweep in {PLACE}/ yet; start one with trainrun -m")
    prefix = sweep.removeprefix(f"{PLACE}/").rstrip("/")
    matching = [folder for folder in folders if folder.name.startswith(prefix)]
    matching = [folder for folder in matching if folder.name == prefix] or matching
    if len(matching) == 1:
        return matching[0]
    if matching:
        shown = ", ".join(map(printable, matching[:4]))
        raise ConfigError.of("SWEEP", f"{sweep} begins the name of {len(matching)} sweeps: {shown}")
    if path.is_dir() or (PLACE / prefix).is_dir():
        raise ResumeError(f"SWEEP: {sweep} has no {FILE}; the sweep's own line, issued again, completes it")
    hint = did_you_mean(prefix, [folder.name for folder in folders])
    newest = ", ".join(map(printable, folders[-3:])) or "none"
    raise ResumeError(f"SWEEP: no sweep is called {sweep}{hint or f'; the newest: {newest}'}")


def find_named(run: str) -> Path | None:
    """The sweep whose folder or whole name RUN is; None where it may mean a run."""
    places = (Path(run).expanduser(), PLACE / run.removeprefix(f"{PLACE}/").rstrip("/"))
    return next((path for path in places if (path / FILE).is_file()), None)


def sweeps() -> list[Path]:
    """Every sweep below outputs/multirun/, the one recorded last at the end."""
    folders = []
    for file in PLACE.glob(f"*/{FILE}"):
        with contextlib.suppress(OSError):  # it was removed meanwhile
            folders.append((file.stat().st_mtime_ns, file.parent))
    return [folder for _, folder in sorted(folders)]


def read(path: Path) -> StoredSweep:
    """The sweep in a folder. Raises ResumeError for a record that no sweep has written."""
    file = path / FILE
    try:
        if file.exists() and not file.is_file():
            raise ValueError("is a folder, a pipe or a device, not a file")
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError(f"is larger than a sweep's record can be, {_MOST_BYTES:,} bytes")
        return _sweep(path, _object(json.loads(file.read_text(encoding="utf-8")), "the file"))
    except OSError as error:
        raise ResumeError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        text = "the sweep's own line, issued again, writes a new one"
        raise ResumeError(f"{file}: is damaged: {printable(error)}; {text}") from None


def _sweep(path: Path, content: Mapping[str, Any]) -> StoredSweep:
    mode, signature = content.get("mode"), content.get("signature")
    if mode not in ("max", "min"):
        raise ValueError(f"mode must be max or min, got {_shown(mode)}")
    jobs, settings = _each(content, "jobs", _job), _each(content, "settings", _setting)
    keys = {job.key for job in jobs}
    if lost := [key for setting in settings for key in setting.jobs if key not in keys]:
        raise ValueError(f"settings name a job that is not there, {lost[0]}")
    words = _each(content, "words", printable)
    sweeper, monitor, state = _texts(content, "sweeper", "monitor", "state")
    best = None
    if content.get("best") is not None:
        stored_best = _object(content["best"], "best")
        value = _number(stored_best.get("value"), "best.value")
        key, folder, command = _texts(stored_best, "key", "folder", "command")
        best = None if value is None else Best(key, folder, value, command)
    return StoredSweep(path, words, signature, sweeper, monitor, mode, state, best, settings, jobs)


def _job(content: Any) -> SweptJob:
    job = _object(content, "a job")
    folder = job.get("folder")
    if not isinstance(folder, str) or folder in ("", ".", "..") or Path(folder).name != folder:
        raise ValueError(f"a job's folder must be one name, got {_shown(folder)}")
    folder, overrides, swept = printable(folder), _each(job, "overrides", printable), _swept(job)
    key, state, reason = _texts(job, "key", "state", "reason")
    value, seconds = _number(job.get("value"), "value"), _number(job.get("seconds"), "seconds")
    number, step, exit_code = (_int(job, name) for name in ("number", "step", "exit_code"))
    test = {}
    for name, figure in _object(job.get("test") or {}, "test").items():
        if (finite := _number(figure, name)) is not None:
            test[printable(name)] = finite
    about = (key, number or 0, folder, overrides, swept, state)
    return SweptJob(*about, value, step, seconds, exit_code, reason, test)


def _setting(content: Any) -> StoredSetting:
    setting = _object(content, "a setting")
    values = _each(setting, "values", lambda value: _number(value, "values"))
    mean, std = _number(setting.get("mean"), "mean"), _number(setting.get("std"), "std")
    finite = tuple(value for value in values if value is not None)
    jobs = _each(setting, "jobs", printable)
    return StoredSetting(_swept(setting), mean, std, _int(setting, "count") or 0, finite, jobs)


def _texts(content: Mapping[str, Any], *names: str) -> list[str]:
    return [printable(content.get(name)) for name in names]


def _swept(content: Mapping[str, Any]) -> dict[str, Any]:
    return {printable(key): value for key, value in _object(content.get("swept"), "swept").items()}


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must hold names and values, got {_shown(value)}")
    return value


def _each(content: Mapping[str, Any], name: str, read_item: Callable[[Any], _T]) -> tuple[_T, ...]:
    values = content.get(name)
    if not isinstance(values, list):
        raise ValueError(f"{name} must be a list, got {_shown(values)}")
    return tuple(map(read_item, values))


def _number(value: Any, name: str) -> float | None:
    """A number as arithmetic can take it; None for one that is not finite."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{printable(name)} must be a number, got {_shown(value)}")
    return float(value) if abs(value) < _LARGEST and not math.isnan(value) else None


def _int(content: Mapping[str, Any], name: str) -> int | None:
    value = _number(content.get(name), name)
    return None if value is None else int(value)


def _shown(value: Any) -> str:
    text = printable(json.dumps(value))
    return text if len(text) <= 40 else f"{text[:39]}\N{HORIZONTAL ELLIPSIS}"
