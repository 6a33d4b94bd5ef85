"""What the launcher of several processes says in the environment: who is who, and how to start as many."""

from __future__ import annotations

import os
from dataclasses import dataclass

_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class RankInfo:
    """This process among those of the run, and among those of its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def launched() -> RankInfo:
    """What the launcher says in the environment; one process where there is none."""
    if not all(name in os.environ for name in _LAUNCHED):
        return RankInfo()
    number, total, local = (int(os.environ[name]) for name in _LAUNCHED[:3])
    return RankInfo(number, total, local, int(os.environ.get("LOCAL_WORLD_SIZE", total)))


def command() -> list[str]:
    """The words that start trainrun with as many processes as the launcher started."""
    info = launched()
    if info.size == 1:
        return ["trainrun"]
    machines = ["--nnodes", str(info.size // info.local_size)] if info.size > info.local_size else []
    return ["torchrun", *machines, "--nproc-per-node", str(info.local_size), "-m", "trainrun"]
