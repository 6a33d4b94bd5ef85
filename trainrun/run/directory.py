"""Where runs lie: claiming a new folder, and finding one by path, prefix, name or `last`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from trainrun.errors import CannotResume, ConfigError, FolderBusy, StorageFailed
from trainrun.run.files import read_json

ROOT = Path("outputs")


def claim(run_dir: str | None) -> Path:
    """Create a run's folder exclusively: `run_dir`, or outputs/<date>/<time>, numbered if taken.

    Raises FolderBusy where `run_dir` is already a run's, StorageFailed where it cannot be made.
    """
    try:
        if run_dir is not None:
            path = Path(run_dir).expanduser()
            path.mkdir(parents=True, exist_ok=True)
            if (path / "config.yaml").exists():
                text = f"run_dir: {path} holds a run already"
                raise FolderBusy(f"{text}; continue it with trainrun resume {path}, or name another")
            if any(path.iterdir()):
                raise FolderBusy(f"run_dir: {path} is not empty; name another folder")
            (path / ".lock").touch(exist_ok=False)  # of two that found it empty, one gets it
            return path
        base = ROOT / time.strftime("%Y-%m-%d") / time.strftime("%H-%M-%S")
        base.parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, 10_000):
            path = base if number == 1 else base.with_name(f"{base.name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
    except FileExistsError:
        raise FolderBusy(f"run_dir: {run_dir} is a file, or another run just took it") from None
    except OSError as error:
        raise StorageFailed(f"run_dir: cannot create {run_dir or ROOT}: {error.strerror}") from None
    raise StorageFailed(f"run_dir: no free name beside {base}")


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
