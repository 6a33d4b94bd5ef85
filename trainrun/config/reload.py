"""The user's modules as their files are now: a notebook outlives edits, and old code would train unseen."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import linecache
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from trainrun.config.call import LIBRARIES
from trainrun.config.signature import source_file
from trainrun.vocabulary.errors import ConfigError

_loaded = WeakKeyDictionary[ModuleType, bytes]()  # the source that a module was run from, where it is known


def reload_changed(settings: Mapping[str, Any]) -> list[str]:
    """Run anew what `settings` call of the user's modules, where a file has changed since it was loaded.

    What they import counts too, and what imports a changed module runs after it. A module that is found
    in another folder now is forgotten, so that the next import finds the new one. Returns a line on each.
    Raises ConfigError for a file that fails, whose module stays as it was.
    """
    notes = _forget_moved(_needed(settings))
    needed = _needed(settings)
    stale = {name for name, module in needed.items() if _is_changed(module)}
    for name, module in needed.items():
        imports = set(_imports(module))
        if name in stale or imports & stale:
            because = "" if name in stale else f", which imports {', '.join(sorted(imports & stale))}"
            _run_anew(module)
            stale.add(name)
            notes.append(f"{name}: loaded anew{because or ', its file has changed'}")
    return notes


def remember_loaded(settings: Mapping[str, Any]) -> None:
    """Note from which source the user's modules have been run."""
    for module in _needed(settings).values():
        if module not in _loaded:
            _loaded[module] = _source(module)


def _needed(settings: Mapping[str, Any]) -> dict[str, ModuleType]:
    """The user's modules that settings name, and theirs; what is imported comes first."""
    return {name: module for root in _modules_in(settings) for name, module in _with_imports(root)}


def _modules_in(tree: Any) -> Iterator[str]:
    """The user's own modules among those that settings name, also in lists."""
    if isinstance(tree, Mapping):
        for value in tree.values():
            yield from _modules_in(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _modules_in(value)
    elif isinstance(tree, str) and _is_users(sys.modules.get(module := tree.rpartition(".")[0])):
        yield module


def _is_users(module: ModuleType | None) -> bool:
    """Whether a module is read from a file that belongs to no library."""
    file = getattr(module, "__file__", None)
    if module is None or not file or not file.endswith(".py") or module.__name__ == "__main__":
        return False
    folders = Path(file).resolve().parents
    libraries = [folder for folder in folders if folder.name in ("site-packages", "dist-packages")]
    return not libraries and not any(library in folders for library in LIBRARIES)


def _with_imports(name: str, seen: set[str] | None = None) -> Iterator[tuple[str, ModuleType]]:
    """A module of the user's after all of the user's that it imports, then its packages; each once."""
    seen = set() if seen is None else seen
    module = sys.modules.get(name)
    if name in seen or module is None or not _is_users(module):
        return
    seen.add(name)
    for other in _imports(module):
        yield from _with_imports(other, seen)
    yield name, module
    yield from _with_imports(name.rpartition(".")[0], seen)


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
            with contextlib.suppress(ImportError):  # beyond the package: running it will tell
                home = importlib.util.resolve_name(home, module.__spec__.parent if module.__spec__ else None)
            yield home
            yield from (f"{home}.{alias.name}" for alias in node.names)


def _source(module: ModuleType) -> bytes:
    try:
        return Path(str(module.__file__)).read_bytes()
    except OSError:
        return b""


def _is_changed(module: ModuleType) -> bool:
    """Whether the file is another than what was loaded; by its compiled copy where nobody noted that."""
    source = _source(module)
    if module in _loaded:
        return source not in (_loaded[module], b"")
    try:
        header = Path(str(module.__spec__ and module.__spec__.cached)).read_bytes()[:16]
        status = Path(str(module.__file__)).stat()
    except OSError:
        return False
    made = (int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
    by_time = header[4:8] == bytes(4)  # else by the source's hash
    return by_time and tuple(int.from_bytes(header[at : at + 4], "little") for at in (8, 12)) != made


def _run_anew(module: ModuleType) -> None:
    """Run a module's file in place: whoever holds the module sees the new code."""
    file, before, source = str(module.__file__), dict(vars(module)), _source(module)
    inside = {n: v for n, v in before.items() if isinstance(v, ModuleType) and _is_part(v, module)}
    try:
        code = compile(source, file, "exec", dont_inherit=True)
        for name in [name for name in before if not name.startswith("__")]:
            del vars(module)[name]
        vars(module).update(inside)
        exec(code, vars(module))
    except (Exception, SystemExit) as error:
        vars(module).clear()
        vars(module).update(before)
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        text = f"{file} has changed and fails{line}: {type(error).__name__}: {error}"
        raise ConfigError.one(module.__name__, f"{text}; mend it") from error
    linecache.checkcache(file)
    _loaded[module] = source


def _is_part(module: ModuleType, package: ModuleType) -> bool:
    return module.__name__.startswith(f"{package.__name__}.")


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
