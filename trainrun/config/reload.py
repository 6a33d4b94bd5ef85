"""Reload the user's changed modules, because a notebook outlives edits and would train old code."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import linecache
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from trainrun.config.call import LIBRARIES
from trainrun.config.signature import source_file
from trainrun.config.tree import texts
from trainrun.vocabulary.errors import ConfigError

_loaded = WeakKeyDictionary[ModuleType, bytes]()  # the source that a module was run from, where it is known


def reload_changed(settings: Mapping[str, Any]) -> list[str]:
    """Reload the user's modules that `settings` call, and what they import, where a file has changed.

    After a changed module those that import it are reloaded too. A module that now lies in another folder is
    forgotten, so that the next import finds the new one. Returns a line about each.
    Raises ConfigError for a file that fails; its module stays as it was.
    """
    notes = _forget_moved(users_modules(settings))
    needed = users_modules(settings)
    stale = {name for name, module in needed.items() if _is_changed(module)}
    for name, module in needed.items():
        stale_imports = sorted(stale.intersection(_imports(module)))
        if name in stale or stale_imports:
            reason = "its file has changed" if name in stale else f"it imports {', '.join(stale_imports)}"
            _reload(module)
            stale.add(name)
            notes.append(f"{name}: reloaded because {reason}")
    return notes


def remember_loaded(settings: Mapping[str, Any]) -> None:
    """Note from which source the user's modules have been run."""
    for module in users_modules(settings).values():
        if module not in _loaded:
            _loaded[module] = _source(module)


def users_modules(settings: Mapping[str, Any]) -> dict[str, ModuleType]:
    """The user's loaded modules that settings name, and those that these import, which come first."""
    names = [text.rpartition(".")[0] for text in texts(settings)]
    return {name: module for root in names for name, module in _with_imports(root, set())}


def _is_users(module: ModuleType) -> bool:
    """Whether a module is read from a file that belongs to no library."""
    file = getattr(module, "__file__", None) or ""
    if not file.endswith(".py") or module.__name__ == "__main__":
        return False
    folders = Path(file).resolve().parents
    is_installed = any(folder.name in ("site-packages", "dist-packages") for folder in folders)
    return not is_installed and not any(library in folders for library in LIBRARIES)


def _with_imports(name: str, visited: set[str]) -> Iterator[tuple[str, ModuleType]]:
    """A module of the user's after all of the user's that it imports, then its packages; each once."""
    module = sys.modules.get(name)
    if name in visited or module is None or not _is_users(module):
        return
    visited.add(name)
    for other in _imports(module):
        yield from _with_imports(other, visited)
    yield name, module
    yield from _with_imports(name.rpartition(".")[0], visited)


def _imports(module: ModuleType) -> Iterator[str]:
    """The names of modules that a module's file may import, by its source."""
    try:
        tree = ast.parse(_source(module))
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = "." * node.level + (node.module or "")
            with contextlib.suppress(ImportError):  # beyond the package: running it shows the error
                home = importlib.util.resolve_name(home, module.__spec__.parent if module.__spec__ else None)
            yield home
            yield from (f"{home}.{alias.name}" for alias in node.names)


def _source(module: ModuleType) -> bytes:
    try:
        return Path(str(module.__file__)).read_bytes()
    except OSError:
        return b""


def _is_changed(module: ModuleType) -> bool:
    """Whether the file differs from what was loaded; by its compiled copy where that was not noted."""
    source = _source(module)
    if module in _loaded:
        return source not in (_loaded[module], b"")
    try:
        header = Path(str(module.__spec__ and module.__spec__.cached)).read_bytes()[:16]
        status = Path(str(module.__file__)).stat()
        _, flags, *compiled_from = struct.unpack("<4I", header)
    except (OSError, struct.error):
        return False
    is_by_time = flags == 0  # else by the source's hash
    return is_by_time and compiled_from != [int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF]


def _reload(module: ModuleType) -> None:
    """Run a module's file again in place: whoever holds the module sees the new code."""
    file, before, source = str(module.__file__), dict(vars(module)), _source(module)
    modules = {name: value for name, value in before.items() if isinstance(value, ModuleType)}
    inside = {name for name, value in modules.items() if value.__name__.startswith(f"{module.__name__}.")}
    try:
        code = compile(source, file, "exec", dont_inherit=True)
        for name in [name for name in before if not name.startswith("__") and name not in inside]:
            del vars(module)[name]
        exec(code, vars(module))
    except (Exception, SystemExit) as error:
        vars(module).clear()
        vars(module).update(before)
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        text = f"{file} has changed and fails{line}: {type(error).__name__}: {error}"
        raise ConfigError.of(module.__name__, f"{text}; fix it") from error
    linecache.checkcache(file)
    _loaded[module] = source


def _forget_moved(needed: Mapping[str, ModuleType]) -> list[str]:
    """Forget modules of which this folder has another file than the one that was loaded."""
    notes = []
    for name, module in needed.items():
        file, top = source_file(name), name.partition(".")[0]
        if file is None or file.resolve() == Path(str(module.__file__)).resolve():
            continue
        for other in [other for other in sys.modules if other == top or other.startswith(f"{top}.")]:
            del sys.modules[other]
        notes.append(f"{name}: loaded from {file} now, no longer from {module.__file__}")
    return notes
