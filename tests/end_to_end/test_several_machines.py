"""Several machines, all of them this one: launchers that meet, attempts after a kill, Slurm's own tasks."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ranked
import torch
from ranked import Ranks, serving
from torch.distributed.run import get_args_parser
from torture.settings import RANK_KILLS, SEED
from toy import same_bits
from waiting import HANG_S

from tests.end_to_end.test_ranks import RUN, STEPS, prepared, said
from tests.end_to_end.test_rows import blocks, paste
from trainrun.config.check import problems_of
from trainrun.session.train import read_line

WORDS = [word for word in RUN if not word.startswith("run_dir=")]


@pytest.fixture(scope="module")
def in_ranks() -> Iterator[Ranks]:
    with serving() as ready:
        yield ready


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepared(tmp_path)


@pytest.fixture(scope="module")
def unbroken(in_ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks that one launcher starts and nothing interrupts."""
    folder = prepared(tmp_path_factory.mktemp("unbroken"))
    said(in_ranks(2, ranked.command, folder, *RUN), 0, 0)
    return folder / "run"


def weights(run: Path) -> dict[str, Any]:
    stored = torch.load(run / "checkpoints" / f"step-{STEPS:09}" / "state.pt", weights_only=True)
    return {"model": stored["model"], "averager": stored["averager"]}


def assert_same(run: Path, other: Path) -> None:
    assert (run / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    assert same_bits(weights(run), weights(other))


def the_run(folder: Path) -> Path:
    """The only run there."""
    (run,) = folder.glob("outputs/*/*")
    return run


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def torchrun(folder: Path, *words: str) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", *words, "-m", "trainrun", *WORDS]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(launcher, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def test_two_launchers_are_one_run_that_goes_on_after_a_kill(folder: Path, unbroken: Path) -> None:
    """It fails with a folder of its own for each attempt, and with torch's addresses of the one before."""
    (folder / "fault1").write_text("SIGKILL 60")  # of rank 1, once
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}")
    words = ("--nnodes", "2", "--nproc-per-node", "1", *meeting, "--max-restarts", "1")
    launchers = [torchrun(folder, *words) for _ in range(2)]
    texts = [launcher.communicate(timeout=HANG_S)[1] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], texts
    run, text = the_run(folder), "".join(texts)
    assert text.count("started again by torchrun: going on in outputs/") == 1
    assert text.count("finished in") == 1
    assert "4 x 2 ranks = 8 samples a step" in text
    lineage = [json.loads(line) for line in (run / "lineage.jsonl").read_text().splitlines()]
    assert [line["from_step"] > 0 for line in lineage] == [False, True]
    assert_same(run, unbroken)


