"""Checkpoints: directories that exist only whole; and TrainState, all that they store."""

from trainrun.checkpoint.store import Checkpoints

__all__ = ["Checkpoints"]
