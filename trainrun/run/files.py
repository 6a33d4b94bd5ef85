"""Small files that are replaced whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainrun.run.history import is_number
from trainrun.vocabulary.errors import StorageError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `path` at the end; of what fails within nothing is left.

    A folder has one owner, so the temporary name is fixed: the next write replaces what a kill left.
    """
    part = path.with_name(f".tmp-{path.name}")
    try:
        yield part
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def replace_text(path: Path, text: str) -> None:
    """Write by temporary file, fsync and rename. Raises OSError and then leaves nothing behind."""
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def replace_json(path: Path, content: Mapping[str, Any]) -> None:
    replace_text(path, as_json(content))


def as_json(content: Mapping[str, Any]) -> str:
    """The text of a small JSON file."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def fsync(path: Path) -> None:
    """Have a file, or the names in a folder, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def overwrite_text(path: Path, text: str) -> None:
    """Write into a file that is there, which needs no room: for last words on a disk that is full.

    A kill in between leaves half of it. Raises OSError, with the old content back in place.
    """
    before = path.read_bytes()
    with path.open("r+b") as file:
        try:
            file.write(text.encode())
            file.truncate()
            file.flush()
        except OSError:
            os.pwrite(file.fileno(), before, 0)
            raise
        os.fsync(file.fileno())


def without_half_line(path: Path) -> None:
    """Cut off what a kill or a power loss left behind the last whole line, so that lines can follow it."""
    content = path.read_bytes() if path.is_file() else b""
    whole = content.rstrip(b"\0")
    whole = whole[: whole.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def number_in(content: Mapping[str, Any], key: str) -> float | None:
    """A number of such an object as arithmetic can take it; None where there is another thing, or nothing."""
    value = content.get(key)
    return value if is_number(value) else None


def object_in(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The object under a key; empty where there is another thing, or nothing."""
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def storage_failed(path: Path, error: OSError, needed_bytes: int = 0) -> StorageError:
    """What to tell of a write that failed: the system's reason, and the room there is."""
    text = f"{path}: cannot be written: {error.strerror or error}"
    room = [f"it needs {needed_bytes:,} bytes"] if needed_bytes else []
    with contextlib.suppress(OSError):
        room += [f"{free_bytes(path):,} bytes are free"]
    text += f"; {', '.join(room)}" if room else ""
    return StorageError(f"{text}; what was saved before is whole: fix this, then resume the run")


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Within, a write that fails is a StorageError about `path`."""
    try:
        yield
    except OSError as error:
        raise storage_failed(path, error) from None


def free_bytes(path: Path) -> int:
    """Room on the disk of `path`, which need not exist yet."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def open_no_link(path: str, flags: int) -> int:
    """Open a file that is really there: a link's target would be written to, and a pipe waited for."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
