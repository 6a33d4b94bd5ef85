"""How the ranks of a run share its work: whole copies of the model (ddp), or shards of it (fsdp)."""

from trainrun.parallel.ddp import DDP
from trainrun.parallel.fsdp import FSDP

__all__ = ["DDP", "FSDP"]
