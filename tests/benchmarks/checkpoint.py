"""How long a save holds up the loop, against torch.save of the same state.

Both are measured in turns in one run, so that a busy machine is busy for both. Prints the medians and
10th percentiles, and their ratios.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from toy import new_state

from trainrun.checkpoint.store import Checkpoints
from trainrun.run.record import Record

ROUNDS = 15


def main() -> None:
    model = nn.Sequential(*(nn.Linear(1670, 1670) for _ in range(4)))  # with Adam's two moments: 134 MB
    state = new_state(model, lambda groups, lr: torch.optim.AdamW(groups, lr))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    blocked, plain = [], []
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Record(Path(folder))) as record:
        checkpoints = Checkpoints(1, 2, 0, None, Path(folder) / "checkpoints", "benchmark", record)
        checkpoints.prepare(state)  # as the loop does behind its first step, long before the first save
        time.sleep(0.3)
        for round_ in range(ROUNDS):
            state.step = round_ + 1
            began = time.perf_counter()
            checkpoints.begin(state)
            blocked.append(time.perf_counter() - began)
            (saved,) = checkpoints.wait()
            began = time.perf_counter()
            torch.save(state.state_dict(), Path(folder) / "plain.pt")
            plain.append(time.perf_counter() - began)
        checkpoints.close()
    (low, ours), (least, theirs) = quantiles(blocked[1:]), quantiles(plain[1:])
    print(f"{saved.num_bytes / 1e6:.0f} MB; the loop waits {blocked[0] * 1e3:.0f} ms for the first save")
    print(f"the loop waits {ours * 1e3:.1f} ms for a save, torch.save takes {theirs * 1e3:.1f} ms")
    print(f"ratio {ours / theirs:.3f}, of the 10th percentiles {low / least:.3f}")


def quantiles(seconds: list[float]) -> tuple[float, float]:
    """The 10th percentile and the median."""
    return statistics.quantiles(seconds, n=10)[0], statistics.median(seconds)


if __name__ == "__main__":
    main()
