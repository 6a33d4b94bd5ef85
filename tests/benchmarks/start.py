"""What starting costs, in times of `import torch`: processes of their own, in turns.

CPU time of whole processes, so that a busy machine adds little; medians of the turns.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rows import row, title

TURNS = 5
TRAINRUN = ["-m", "trainrun"]
FIRST_STEP = str(Path(__file__).with_name("first_step.py"))
# name -> the words after `python`, and the bar
COMMANDS: dict[str, tuple[list[str], str]] = {
    "import torch": (["-c", "import torch"], ""),
    "trainrun --help": ([*TRAINRUN, "--help"], "0.05"),
    "trainrun optimizer.lrr=1": ([*TRAINRUN, "optimizer.lrr=1"], "0.12"),
    "trainrun optimizer.lr=abc": ([*TRAINRUN, "optimizer.lr=abc"], "0.12"),
    "trainrun show optimizer": ([*TRAINRUN, "show", "optimizer"], ""),
    "trainrun runs (none)": ([*TRAINRUN, "runs"], ""),
    "trainrun budget=1step logger=none": ([*TRAINRUN, "budget=1step", "logger=none"], "1.7"),
    "trainrun, to the end of its first step": ([FIRST_STEP], "1.4"),
}


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(TURNS + 1):
            for name, (words, _must) in COMMANDS.items():
                times[name].append(cpu_s(words, Path(folder)))
    torch_s = statistics.median(times["import torch"][1:])  # the first turn fills the caches
    title(f"Start, in times of `import torch` ({torch_s:.2f} s)")
    for name, (_words, must) in COMMANDS.items():
        if name != "import torch":
            seconds = statistics.median(times[name][1:])
            row(name, seconds / torch_s, f"at most {must}" if must else "", f"{seconds:.2f} s")


def cpu_s(words: list[str], folder: Path) -> float:
    """CPU seconds of one process, in an empty folder of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as empty:
        environment = os.environ | {"TRAINRUN_STATE": str(folder / "state")}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], cwd=empty, env=environment, capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
