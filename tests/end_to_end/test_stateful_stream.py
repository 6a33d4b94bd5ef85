"""A run on a stream with a state of its own, killed in mid-epoch, trains on what it would have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import same_bits

STREAM = """
import os
import signal
from pathlib import Path

import torch
from torch.utils.data import IterableDataset, get_worker_info


class Numbers(IterableDataset):
    num_classes = 2

    def __init__(self):
        self.index = 0

    def __iter__(self):
        worker = get_worker_info()
        step, first = (1, 0) if worker is None else (worker.num_workers, worker.id)
        while self.index * step + first < 500:
            number = self.index * step + first
            self.index += 1
            with open("reads.txt", "a") as file:
                file.write(f"{number}\\n")
            if number == 300 and Path("kill").exists():
                os.kill(os.getpid() if worker is None else os.getppid(), signal.SIGKILL)
            yield torch.tensor([number / 500, float(torch.rand(()))]), number % 2
        self.index = 0

    def state_dict(self):
        return {"index": self.index}

    def load_state_dict(self, state):
        self.index = state["index"]
"""
RUN = ["data=dataset", "data.train._target_=numbers_.Numbers", "data.val_fraction=0", "data.test_fraction=0"]
RUN += ["model=mlp", "model.width=16", "batch_size=8", "budget=100step", "checkpoint.every=4step"]
RUN += ["loop.log_every=1step", "loop.eval_every=50step", "scheduler=constant", "logger=none"]


def trained(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "checkpoints/step-000000100/state.pt", weights_only=True)
    return {name: state[name] for name in ("model", "counters", "position")}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_killed_in_mid_epoch(num_workers: int, command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "numbers_.py").write_text(STREAM)
    words, reads = [*RUN, f"data.num_workers={num_workers}"], tmp_path / "reads.txt"
    command(*words, "run_dir=whole")
    (tmp_path / "kill").touch()
    command(*words, "run_dir=killed", code=-9)
    (tmp_path / "kill").unlink()
    if num_workers:
        before = (tmp_path / "killed/config.yaml").read_bytes()
        refused = command("resume", "killed", "data.num_workers=0", code=2)
        assert "data.num_workers: must stay: each of 2 processes" in refused.err
        assert (tmp_path / "killed/config.yaml").read_bytes() == before
    reads.unlink()
    command("resume", "killed")
    again = list(map(int, reads.read_text().split()))
    rest_of_pass = [number for number in again[: again.index(499)] if number > 20]  # the plan reads the first
    # Stored at most 9 steps before: the last save may have been on its way. Two batches a process
    assert 300 - 8 * (9 + 3 * num_workers) <= min(rest_of_pass) <= 300
    ours, theirs = trained(tmp_path / "killed"), trained(tmp_path / "whole")
    assert same_bits(ours["model"], theirs["model"]) and ours["position"] == theirs["position"]
    lines = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("killed", "whole")]
    assert lines[0] == lines[1]