@pytest.mark.torture
def test_ranks_killed_at_random_go_on_by_themselves(folder: Path, unbroken: Path) -> None:
    rng, restarts = random.Random(SEED), 0
    for number in range(max(1, RANK_KILLS // 5)):
        place = folder / str(number)
        place.mkdir()
        prepared(place)
        with torchrun(place, "--nproc-per-node", "2", "--max-restarts", "3") as launcher:
            killer = threading.Thread(target=kill_ranks, args=(launcher.pid, rng))
            killer.start()
            _, text = launcher.communicate(timeout=HANG_S)
            killer.join()
        assert launcher.returncode == 0, text
        runs = list(place.glob("outputs/*/*/config.yaml"))
        assert len(runs) == 1, (runs, text)
        assert_same(runs[0].parent, unbroken)
        restarts += text.count("started again by torchrun")
    print(f"{restarts} restarts of runs that had begun")


def kill_ranks(launcher: int, rng: random.Random) -> None:
    """Kill a rank of each of three attempts, where it still runs some time after it was started."""
    seen: set[int] = set()
    with suppress(OSError):  # the launcher has ended
        for _ in range(3):
            while not (ranks := _children(launcher) - seen):
                time.sleep(0.01)
            seen |= ranks
            time.sleep(rng.uniform(0.5, 2.5))
            with suppress(ProcessLookupError):
                os.kill(rng.choice(sorted(ranks)), signal.SIGKILL)


def _children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_four_tasks_of_slurm_are_one_run(in_ranks: Ranks, folder: Path) -> None:
    words = [*WORDS, "batch_size=2", "budget=2ep"]
    first, *others = said(in_ranks(4, ranked.as_tasks, 2, folder, *words), 0, 0, 0, 0)
    assert [task.err for task in others] == [""] * 3
    assert "2 x 4 ranks = 8 samples a step" in first.err
    run = the_run(folder)
    assert f"  srun --nodes 2 --ntasks 4 trainrun resume {run.relative_to(folder)} budget=4ep" in first.err
    environment = json.loads((run / "environment.json").read_text())
    assert environment["command"].startswith("srun --nodes 2 --ntasks 4 trainrun data=dataset")
    said(in_ranks(4, ranked.command, folder, *words, "run_dir=other"), 0, 0, 0, 0)
    assert (run / "metrics.jsonl").read_bytes() == (folder / "other" / "metrics.jsonl").read_bytes()


def test_a_mistake_of_four_tasks_is_told_once_and_names_srun(in_ranks: Ranks, folder: Path) -> None:
    texts = [task.err for task in said(in_ranks(4, ranked.as_tasks, 4, folder, "epochs=3"), 2, 2, 2, 2)]
    (text,) = filter(None, texts)
    assert "  srun --nodes 1 --ntasks 4 trainrun budget=3ep" in text
    texts = [task.err for task in said(in_ranks(2, ranked.as_tasks, 2, folder, "-m", "seed=0,1"), 2, 2)]
    (text,) = filter(None, texts)
    assert "run it without srun, and with sweep.ranks=2 for as many in each job" in text


@pytest.mark.parametrize("number", range(3))
def test_a_batch_script_of_the_guide_means_what_it_says(number: int, tmp_path: Path) -> None:
    """Its words are taken by torchrun and by trainrun; srun and scontrol are stand-ins."""
    scripts = [block for block in blocks("cluster", "text") if block.startswith("#!/bin/bash")]
    assert len(scripts) == 3
    body = "".join(line for line in scripts[number].splitlines(True) if not line.startswith("#"))
    stand_ins = "scontrol() { echo node1; echo node2; }\n"
    words = paste("bash", stand_ins + body.replace("exec srun ", ""), tmp_path)
    if number == 2:
        options = get_args_parser().parse_args(words)
        assert (options.nnodes, options.nproc_per_node, options.max_restarts) == ("2", "4", 3)
        assert (options.rdzv_endpoint, options.module) == ("node1:29400", True)
        assert options.training_script == "trainrun"
        words = options.training_script_args
    line = read_line(words)
    assert not problems_of(line.composer.compose(line.arguments.overrides))


SWEEP = ("-m", "seed=0,1", "sweep.ranks=2", "name=two")


@pytest.mark.parametrize("how", ["whole", "killed_and_tried_again", "asked_to_stop"])
def test_each_job_of_a_sweep_is_a_run_of_two_ranks(
    how: str, command: Callable, folder: Path, unbroken: Path
) -> None:
    words = [*WORDS, *SWEEP]
    if how == "killed_and_tried_again":
        (folder / "fault1").write_text("SIGKILL 60")
        ended = command(*words, "sweep.retries=1")
        assert "rank 1 died" in ended.err and "is tried again, 1 of 1" in ended.err
    elif how == "asked_to_stop":
        (folder / "fault1").write_text("SIGTERM 60")
        ended = command(*words, code=143)
        assert "trainrun resume outputs/multirun/two" in ended.err
        ended = command("resume", "two")
        assert "1 to go on with, 1 new" in ended.err
    else:
        ended = command(*words)
    sweep = json.loads((folder / "outputs/multirun/two/sweep.json").read_text())
    assert [job["state"] for job in sweep["jobs"]] == ["completed"] * 2
    assert f"  torchrun --nproc-per-node 2 -m trainrun {WORDS[0]}" in ended.err
    assert_same(folder / "outputs/multirun/two" / sweep["jobs"][0]["folder"], unbroken)
    assert "nothing" not in ended.err and not list(folder.glob("fault*"))


@pytest.mark.torture
def test_candidates_of_two_ranks_wait_and_go_on(command: Callable, in_ranks: Ranks, folder: Path) -> None:
    words = ("data=wine", "model=mlp", "budget=9ep", "logger=none")
    search = ("-m", "hydra/sweeper=halving", "hydra.sweeper.reduction=3", "optimizer.lr=0.001,0.01,0.1")
    command(*words, *search, "sweep.ranks=2", "name=a")
    jobs = json.loads((folder / "outputs/multirun/a/sweep.json").read_text())["jobs"]
    assert sorted(job["state"] for job in jobs) == ["completed", "paused", "paused"]
    (best,) = (job for job in jobs if job["state"] == "completed")
    rate = f"optimizer.lr={best['swept']['optimizer.lr']}"
    said(in_ranks(2, ranked.command, folder, *words, rate, "run_dir=straight"), 0, 0)
    straight = (folder / "straight/metrics.jsonl").read_bytes()
    assert (folder / "outputs/multirun/a" / best["folder"] / "metrics.jsonl").read_bytes() == straight
