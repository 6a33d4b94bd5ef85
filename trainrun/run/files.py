"""Small files that are replaced whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainrun.errors import StorageFailed


def replace_text(path: Path, text: str) -> None:
    """Write by temporary file, fsync and rename. Raises OSError and then leaves nothing behind.

    A folder has one owner, so the temporary name is fixed: the next write replaces what a kill left.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def replace_json(path: Path, content: Mapping[str, Any]) -> None:
    replace_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def storage_failed(path: Path, error: OSError, needed_bytes: int = 0) -> StorageFailed:
    """What to tell of a write that failed: the system's reason, and the room there is."""
    text = f"{path}: cannot be written: {error.strerror or error}"
    room = [f"it needs {needed_bytes:,} bytes"] if needed_bytes else []
    with contextlib.suppress(OSError):
        room += [f"{free_bytes(path):,} bytes are free"]
    text += f"; {', '.join(room)}" if room else ""
    return StorageFailed(f"{text}; what was saved before is whole: mend this, then resume the run")


def free_bytes(path: Path) -> int:
    """Room on the disk of `path`, which need not exist yet."""
    return shutil.disk_usage(next(one for one in (path, *path.absolute().parents) if one.exists())).free
