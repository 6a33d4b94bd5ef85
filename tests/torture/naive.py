"""Saves as they are often written. The checks must catch every one of them, else they prove nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainrun.checkpoint import store
from trainrun.checkpoint.state import TrainState
from trainrun.protocols import Position
from trainrun.run.record import Record
from trainrun.vocabulary.errors import StorageError
from trainrun.vocabulary.events import CheckpointSaved

Files = Mapping[str, memoryview | bytes | Callable[[Path], memoryview | bytes]]


def in_place() -> None:
    """Straight to its final name, and believed because it is there."""
    store.commit = _written
    store.problem_of = store.problem_among_ranks = lambda path, run_id: None


def without_rename() -> None:
    """Straight to its final name."""
    store.commit = _written


def manifest_first() -> None:
    """What says that the files are whole is on the disk before they are."""
    commit = store.commit
    store.commit = lambda final, files: commit(final, dict(reversed(files.items())))


def unsynced() -> None:
    """Nothing reaches the disk before the rename."""
    os.fsync = lambda descriptor: None


def old_first() -> None:
    """Room is made before the new one is there."""
    commit = store.commit

    def replacing(final: Path, files: Files) -> int:
        for path in final.parent.glob("step-*"):
            path.rename(path.with_name(f".tmp-{path.name}-old"))
        return commit(final, files)

    store.commit = replacing


def unhashed() -> None:
    """A checkpoint is whole where its files are."""
    store.problem_of = lambda path, run_id: None if (path / "state.pt").exists() else "has no state.pt"
    store.problem_among_ranks = store.problem_of


def newest_only() -> None:
    """There is the last one, or there is none."""
    steps_in = store.steps_in
    store.steps_in = lambda folder: steps_in(folder)[-1:]


def forgetful() -> None:
    """The position in the epoch is left out."""
    load = TrainState.load_state_dict

    def without_position(state: TrainState, parts: Mapping[str, Any]) -> None:
        load(state, parts)
        state.position = Position(state.position.epoch)

    TrainState.load_state_dict = without_position


def uncut() -> None:
    """What was recorded after the checkpoint stays, and is recorded again."""
    Record.cut = lambda record, num_bytes: None


def hopeful() -> None:
    """A save that fails is passed over."""
    ended = store.Checkpoints._ended  # whether the loop waits for a save or sees that it has come to its end

    def suppressed(checkpoints: store.Checkpoints) -> tuple[CheckpointSaved, ...]:
        with contextlib.suppress(StorageError):
            return ended(checkpoints)
        return ()

    store.Checkpoints._ended = suppressed


NAIVE = (
    *(in_place, without_rename, manifest_first, unsynced, old_first, unhashed, newest_only),
    *(forgetful, uncut, hopeful),
)
VARIANTS: dict[str, Callable[[], None]] = {variant.__name__: variant for variant in NAIVE}


def _written(final: Path, files: Files) -> int:
    shutil.rmtree(final, ignore_errors=True)
    final.mkdir(parents=True)
    for name, body in files.items():
        with (final / name).open("wb", buffering=0) as file:
            os.write(file.fileno(), body(final) if callable(body) else body)
            os.fsync(file.fileno())
    return sum(path.stat().st_size for path in final.iterdir())
