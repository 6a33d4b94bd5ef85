"""Where runs lie: claiming a new folder, and finding one by path, prefix, name or `last`."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trainrun.errors import CannotResume, ConfigError, FolderBusy, StorageFailed
from trainrun.run.files import read_json
from trainrun.run.lock import lock

ROOT = Path("outputs")


def claim(run_dir: str | None) -> tuple[Path, IO[str]]:
    """Create a run's folder and own it: `run_dir`, or outputs/<date>/<time>, numbered if taken.

    Returns the folder and its lock. A folder that a start left behind before it wrote a config is
    unused. Raises FolderBusy where `run_dir` is a run's already, StorageFailed where it cannot be made.
    """
    try:
        path = _stamped() if run_dir is None else _named(Path(run_dir).expanduser())
        owner = lock(path)
    except FileExistsError:
        raise FolderBusy(f"run_dir: {run_dir} is a file") from None
    except OSError as error:
        raise StorageFailed(f"run_dir: cannot create {run_dir or ROOT}: {error.strerror}") from None
    if (path / "config.yaml").exists():  # of several that found it empty the first has it
        owner.close()
        raise _used(path)
    return path, owner


def _named(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    if (path / "config.yaml").exists():
        raise _used(path)
    if any(not one.name.startswith((".lock", ".hydra", ".tmp-")) for one in path.iterdir()):
        raise FolderBusy(f"run_dir: {path} is not empty; name another folder")
    return path


def _stamped() -> Path:
    base = ROOT / time.strftime("%Y-%m-%d") / time.strftime("%H-%M-%S")
    base.parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, 10_000):
        path = base if number == 1 else base.with_name(f"{base.name}-{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise StorageFailed(f"run_dir: no free name beside {base}")


def _used(path: Path) -> FolderBusy:
    text = f"run_dir: {path} holds a run already; continue it with trainrun resume {shlex.quote(str(path))}"
    return FolderBusy(f"{text}, or the same line with resume=auto, or name another folder")


def find(run: str) -> Path:
    """The folder that RUN means: a path, `last`, a run's `name`, or the beginning of a path below outputs/.

    Of several runs with one name it is the newest. Raises CannotResume naming what there is.
    """
    path = Path(run).expanduser()
    if (path / "config.yaml").is_file():
        return path
    known = sorted(_runs(), key=_started)
    if run == "last":
        if known:
            return known[-1]
        raise CannotResume(f"RUN: there is no run in {ROOT}/ yet; start one with trainrun")
    if named := [one for one in known if read_json(one / "status.json").get("name") == run]:
        return named[-1]
    prefix = run.removeprefix(f"{ROOT}/")
    matching = [one for one in known if str(one.relative_to(ROOT)).startswith(prefix)]
    matching = [one for one in matching if str(one.relative_to(ROOT)) == prefix] or matching
    if len(matching) == 1:
        return matching[0]
    if matching:
        shown = ", ".join(str(one) for one in matching[:4])
        raise ConfigError.one("RUN", f"{run} begins the path of {len(matching)} runs: {shown}")
    shown = ", ".join(str(one) for one in known[-3:]) or "none"
    raise CannotResume(f"RUN: no run is called {run}; the newest: {shown}")


def _runs() -> Iterator[Path]:
    for place in ("*", "*/*", "multirun/*/*"):
        for config in ROOT.glob(f"{place}/config.yaml"):
            yield config.parent


def _started(path: Path) -> tuple[float, str]:
    return float(read_json(path / "status.json").get("started", 0.0)), str(path)
