"""Free disk space: refuse a run whose checkpoints would not fit, before anything is written."""

from __future__ import annotations

import contextlib
from pathlib import Path

from trainrun.assembly.build import Parts
from trainrun.checkpoint.store import expected_bytes
from trainrun.run.files import free_bytes
from trainrun.run.listing import num_bytes
from trainrun.vocabulary.errors import StorageError


def check_disk_space(parts: Parts, folder: Path) -> None:
    """Raise StorageError where the disk lacks room for the checkpoints to come.

    Those that are there already count as room: new ones replace them.
    """
    needed, free = expected_bytes(parts.state), free_bytes(folder)
    room = free + num_bytes(folder / "checkpoints")
    advice = "make room, or set run_dir to a folder on another disk"
    if room < needed:
        text = f"{folder}: a checkpoint needs about {needed:,} bytes, {free:,} are free"
        raise StorageError(f"{text}; {advice}")
    with contextlib.closing(
        parts.make("checkpoint", {"folder": Path(), "run_id": "", "record": None})
    ) as checkpoints:
        count: int = checkpoints.most_kept(parts.state.total_steps)
    if room < needed * count:
        text = f"{folder}: {count} checkpoints of about {needed:,} bytes are kept, {free:,} bytes are free"
        raise StorageError(f"{text}; {advice}, or checkpoint.keep_last=1")
