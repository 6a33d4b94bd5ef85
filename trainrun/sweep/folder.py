"""Stored sweeps: finding one by path, prefix, name or `last`, and what its sweep.json tells."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from trainrun.config.suggest import did_you_mean
from trainrun.run.directory import ROOT
from trainrun.run.listing import printable
from trainrun.vocabulary.errors import CannotResume, ConfigError

FILE = "sweep.json"
PLACE = ROOT / "multirun"
_MOST_BYTES = 1 << 25
_T = TypeVar("_T")


@dataclass(frozen=True)
class SweptJob:
    """One job of a sweep. What its record does not tell is None or empty."""

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
    """What a sweep's folder tells of it."""

    path: Path
    words: tuple[str, ...]  # of the command
    sweeper: str
    monitor: str  # "val/accuracy"
    mode: str  # max or min: which way is better
    state: str
    jobs: tuple[SweptJob, ...]
    settings: tuple[StoredSetting, ...]  # the best first, those without a value last
    best: Best | None
    signature: Any = None  # of the words, as `trainrun.run.signing` makes and judges it


def find_sweep(sweep: str) -> Path:
    """The folder that SWEEP means: a path, `last`, or a name below outputs/multirun/ or its beginning.

    Raises CannotResume naming what there is, ConfigError where several begin so.
    """
    path = Path(sweep).expanduser()
    path = path.parent if path.name == FILE else path
    if (path / FILE).is_file():
        return path
    known = sweeps()
    if sweep == "last":
        if known:
            return known[-1]
        raise CannotResume(f"SWEEP: there is no sweep in {PLACE}/ yet; start one with trainrun -m")
    prefix = sweep.removeprefix(f"{PLACE}/").rstrip("/")
    matching = [one for one in known if one.name.startswith(prefix)]
    matching = [one for one in matching if one.name == prefix] or matching
    if len(matching) == 1:
        return matching[0]
    if matching:
        shown = ", ".join(printable(one) for one in matching[:4])
        raise ConfigError.one("SWEEP", f"{sweep} begins the name of {len(matching)} sweeps: {shown}")
    if path.is_dir() or (PLACE / prefix).is_dir():
        text = f"SWEEP: {sweep} has no {FILE}; the sweep's own line, issued again, completes it"
        raise CannotResume(text)
    hint = did_you_mean(prefix, [one.name for one in known])
    newest = ", ".join(printable(one) for one in known[-3:]) or "none"
    raise CannotResume(f"SWEEP: no sweep is called {sweep}{hint or f'; the newest: {newest}'}")


def named(run: str) -> Path | None:
    """The sweep whose folder or whole name RUN is; None where it may mean a run."""
    places = (Path(run).expanduser(), PLACE / run.removeprefix(f"{PLACE}/").rstrip("/"))
    return next((path for path in places if (path / FILE).is_file()), None)


def sweeps() -> list[Path]:
    """Every sweep below outputs/multirun/, the one recorded last at the end."""
    found = []
    for file in PLACE.glob(f"*/{FILE}"):
        try:
            found.append((file.stat().st_mtime_ns, file.parent))
        except OSError:
            continue  # it went away meanwhile
    return [path for _, path in sorted(found)]


def read(path: Path) -> StoredSweep:
    """The sweep in a folder. Raises CannotResume for a record that no sweep has written."""
    file = path / FILE
    try:
        if file.exists() and not file.is_file():
            raise ValueError("is a folder, a pipe or a device, not a file")
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError(f"is larger than a sweep's record can be, {_MOST_BYTES:,} bytes")
        return _sweep(path, _object(json.loads(file.read_text(encoding="utf-8")), "the file"))
    except OSError as error:
        raise CannotResume(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        text = "the sweep's own line, issued again, writes it anew"
        raise CannotResume(f"{file}: is damaged: {printable(error)}; {text}") from None


def _sweep(path: Path, content: Mapping[str, Any]) -> StoredSweep:
    if content.get("mode") not in ("max", "min"):
        raise ValueError(f"mode wants max or min, got {_shown(content.get('mode'))}")
    best = content.get("best")
    jobs = _each(content, "jobs", _job)
    settings = _each(content, "settings", _setting)
    keys = {one.key for one in jobs}
    if lost := [key for one in settings for key in one.jobs if key not in keys]:
        raise ValueError(f"settings name a job that is not there, {lost[0]}")
    return StoredSweep(
        path=path,
        words=_each(content, "words", printable),
        sweeper=printable(content.get("sweeper")),
        monitor=printable(content.get("monitor")),
        mode=content["mode"],
        state=printable(content.get("state")),
        jobs=jobs,
        settings=settings,
        best=None if best is None else _best(_object(best, "best")),
        signature=content.get("signature"),
    )


def _job(content: Any) -> SweptJob:
    one = _object(content, "a job")
    folder, test = one.get("folder"), one.get("test")
    if not isinstance(folder, str) or folder in ("", ".", "..") or Path(folder).name != folder:
        raise ValueError(f"a job's folder wants one name, got {_shown(folder)}")
    return SweptJob(
        key=printable(one.get("key")),
        number=_whole(one.get("number"), "number") or 0,
        folder=printable(folder),
        overrides=_each(one, "overrides", printable),
        swept=_swept(one),
        state=printable(one.get("state")),
        value=_number(one.get("value"), "value"),
        step=_whole(one.get("step"), "step"),
        seconds=_number(one.get("seconds"), "seconds"),
        exit_code=_whole(one.get("exit_code"), "exit_code"),
        reason=printable(one.get("reason")),
        test={printable(name): found for name, found in _figures(test).items()},
    )


def _setting(content: Any) -> StoredSetting:
    one = _object(content, "a setting")
    values = [_number(value, "values") for value in _each(one, "values", lambda value: value)]
    return StoredSetting(
        swept=_swept(one),
        mean=_number(one.get("mean"), "mean"),
        std=_number(one.get("std"), "std"),
        count=_whole(one.get("count"), "count") or 0,
        values=tuple(value for value in values if value is not None),
        jobs=_each(one, "jobs", printable),
    )


def _best(one: Mapping[str, Any]) -> Best | None:
    value = _number(one.get("value"), "best.value")
    texts = [printable(one.get(name)) for name in ("key", "folder", "command")]
    return None if value is None else Best(texts[0], texts[1], value, texts[2])


def _swept(one: Mapping[str, Any]) -> dict[str, Any]:
    return {printable(key): value for key, value in _object(one.get("swept"), "swept").items()}


def _figures(test: Any) -> dict[str, float]:
    found = {name: _number(value, name) for name, value in _object(test or {}, "test").items()}
    return {name: value for name, value in found.items() if value is not None}


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} wants names and values, got {_shown(value)}")
    return value


def _each(content: Mapping[str, Any], name: str, read_one: Callable[[Any], _T]) -> tuple[_T, ...]:
    values = content.get(name)
    if not isinstance(values, list):
        raise ValueError(f"{name} wants a list, got {_shown(values)}")
    return tuple(map(read_one, values))


def _number(value: Any, what: str) -> float | None:
    """A number as arithmetic can take it; None for one that is not finite."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{printable(what)} wants a number, got {_shown(value)}")
    return float(value) if abs(value) < 1e300 and not math.isnan(value) else None


def _whole(value: Any, what: str) -> int | None:
    found = _number(value, what)
    return None if found is None else int(found)


def _shown(value: Any) -> str:
    text = printable(json.dumps(value))
    return text if len(text) <= 40 else f"{text[:39]}\N{HORIZONTAL ELLIPSIS}"
