"""Where runs lie: claiming a new folder, and finding one by path, prefix, name or `last`."""

from __future__ import annotations

import contextlib
import shlex
import time
from pathlib import Path
from typing import IO

from trainrun.config.suggest import nearest
from trainrun.run import signing
from trainrun.run.files import object_in, read_json
from trainrun.run.lock import lock
from trainrun.vocabulary.errors import ConfigError, FolderBusyError, ResumeError, StorageError

ROOT = Path("outputs")
PLACES = ("*", "*/*", "multirun/*/*")  # where runs lie below it: run_dir=outputs/NAME, by date, in a sweep


def claim(run_dir: str | None) -> tuple[Path, IO[str]]:
    """Create a run's folder and own it: `run_dir`, or outputs/<date>/<time>, numbered if taken.

    Returns the folder and its lock. A folder that a start left behind before it wrote a config is
    unused. Raises FolderBusyError where `run_dir` is a run's already, StorageError where it cannot be made.
    """
    try:
        path = _stamped() if run_dir is None else _named(Path(run_dir).expanduser())
        owner = lock(path)
    except FileExistsError:
        raise FolderBusyError(f"run_dir: {run_dir} is a file") from None
    except OSError as error:
        raise StorageError(f"run_dir: cannot create {run_dir or ROOT}: {error.strerror}") from None
    if (path / "config.yaml").exists():  # of several that found it empty the first has it
        owner.close()
        raise _used(path)
    return path, owner


def _named(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    if (path / "config.yaml").exists():
        raise _used(path)
    begun = (".lock", ".hydra", signing.FILE)  # what a start that was killed leaves
    if any(entry.name not in begun and not entry.name.startswith(".tmp-") for entry in path.iterdir()):
        raise FolderBusyError(f"run_dir: {path} is not empty; name another folder")
    return path


def _stamped() -> Path:
    base = ROOT / time.strftime("%Y-%m-%d") / time.strftime("%H-%M-%S")
    for number in range(1, 10_000):
        path = base if number == 1 else base.with_name(f"{base.name}-{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            return path
    raise StorageError(f"run_dir: no free name beside {base}")


def _used(path: Path) -> FolderBusyError:
    text = f"run_dir: {path} holds a run already; continue it with trainrun resume {shlex.quote(str(path))}"
    return FolderBusyError(f"{text}, or the same line with resume=auto, or name another folder")


def find_run(run: str) -> Path:
    """The folder that RUN means: a path, `last`, a run's `name`, or the beginning of a path below outputs/.

    Of several runs with one name it is the newest. Raises ResumeError naming what there is.
    """
    return look_up(run)[0]


def look_up(run: str) -> tuple[Path, int]:
    """The folder that RUN means, as `find_run` has it, and how many older runs have the same name."""
    path = Path(run).expanduser()
    if (path / "config.yaml").is_file():
        return path, 0
    if any((path / name).exists() for name in ("checkpoints", "metrics.jsonl", "environment.json")):
        text = f"{path} holds a run that has lost its config.yaml, without which it cannot be built"
        raise ResumeError(f"RUN: {text}; bring that file back")
    names = runs()
    if run == "last" and not names:
        raise ResumeError(f"RUN: there is no run in {ROOT}/ yet; start one with trainrun")
    named = [*names] if run == "last" else [path for path in names if names[path] == run]
    if named:
        return named[-1], 0 if run == "last" else len(named) - 1
    return _by_path(run, names), 0


def _by_path(run: str, names: dict[Path, str]) -> Path:
    """The run whose path below outputs/ begins so."""
    prefix = run.removeprefix(f"{ROOT}/")
    matching = [path for path in names if any(word.startswith(prefix) for word in _words(path))]
    for place in (0, 1):  # a whole path wins over the beginning of another
        matching = [path for path in matching if _words(path)[place] == prefix] or matching
    if len(matching) == 1:
        return matching[0]
    if text := _of_sweep({path.parent for path in matching}):
        raise ConfigError.of("RUN", f"{run} is {text}")
    if matching:
        shown = ", ".join(str(path) for path in matching[:4])
        raise ConfigError.of("RUN", f"{run} begins the path of {len(matching)} runs: {shown}")
    candidates = [*names.values(), *(word for path in names for word in _words(path))]
    if near := nearest(prefix, filter(None, candidates)):
        raise ResumeError(f"RUN: no run is called {run}; did you mean {near}? trainrun runs lists them all")
    shown = ", ".join(str(path) for path in [*names][-3:]) or "none"
    raise ResumeError(f"RUN: no run is called {run}; the newest: {shown}")


def _of_sweep(parents: set[Path]) -> str:
    """What to say of runs that are all the jobs of one sweep; empty where they are not."""
    sweep = next(iter(parents), ROOT)
    if len(parents) != 1 or not (sweep / "sweep.json").is_file():
        return ""
    job = object_in(read_json(sweep / "sweep.json"), "best").get("folder")
    example = f", such as the best, {sweep / job}" if isinstance(job, str) else ""
    return f"a sweep; name one of its jobs{example}"


def runs() -> dict[Path, str]:
    """Every run below outputs/ and its name, the newest last; '' where none is stored."""
    dated = []
    for place in PLACES:
        for config in ROOT.glob(f"{place}/config.yaml"):
            if config.parent.name.startswith("."):  # a run's .hydra has one too
                continue
            status = read_json(config.parent / "status.json")
            started, name = status.get("started"), status.get("name")
            timestamp = float(started) if isinstance(started, (int, float)) and 0 < started < 1e12 else 0.0
            dated.append((timestamp, str(config.parent), name if isinstance(name, str) else ""))
    return {Path(path): name for _, path, name in sorted(dated)}


def short(path: Path) -> str:
    """A run's path as RUN may be typed: without outputs/, and a sweep's job as SWEEP/JOB."""
    return str(path.relative_to(ROOT)).removeprefix("multirun/")


def _words(path: Path) -> tuple[str, str]:
    return str(path.relative_to(ROOT)), short(path)
