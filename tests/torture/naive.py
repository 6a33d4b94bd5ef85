"""Saves as they are often written. The checks must catch every one of them, else they prove nothing."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from trainrun import checkpoint
from trainrun.events import CheckpointSaved
from trainrun.protocols import Position
from trainrun.state import TrainState


def in_place() -> None:
    """One file straight to its final name, believed because it is there."""
    checkpoint.Checkpoints.commit = _save_in_place
    checkpoint.problem_of = lambda path, run_id: None


def unsynced() -> None:
    """A rename, but nothing reaches the disk before it."""
    os.fsync = lambda descriptor: None


def forgetful() -> None:
    """The position in the epoch is left out."""
    load = TrainState.load_state_dict

    def without_position(state: TrainState, parts: Mapping[str, Any]) -> None:
        load(state, parts)
        state.position = Position(state.position.epoch)

    TrainState.load_state_dict = without_position


VARIANTS: dict[str, Callable[[], None]] = {"in place": in_place, "unsynced": unsynced, "forgetful": forgetful}


def _save_in_place(self: checkpoint.Checkpoints, state: TrainState) -> CheckpointSaved:
    path = self.folder / f"step-{state.step:09d}"
    path.mkdir(parents=True, exist_ok=True)
    manifest = {"weights": state.judged_name, "best": state.best, "best_step": state.best_step}
    (path / "manifest.json").write_text(json.dumps(manifest | {"metrics_bytes": self.metrics_bytes()}))
    body = io.BytesIO()
    torch.save(state.state_dict(), body)
    (path / "state.pt").write_bytes(body.getvalue())
    return CheckpointSaved(step=state.step, path=str(path), num_bytes=body.tell(), seconds=0.0)
