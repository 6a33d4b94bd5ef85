"""A data set of a thousand million samples begins at once, takes little memory, and goes on exactly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from toy import same_bits

HUGE = """
import torch
from torch.utils.data import Dataset

class Huge(Dataset):
    num_classes = 2
    def __init__(self, size):
        self.size = size
    def __len__(self):
        return self.size
    def __getitem__(self, index):
        return torch.tensor([index % 7 / 7, index % 2]), index % 2
"""
RUN = ["data=dataset", "data.train._target_=huge.Huge", "model=mlp", "logger=none", "scheduler=constant"]


def run_of(size: int, command: Any, folder: str, *words: str) -> float:
    """Train; MB that the process had at most."""
    shares = [f"data.{split}_fraction={20 / size}" for split in ("val", "test")]
    said = command(*RUN, f"+data.train.size={size}", *shares, f"run_dir={folder}", *words)
    return peak_mb(said.err)


def peak_mb(text: str) -> float:
    amount, unit = re.search(r"memory: ([\d.]+) (MB|GB) at most", text).groups()  # type: ignore[union-attr]
    return float(amount) * (1000 if unit == "GB" else 1)


def weights(folder: Path) -> Any:
    return torch.load(folder / "checkpoints" / "step-000000002" / "state.pt", weights_only=True)["model"]


def test_it_trains_and_resumes_in_little_memory(command: Any, tmp_path: Path) -> None:
    (tmp_path / "huge.py").write_text(HUGE)
    few = run_of(1000, command, "few", "budget=2step")
    assert run_of(1_000_000_000, command, "whole", "budget=2step") < few + 100
    run_of(1_000_000_000, command, "broken", "budget=1step")
    assert peak_mb(command("resume", "broken", "budget=2step").err) < few + 100
    assert same_bits(weights(tmp_path / "broken"), weights(tmp_path / "whole"))
