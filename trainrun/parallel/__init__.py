"""How the ranks of a run share its work: each has the whole model (ddp), or a part of it (fsdp)."""

from trainrun.parallel.ddp import DDP
from trainrun.parallel.fsdp import FSDP

__all__ = ["DDP", "FSDP"]
