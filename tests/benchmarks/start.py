"""What the quick commands cost, in times of `import torch`: processes of their own, in turns.

Processor time of whole processes, so that a busy machine adds little; medians of the turns are quoted.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile

TURNS = 7
COMMANDS = {
    "import torch": ["-c", "import torch"],
    "trainrun --help": ["-m", "trainrun", "--help"],
    "trainrun show optimizer": ["-m", "trainrun", "show", "optimizer"],
    "trainrun runs (none)": ["-m", "trainrun", "runs"],
    "trainrun optimizer.lrr=1": ["-m", "trainrun", "optimizer.lrr=1"],
    "trainrun optimizer.lr=abc": ["-m", "trainrun", "optimizer.lr=abc"],
}


def cpu_s(words: list[str], folder: str) -> float:
    """Processor seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(TURNS + 1):
            for name, words in COMMANDS.items():
                times[name].append(cpu_s(words, folder))
    torch_s = statistics.median(times["import torch"][1:])  # the first turn fills the caches
    print(
        f"{TURNS} turns, load {os.getloadavg()[0]:.1f}; import torch takes {torch_s:.2f} s of the processor"
    )
    for name, taken in times.items():
        if name != "import torch":
            print(f"{name:28} {statistics.median(taken[1:]) / torch_s:5.2f}")


if __name__ == "__main__":
    main()
