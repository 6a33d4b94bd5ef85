"""torchrun, as its user meets it: one folder, one console, one end; and resumed with other ranks.

The ranks are forks (ranked.py) but in the last test, which starts the real launcher.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ranked
import torch
from ranked import Ended, Ranks, Said, serving
from toy import same_bits
from waiting import HANG_S, wait_until

OWN = '''
import os
import signal
from pathlib import Path

import torch
from torch.utils.data import Dataset


class Faulty(Dataset):
    """Separable points. The file `fault1` says what rank 1 meets, once, at which of its samples."""

    num_classes = 2

    def __init__(self, num_samples):
        self.num_samples, self.count = num_samples, 0

    def __len__(self):
        return self.num_samples

    def __getitem__(self, index):
        self.count += 1
        fault = Path(f"fault{os.environ.get('RANK')}")
        if fault.exists():
            what, at = fault.read_text().split()
            if self.count == int(at):
                fault.unlink()
                if what == "raises":
                    raise RuntimeError("a sample is broken")
                os.kill(os.getpid(), getattr(signal, what))
        generator = torch.Generator().manual_seed(index)
        return torch.randn(4, generator=generator) + index % 2, index % 2
'''
DATA = "+data.{}={{_target_:own.Faulty,num_samples:{}}}"
# 42 samples: windows of 8 and one of 2, of which the second of two ranks gets none.
RUN = ["data=dataset", DATA.format("train", 42), DATA.format("val", 10), "data.test_fraction=0"]
RUN += ["model.width=8", "batch_size=4", "budget=5ep", "loop.log_every=4step", "checkpoint.every=3step"]
RUN += ["regularization=ema", "logger=console", "task.metrics=[own_metric.largest]", "run_dir=run"]
METRIC = "def largest(outputs, targets):\n    return float(outputs.max())\n"
GO_ON = "\nto go on:\n  torchrun --nproc-per-node 2 -m trainrun resume run\n"
ACCUMULATED = "loop.accumulate=2"
STEPS = 30


@pytest.fixture(scope="module")
def in_ranks() -> Iterator[Ranks]:
    with serving() as ready:
        yield ready


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepared(tmp_path)


def prepared(folder: Path) -> Path:
    (folder / "own.py").write_text(OWN)
    (folder / "own_metric.py").write_text(METRIC)
    return folder


def said(ended: list[Ended], *codes: int) -> list[Said]:
    """What each rank said, where all ended as they should."""
    found: list[Said] = [one.value for one in ended]
    assert [one and one.code for one in found] == list(codes), ended
    return found


def status(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run" / "status.json").read_text())


def metrics(folder: Path) -> bytes:
    return (folder / "run" / "metrics.jsonl").read_bytes()


def weights(folder: Path) -> dict[str, Any]:
    stored = torch.load(folder / "run" / "checkpoints" / f"step-{STEPS:09}" / "state.pt", weights_only=True)
    return {"model": stored["model"], "averager": stored["averager"]}


def require_close(folder: Path, other: Path) -> None:
    """Weights and metrics equal to rounding."""
    torch.testing.assert_close(weights(folder), weights(other), rtol=0, atol=1e-6)
    lines, expected = ([json.loads(line) for line in metrics(one).splitlines()] for one in (folder, other))
    assert len(lines) == len(expected) > STEPS // 4
    for ours, theirs in zip(lines, expected, strict=True):
        near = {k: pytest.approx(v, abs=1e-6) if isinstance(v, float) else v for k, v in theirs.items()}
        assert ours == near


@pytest.fixture(scope="module")
def together(in_ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Said]]:
    """A run of two ranks that nothing interrupts."""
    folder = prepared(tmp_path_factory.mktemp("together"))
    return folder, said(in_ranks(2, ranked.command, folder, *RUN), 0, 0)


@pytest.fixture(scope="module")
def alone(in_ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run in one process that accumulates twice as much."""
    folder = prepared(tmp_path_factory.mktemp("alone"))
    said(in_ranks(1, ranked.command, folder, *RUN, ACCUMULATED), 0)
    return folder


def test_of_two_ranks_the_first_is_profiled(
    in_ranks: Ranks, together: tuple[Path, list[Said]], folder: Path
) -> None:
    first, second = said(in_ranks(2, ranked.command, folder, *RUN, "runtime.profile=4"), 0, 0)
    assert metrics(folder) == metrics(together[0])
    assert first.err.count("divided as 6 to 9 in run/profile/trace.json") == 1
    assert second.err == ""
    trace = json.loads((folder / "run/profile/trace.json").read_text())["traceEvents"]
    assert sum(event["name"] == "optimizer" for event in trace) == 4


