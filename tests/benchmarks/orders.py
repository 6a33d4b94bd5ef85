"""The order of a thousand million samples: time to the first index, and the memory that it takes."""

from __future__ import annotations

import subprocess
import sys
import time

import torch
from memory import peak_mib
from rows import row, title

from trainrun.data.lazy_indices import LARGE, numbered
from trainrun.data.order import epoch_order, micro_batches
from trainrun.data.resident import Holdout, split
from trainrun.protocols import BatchSpec, Position

SIZES, BATCHES = (1_000_000_000, 10_000_000), 200


def main() -> None:
    for size in SIZES:
        title(f"Splits and an epoch's order of {size:,} samples")
        command = [sys.executable, __file__, str(size)]
        words = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
        first_s, mib, batch_us = map(float, words)
        is_computed = size > LARGE
        row("first index, s", first_s, "below 1" if is_computed else "")
        row("memory, MiB", mib, "below 100" if is_computed else "")
        row("indices of a batch of 256, us", batch_us)


def measure(size: int) -> tuple[float, float, float]:
    """Seconds to the first batch in the middle of an epoch, MiB more than before, microseconds a batch."""
    torch.randperm(10)
    before, start = peak_mib(), time.perf_counter()
    train = split(numbered(size), Holdout(0.1, 0.1, 0, None, None, 5), None)["train"]
    batches = micro_batches(epoch_order(train, 0, 1), Position(1, size // 2), BatchSpec(256, 1))
    next(batches)
    first_s, begun = time.perf_counter() - start, time.perf_counter()
    for _ in range(BATCHES):
        next(batches)
    return first_s, peak_mib() - before, (time.perf_counter() - begun) / BATCHES * 1e6


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(*measure(int(sys.argv[1])))
    else:
        main()
