"""What started the processes of a run, torchrun or srun: who is who, where they meet, their run's folder.

torchrun with `--max-restarts` starts them again, and keeps the store where they met. So what an earlier
attempt wrote there is of the same launcher, and no other run can be taken for it.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_STEP = {  # what Slurm says of a task, beside what it says of the job
    *("JOB_ID", "STEP_ID", "STEP_NUM_TASKS", "STEP_TASKS_PER_NODE", "STEP_NODELIST"),
    *("PROCID", "LOCALID", "NODEID"),
}
_PORTS = range(10_000, 30_000)  # below those that systems hand out by themselves

_runs = 0  # that this process has begun


@dataclass(frozen=True)
class RankInfo:
    """This process among those of the run, and among those of its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def launched() -> RankInfo:
    """What the launcher says in the environment; one process where there is none."""
    variables = slurm_variables() | os.environ
    if not variables.keys() >= set(_LAUNCHED):
        return RankInfo()
    rank, size, local_rank = (int(variables[name]) for name in _LAUNCHED[:3])
    return RankInfo(rank, size, local_rank, int(variables.get("LOCAL_WORLD_SIZE", size)))


def slurm_variables() -> dict[str, str]:
    """What torchrun would set, for a task of a Slurm step with several; empty elsewhere.

    A batch script and the shell of salloc know how many tasks the job may have, and are one process.
    """
    slurm = {name.removeprefix("SLURM_"): value for name, value in os.environ.items() if name[:6] == "SLURM_"}
    if not slurm.keys() >= _STEP or int(slurm["STEP_NUM_TASKS"]) < 2:
        return {}
    per_node = re.findall(r"(\d+)(?:\(x(\d+)\))?", slurm["STEP_TASKS_PER_NODE"])  # 2(x3),1
    counts = [count for count, nodes in per_node for _ in range(int(nodes or 1))]
    number = 97 * int(slurm["JOB_ID"]) + int(slurm["STEP_ID"])
    return {
        "RANK": slurm["PROCID"],
        "WORLD_SIZE": slurm["STEP_NUM_TASKS"],
        "LOCAL_RANK": slurm["LOCALID"],
        "LOCAL_WORLD_SIZE": counts[int(slurm["NODEID"])],
        "MASTER_ADDR": first_host(slurm["STEP_NODELIST"]),
        "MASTER_PORT": str(_PORTS[number % len(_PORTS)]),
    }


def first_host(nodes: str) -> str:
    """The first of a list of hosts as Slurm writes it: node01 of `node[01-04,7],login`."""
    names = re.match(r"(?:[^,\[]|\[[^]]*\])+", nodes)
    return re.sub(r"\[(\w+)[^]]*\]", r"\1", names[0]) if names else nodes


def is_srun() -> bool:
    """Whether Slurm itself started the ranks."""
    return bool(slurm_variables()) and "TORCHELASTIC_RUN_ID" not in os.environ


def command() -> list[str]:
    """The words that start trainrun with as many processes as the launcher started."""
    info = launched()
    if is_srun():
        nodes = os.environ.get("SLURM_STEP_NUM_NODES", "1")
        return ["srun", "--nodes", nodes, "--ntasks", str(info.size), "trainrun"]
    if info.size == info.local_size:
        return torchrun(info.size)
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{os.environ['MASTER_ADDR']}:29400"]
    return torchrun(info.local_size, "--nnodes", str(info.size // info.local_size), *meeting)


def torchrun(size: int, *machines: str) -> list[str]:
    """The words that start trainrun with so many processes on a machine, plain for one."""
    if size == 1 and not machines:
        return ["trainrun"]
    return ["torchrun", *machines, "--nproc-per-node", str(size), "-m", "trainrun"]


def store_of_attempt(info: RankInfo, limit: timedelta) -> Store:
    """The store where the ranks meet that the launcher started together."""
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    for name, value in slurm_variables().items():
        os.environ.setdefault(name, value)
    store: Store = next(rendezvous("env://", timeout=limit))[0]
    return PrefixStore(agree_on_attempt(store, info, limit.total_seconds()), store)


def leave_store(store: Store, rank: int, living: set[int], limit_s: float) -> None:
    """Wait for the lowest living rank, which writes how the run ended.

    Where no launcher has the store the first rank holds it, and waits for all: they read there why they end.
    """
    try:
        if rank != min(living):
            store.wait([f"left {min(living)}"], timedelta(seconds=limit_s))
    finally:
        store.set(f"left {rank}", "1")  # the last that is asked of the store, which may be gone then
    if rank == 0 and not has_store():  # the others may be late on a busy machine
        store.wait([f"left {other}" for other in living], timedelta(seconds=4 * limit_s))


def agree_on_attempt(store: Store, info: RankInfo, limit_s: float) -> str:
    """A name for this attempt that all its ranks have from the first; empty where the store is its own.

    torch 2.13 gives the next attempt the same store: by the addresses that the last one left there,
    its ranks would try to reach processes that are gone. No count of torchrun's is the same on all
    machines. So each rank says that it came, and the first one answers until all have heard it.
    """
    if not _is_kept():
        return ""
    mine = os.urandom(8).hex()
    store.set(f"rank {info.rank}", mine)
    if info.rank:
        attempt = store.get(f"answer to {mine}").decode()
        store.set(f"{attempt} {info.rank}", "heard")
        return attempt
    missing, until = set(range(1, info.size)), time.monotonic() + limit_s
    while missing:
        for rank in missing:
            store.set(f"answer to {store.get(f'rank {rank}').decode()}", mine)
        time.sleep(0.01)
        missing = {rank for rank in missing if not store.check([f"{mine} {rank}"])}
        if time.monotonic() > until:
            raise RuntimeError(f"rank {min(missing)} did not come")
    return mine


def recall_folder() -> str:
    """The folder that this run of the first rank had in an earlier attempt; empty where there was none."""
    global _runs
    _runs += 1
    store, key = _kept_store(), f"folder {_runs}"
    return store.get(key).decode() if store is not None and store.check([key]) else ""


def remember_folder(run_dir: str) -> None:
    """Let later attempts go on in this folder."""
    if (store := _kept_store()) is not None:
        store.set(f"folder {_runs}", run_dir)


def starts_again() -> bool:
    """Whether torchrun starts the ranks again when this attempt fails."""
    restarts, most = (os.environ.get(f"TORCHELASTIC_{name}", 0) for name in ("RESTART_COUNT", "MAX_RESTARTS"))
    return int(restarts) < int(most)


def has_store() -> bool:
    """Whether the launcher has the store where ranks meet; else the first rank has it."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _is_kept() -> bool:
    return has_store() and "TORCHELASTIC_RUN_ID" in os.environ


def _kept_store() -> Store | None:
    """The launcher's store; None where each attempt has its own, or nobody is there."""
    if _is_kept():
        from torch.distributed.rendezvous import rendezvous

        with suppress(RuntimeError, ValueError):
            store: Store = next(rendezvous("env://", timeout=timedelta(seconds=30)))[0]
            return store
    return None