def test_two_ranks_are_one_run(together: tuple[Path, list[Said]], alone: Path) -> None:
    folder, (first, second) = together
    require_close(folder, alone)
    assert (second.out, second.err) == ("", "")
    assert "4 x 2 ranks = 8 samples a step" in first.err
    assert "2 ranks on cpu, each with" in first.err
    assert first.err.count("finished in") == 1
    assert "torchrun --nproc-per-node 2 -m trainrun resume run budget=10ep" in first.err
    made = {path.name for path in folder.iterdir()} - {"__pycache__"}
    assert made == {"own.py", "own_metric.py", "run"}
    found = status(folder)
    assert (found["state"], found["exit_code"], found["step"]) == ("completed", 0, STEPS)
    environment = json.loads((folder / "run" / "environment.json").read_text())
    assert (environment["ranks"], environment["samples_per_step"]) == (2, 8)
    assert environment["command"].startswith("torchrun --nproc-per-node 2 -m trainrun data=dataset")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (
            ["epochs=3", "model.dropuot=0.5"],
            "torchrun --nproc-per-node 2 -m trainrun budget=3ep model.dropout=0.5",
        ),
        (["runtime.sync_batch_norm=true"], "on cpu it has no effect"),
        (
            ["eval", "a b", "--split", "val"],
            "run it without torchrun\n\n  trainrun eval 'a b' --split val\n",
        ),
        (["--lr", "0.1"], "\n  torchrun --nproc-per-node 2 -m trainrun optimizer.lr=0.1\n"),
        (["-m", "seed=0,1"], "run it without torchrun"),
    ],
)
def test_a_mistake_is_answered_once(in_ranks: Ranks, words: list[str], answer: str, folder: Path) -> None:
    spoken = said(in_ranks(2, ranked.command, folder, *words), 2, 2)
    (text,) = [one.err for one in spoken if one.err]
    assert answer in text
    assert "Traceback" not in text
    assert not (folder / "outputs").exists()


def test_the_first_rank_says_whose_a_run_is_though_no_other_has_its_key(
    in_ranks: Ranks, folder: Path, together: tuple[Path, list[Said]]
) -> None:
    said(in_ranks(2, ranked.on_nodes, folder, *RUN), 0, 0)
    said(in_ranks(2, ranked.on_nodes, folder, "resume", "run", "loop.log_every=3step"), 0, 0)
    assert same_bits(weights(folder), weights(together[0]))
    assert not (folder / "home1").exists()
    (folder / "home0").rename(folder / "home1")
    told = "".join(one.err for one in said(in_ranks(2, ranked.on_nodes, folder, "resume", "run"), 2, 2))
    assert f"no key in {folder / 'home0'}" in told  # what the first has, whichever says it
    line = "torchrun --nproc-per-node 2 -m trainrun resume run 'runtime.trust=[own,own_metric]'"
    assert told.count(line) == 1


def test_an_error_on_one_rank_ends_all_and_the_first_says_which(
    in_ranks: Ranks, folder: Path, together: tuple[Path, list[Said]]
) -> None:
    (folder / "fault1").write_text("raises 60")
    ended = in_ranks(2, ranked.command, folder, *RUN)
    first, second = said(ended, 10, 4)
    pattern = r"rank 1: (data: sample \d+ of Faulty failed: RuntimeError: a sample is broken \(own.py:29\))\n"
    (why,) = re.fullmatch(pattern, second.err).groups()
    assert f"rank 1 failed: {why}\n" in first.err
    assert "Traceback" not in first.err
    found = status(folder)
    assert (found["state"], found["exit_code"], found["resumable"]) == ("failed", 10, True)
    assert found["reason"] == f"rank 1 failed: {why}"
    said(in_ranks(2, ranked.command, folder, "resume", "run"), 0, 0)
    assert metrics(folder) == metrics(together[0])
    assert same_bits(weights(folder), weights(together[0]))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_all_and_what_was_saved_goes_on(
    in_ranks: Ranks, rank: int, folder: Path, together: tuple[Path, list[Said]], alone: Path
) -> None:
    (folder / f"fault{rank}").write_text("SIGKILL 60")
    ended = in_ranks(2, ranked.command, folder, *RUN)
    assert ended[rank].error == "died"
    other = ended[1 - rank]
    assert other.value.code == 10
    text = f"\nrank {rank} died\n{GO_ON}"
    assert other.value.err.endswith(text[rank == 0 :])  # the first had lines before it
    assert (status(folder)["state"], status(folder)["reason"]) == ("failed", f"rank {rank} died")
    assert any((folder / "run" / "checkpoints").glob("step-*"))
    if rank == 1:
        said(in_ranks(2, ranked.command, folder, "resume", "run"), 0, 0)
        assert metrics(folder) == metrics(together[0])
        assert same_bits(weights(folder), weights(together[0]))
    else:
        (resumed,) = said(in_ranks(1, ranked.command, folder, "resume", "run", ACCUMULATED), 0)
        assert "ranks: 2 -> 1 (free)" in resumed.err
        assert "loop.accumulate: 1 -> 2 (free)" in resumed.err
        require_close(folder, alone)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_stops_is_named_in_time(in_ranks: Ranks, rank: int, folder: Path) -> None:
    (folder / f"fault{rank}").write_text("SIGSTOP 60")
    ended = in_ranks(2, ranked.command, folder, *RUN, "runtime.timeout=2s")
    assert ended[rank].error == "died"  # by the launcher's hand
    text = f"rank {rank} did not come within 2 seconds (runtime.timeout)"
    assert ended[1 - rank].value.code == 10
    assert ended[1 - rank].value.err.endswith(f"{text}\n{GO_ON}")
    found = status(folder)
    assert (found["state"], found["exit_code"], found["reason"]) == ("failed", 10, text)


