"""The core: the loop over steps, one step, evaluation, and what is watched on the way."""

from trainrun.loop.loop import Loop

__all__ = ["Loop"]
