"""How the ranks of a run share its work: each has the whole model (ddp)."""

from trainrun.parallel.ddp import DDP

__all__ = ["DDP"]