def test_a_signal_to_one_rank_saves_and_other_ranks_go_on_with_the_same_window(
    in_ranks: Ranks, folder: Path, alone: Path
) -> None:
    (folder / "fault0").write_text("SIGTERM 90")
    said(in_ranks(1, ranked.command, folder, *RUN, ACCUMULATED), 143)
    stopped_at = status(folder)["step"]
    before = {file: file.stat().st_mtime_ns for file in (folder / "run").rglob("*")}
    spoken = said(in_ranks(2, ranked.command, folder, "resume", "run"), 2, 2)
    (text,) = [one.err for one in spoken if one.err]
    assert "loop.accumulate: the run takes 8 samples a step, this is 4 x 2 x 2 ranks" in text
    assert "torchrun --nproc-per-node 2 -m trainrun resume run loop.accumulate=1" in text
    spoken = said(in_ranks(2, ranked.command, folder, "resume", "run", "batch_size=3"), 2, 2)
    line = "torchrun --nproc-per-node 2 -m trainrun resume run batch_size=2\n"
    assert line in "".join(one.err for one in spoken)
    spoken = said(in_ranks(3, ranked.command, folder, "resume", "run"), 2, 2, 2)
    assert "take a number of ranks that divides 8" in "".join(one.err for one in spoken)
    spoken = said(in_ranks(2, ranked.command, folder, "resume", "run", "seed=3"), 2, 2)
    assert "\n  torchrun --nproc-per-node 2 -m trainrun data=dataset" in "".join(one.err for one in spoken)
    assert {file: file.stat().st_mtime_ns for file in (folder / "run").rglob("*")} == before
    (folder / "fault1").write_text("SIGTERM 30")
    first, second = said(in_ranks(2, ranked.command, folder, "resume", "run", "loop.accumulate=1"), 143, 143)
    assert second.err == ""
    assert "ranks: 1 -> 2 (free)" in first.err
    found = status(folder)
    assert (found["state"], found["reason"]) == ("interrupted", "SIGTERM")
    assert stopped_at < found["step"] < STEPS
    said(in_ranks(2, ranked.command, folder, "resume", "run"), 0, 0)
    require_close(folder, alone)


def test_a_rank_that_comes_late_takes_the_folder_of_the_first_for_the_runs(
    in_ranks: Ranks, folder: Path
) -> None:
    said(in_ranks(2, ranked.late_ranks, folder, *RUN, "budget=1ep"), 0, 0)


def test_all_leave_at_the_time_limit(in_ranks: Ranks, folder: Path) -> None:
    ended = in_ranks(2, ranked.command, folder, *RUN, "budget=100000ep", "runtime.time_limit=1s")
    said(ended, 124, 124)
    assert (status(folder)["state"], status(folder)["reason"]) == ("interrupted", "time_limit")


def test_torchrun_that_is_ended_saves_and_goes_on_in_the_same_bits(
    folder: Path, together: tuple[Path, list[Said]], in_ranks: Ranks
) -> None:
    (folder / "fault1").write_text("SIGSTOP 40")  # it waits there, until it is sent on its way
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "trainrun"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*launcher, *RUN], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: not (folder / "fault1").exists())
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        for child in _children(process.pid):
            os.kill(child, signal.SIGCONT)
        _, err = process.communicate(timeout=HANG_S)
    assert process.returncode != 0
    found = status(folder)
    assert (found["state"], found["exit_code"]) == ("interrupted", 143), err
    said(in_ranks(2, ranked.command, folder, "resume", "run"), 0, 0)
    assert metrics(folder) == metrics(together[0])
    assert same_bits(weights(folder), weights(together[0]))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
