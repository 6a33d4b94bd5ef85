"""Which folders below outputs/ hold nothing to go on from, and removing them.

Left alone, whatever else is said of them: what a process owns, what can be resumed, and what a
symbolic link leads to.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from trainrun.run import signing
from trainrun.run.directory import PLACES, ROOT
from trainrun.run.files import read_json
from trainrun.run.history import end_of
from trainrun.run.listing import ListedRun, has_checkpoint, is_starting, state_of
from trainrun.run.lock import lock
from trainrun.vocabulary.errors import FolderBusyError, NonFiniteError, StorageError

# What is written before a run's config.yaml. A folder with anything else in it is somebody's.
_FIRST_FILES = (".lock", ".hydra", signing.FILE, "status.json", "multirun.yaml", ".tmp-*.yaml", ".tmp-*.json")
# Removed last: what an interrupted removal leaves is then still known for what it was.
_LAST_FILES = ("config.yaml", "status.json", ".lock")


def lost(entries: Sequence[ListedRun]) -> list[ListedRun]:
    """The runs that ended without anything to go on from: before their first checkpoint, or not finite.

    Numbers that are not finite come again with the same settings, from any checkpoint.
    """
    return [run for run in entries if _is_inside(run.path) and run.state != "running" and _is_lost(run.path)]


def remnants() -> tuple[list[Path], list[Path]]:
    """Folders in which no run came to be: those to remove, and those so young that one may be starting."""
    folders: tuple[list[Path], list[Path]] = [], []
    for path in sorted({path for place in PLACES for path in ROOT.glob(place)}):
        if _is_inside(path) and _is_remnant(path):
            folders[is_starting(path)].append(path)
    return folders


def remove(path: Path) -> bool:
    """Remove one of these folders, and its parents below outputs/ that are then empty.

    False, and nothing removed, where a process has taken it since, or it can be resumed by now.
    Raises StorageError where the system does not let it go.
    """
    if not _is_inside(path):
        return False
    try:
        with lock(path):
            if not (_is_lost(path) or _is_remnant(path)):
                return False
            for entry in sorted(path.iterdir(), key=lambda entry: entry.name in _LAST_FILES):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            path.rmdir()
    except FolderBusyError:
        return False
    except OSError as error:
        raise StorageError(f"{path}: cannot be removed: {error.strerror}") from None
    with contextlib.suppress(OSError):  # not empty
        for parent in path.relative_to(ROOT).parents[:-1]:
            (ROOT / parent).rmdir()
    return True


def _is_lost(path: Path) -> bool:
    """Of a run that no process owns."""
    status = read_json(path / "status.json")
    if not (path / "config.yaml").is_file() or state_of(status, held=False) not in ("failed", "died"):
        return False
    if end_of(path) is not None:
        return False  # complete, whatever became of its status
    return status.get("exit_code") == NonFiniteError.exit_code or not has_checkpoint(path)


def _is_remnant(path: Path) -> bool:
    """A folder where a run could lie that holds nothing, or only what is written before config.yaml."""
    if path.name.startswith(".") or not path.is_dir():
        return False
    if any((ROOT / above / "config.yaml").exists() for above in path.relative_to(ROOT).parents):
        return False  # a part of a run
    try:
        names = [entry.name for entry in path.iterdir()]
    except OSError:  # not ours to look into
        return False
    return all(any(fnmatchcase(name, pattern) for pattern in _FIRST_FILES) for name in names)


def _is_inside(path: Path) -> bool:
    """Whether no symbolic link lies between outputs/ and the folder."""
    return path.resolve() == ROOT.resolve() / path.relative_to(ROOT)
