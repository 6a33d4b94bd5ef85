"""Restrict imports from the current folder while a command opens a stored run.

Nothing there is imported until the run turns out to be the user's own. For a stranger's run, the modules
that the user trusts by name are, and what they import. Installed packages come first, so that no file can
take the name of one.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from trainrun.config.paths import is_run


class _Folder:
    """Finds the modules of one folder that are trusted, and those that these import."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.trusted: set[str] = set()
        self.imported: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Called by Python's import for what lies nowhere else."""
        if path is not None or not (name in self.trusted or _importer() in self.imported):
            return None
        spec = PathFinder.find_spec(name, [self.path])
        if spec is not None:
            self.imported.add(name)
        return spec


_held: list[_Folder] = []  # at most one


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Within, the current folder is not searched for modules until `admit` says which."""
    folder, before = _Folder(os.getcwd()), sys.path
    sys.path = [path for path in before if path not in ("", folder.path)]
    sys.meta_path.append(folder)
    _held[:] = [folder]
    try:
        yield
    finally:
        sys.meta_path.remove(folder)
        sys.path = before
        _held.clear()


def admit(names: Collection[str] | None) -> None:
    """Search a folder that is held back for these modules; None: for all, before any other place."""
    for folder in _held:
        if names is None and not is_run(Path(folder.path)):
            sys.path.insert(0, folder.path)
        folder.trusted |= {name.split(".")[0] for name in names or ()}


def find_module(name: str) -> ModuleSpec | None:
    """Where a trusted module of a folder that is held back lies."""
    return PathFinder.find_spec(name, [folder.path for folder in _held if name in folder.trusted])


def _importer() -> str:
    """The top-level name of the module whose import is under way."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(("importlib", "_frozen_importlib")):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")).split(".")[0]
