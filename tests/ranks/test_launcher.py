"""What torchrun and Slurm say in the environment; and attempts of one launcher, which share its store."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from torch.distributed import HashStore, TCPStore

from trainrun.ranks import launcher
from trainrun.ranks.launcher import (
    RankInfo,
    agree_on_attempt,
    command,
    first_host,
    is_srun,
    launched,
    leave_store,
    recall_folder,
    remember_folder,
    slurm_variables,
)

# The third of three tasks, the first on its machine, as `srun` of Slurm 23 has it.
STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "3",
}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
TORCHRUN |= {"MASTER_ADDR": "here", "MASTER_PORT": "1"}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An environment in which no launcher has said anything."""
    monkeypatch.setattr(launcher, "_runs", 0)
    for name in (*STEP, *TORCHRUN, "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def say(said: pytest.MonkeyPatch, *variables: dict[str, str], **more: str) -> None:
    for name, value in [*(item for each in variables for item in each.items()), *more.items()]:
        said.setenv(name, value)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node7", "node7"),
        ("node[01-04,7]", "node01"),
        ("node[7,01-04],login", "node7"),
        ("login,node[01-04]", "login"),
        ("rack[1-2]-node[008-012].example.org", "rack1-node008.example.org"),
        ("a-1,b", "a-1"),
        ("127.0.0.[1-2]", "127.0.0.1"),
    ],
)
def test_the_first_of_a_list_of_hosts(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_a_task_of_a_step_with_several_is_a_rank(said: pytest.MonkeyPatch) -> None:
    assert launched() == RankInfo()
    say(said, STEP)
    assert launched() == RankInfo(2, 3, 0, 1)
    assert slurm_variables()["MASTER_ADDR"] == "gpu07"
    assert is_srun()


@pytest.mark.parametrize(
    ("per_node", "node", "local_size"), [("4", 0, 4), ("2(x3),1", 2, 2), ("2(x3),1", 3, 1), ("1,2(x2)", 1, 2)]
)
def test_how_many_tasks_a_machine_has(
    per_node: str, node: int, local_size: int, said: pytest.MonkeyPatch
) -> None:
    say(said, STEP, SLURM_STEP_TASKS_PER_NODE=per_node, SLURM_NODEID=str(node))
    assert launched().local_size == local_size


@pytest.mark.parametrize("kind", ["batch", "shell", "single"])
def test_what_no_step_of_several_tasks_started_is_one_process(kind: str, said: pytest.MonkeyPatch) -> None:
    job = {name: value for name, value in STEP.items() if "STEP" not in name}
    say(said, {"batch": job | {"SLURM_PROCID": "0"}, "shell": job, "single": STEP}[kind])
    if kind == "single":  # such as a job of a sweep, or `srun --pty bash` in a job of several tasks
        say(said, SLURM_STEP_NUM_TASKS="1")
    assert (launched(), slurm_variables(), command()) == (RankInfo(), {}, ["trainrun"])


def test_each_step_of_each_job_has_a_port_of_its_own(said: pytest.MonkeyPatch) -> None:
    ports = set()
    for job in range(100, 110):
        for step in range(10):
            say(said, STEP, SLURM_JOB_ID=str(job), SLURM_STEP_ID=str(step))
            ports.add(int(slurm_variables()["MASTER_PORT"]))
    assert len(ports) == 100
    assert min(ports) >= 10_000 and max(ports) < 32_768


def test_what_the_user_says_wins(said: pytest.MonkeyPatch) -> None:
    say(said, STEP, MASTER_PORT="29500")
    assert launched() == RankInfo(2, 3, 0, 1)
    say(said, TORCHRUN, TORCHELASTIC_RUN_ID="none")  # torchrun as a step's tasks
    assert launched() == RankInfo(1, 4, 1, 2)
    assert not is_srun()


def test_the_command_that_starts_as_many(said: pytest.MonkeyPatch) -> None:
    assert command() == ["trainrun"]
    say(said, STEP)
    assert command() == ["srun", "--nodes", "2", "--ntasks", "3", "trainrun"]
    say(said, TORCHRUN, TORCHELASTIC_RUN_ID="none")
    machines = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "here:29400"]
    assert command() == ["torchrun", *machines, "--nproc-per-node", "2", "-m", "trainrun"]
    say(said, WORLD_SIZE="2")
    assert command() == ["torchrun", "--nproc-per-node", "2", "-m", "trainrun"]


def attempt(store: HashStore, *late: int, size: int = 3) -> list[str]:
    """What the ranks agree on, of whom some come last."""
    names = [""] * size

    def come(rank: int) -> None:
        names[rank] = agree_on_attempt(store, RankInfo(rank, size, rank, size), 20)

    threads = {rank: threading.Thread(target=come, args=[rank]) for rank in range(size)}
    for rank in sorted(threads, key=lambda rank: rank in late):
        threads[rank].start()
        if late and rank not in late:
            threads[rank].join(0.1)
    for thread in threads.values():
        thread.join(30)
    return names


def test_ranks_of_an_attempt_agree_whatever_earlier_ones_left(said: pytest.MonkeyPatch) -> None:
    say(said, TORCHELASTIC_RUN_ID="none", TORCHELASTIC_USE_AGENT_STORE="True")
    store = HashStore()
    names = [attempt(store), attempt(store, 1), attempt(store, 0), attempt(store)]
    assert all(len(set(ranks)) == 1 for ranks in names)
    assert len({ranks[0] for ranks in names} - {""}) == 4


def test_a_rank_that_an_attempt_lacks_is_named(said: pytest.MonkeyPatch) -> None:
    say(said, TORCHELASTIC_RUN_ID="none", TORCHELASTIC_USE_AGENT_STORE="True")
    store = HashStore()
    attempt(store)
    with pytest.raises(RuntimeError, match="rank 1 did not come"):
        agree_on_attempt(store, RankInfo(0, 3, 0, 3), 0.1)


@pytest.mark.parametrize(
    ("has_launcher", "living", "order"),
    [
        (True, {0, 1, 2}, {0: set(), 1: {0}, 2: {0}}),
        (True, {1, 2}, {1: set(), 2: {1}}),  # the first died
        (False, {0, 1, 2}, {0: {1, 2}, 1: {0}, 2: {0}}),  # it holds the store
        (False, {0, 2}, {0: {2}, 2: {0}}),
    ],
)
def test_the_lowest_living_rank_writes_before_the_others_leave_and_who_holds_the_store_leaves_last(
    has_launcher: bool, living: set[int], order: dict[int, set[int]], said: pytest.MonkeyPatch
) -> None:
    say(said, TORCHELASTIC_USE_AGENT_STORE=str(has_launcher))
    for rank, awaited in order.items():
        store = HashStore()
        for other in living - {rank, *awaited}:
            store.set(f"left {other}", "1")  # which changes nothing
        with pytest.raises(RuntimeError) if awaited else nullcontext():
            leave_store(store, rank, living, 0.05)
        for other in awaited:
            store.set(f"left {other}", "1")
        leave_store(store, rank, living, 5)


def test_a_rank_says_that_it_left_when_it_needs_the_store_no_more(said: pytest.MonkeyPatch) -> None:
    """Else whoever holds it may be gone while it waits; also where nobody came."""
    say(said, TORCHELASTIC_USE_AGENT_STORE="False")
    store = HashStore()
    leaving = threading.Thread(target=leave_store, args=(store, 1, {0, 1}, 5))
    leaving.start()
    leaving.join(0.1)
    assert not store.check(["left 1"])
    leave_store(store, 0, {0, 1}, 5)
    leaving.join(5)
    assert store.check(["left 0", "left 1"])
    with pytest.raises(RuntimeError):
        leave_store(store, 4, {3, 4}, 0.05)
    assert store.check(["left 4"])


def test_where_the_first_rank_holds_the_store_its_death_is_told_without_the_frames_of_cpp() -> None:
    """Ranks as srun starts them, which have not imported torch."""
    code = (
        "import os; from trainrun import ranks; os.environ['RANK'] = '0' if os.fork() else '1'\n"
        "ranks.join()\n"
        "ranks.add_numbers([1.0])  # else the other may still be joining\n"
        "os._exit(9) if ranks.rank() == 0 else ranks.add_numbers([1.0])"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("TORCH", "SLURM"))
    }
    environment |= place | {"WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 9
    assert ended.stderr == "trainrun: rank 0 or its machine died\n"


def test_a_store_of_the_attempts_own_needs_no_name(said: pytest.MonkeyPatch) -> None:
    assert attempt(HashStore()) == [""] * 3


def test_a_later_attempt_finds_the_folders_in_order_and_another_launcher_none(
    said: pytest.MonkeyPatch,
) -> None:
    say(said, TORCHRUN, TORCHELASTIC_RUN_ID="none", TORCHELASTIC_USE_AGENT_STORE="True")
    stores = [TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) for _ in range(2)]
    say(said, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(stores[0].port))
    for folder in ("outputs/a", "outputs/b"):
        assert recall_folder() == ""
        remember_folder(folder)
    said.setattr(launcher, "_runs", 0)  # the next attempt's process
    assert [recall_folder() for _ in range(3)] == ["outputs/a", "outputs/b", ""]
    said.setattr(launcher, "_runs", 0)
    say(said, MASTER_PORT=str(stores[1].port))
    assert recall_folder() == ""


def test_without_a_launcher_nothing_is_recalled(said: pytest.MonkeyPatch) -> None:
    remember_folder("outputs/a")
    assert recall_folder() == ""
