"""Peak memory of the MLP's run, each contestant in processes of its own, in turns."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import commands
from rows import row, title

STEPS, TURNS = 200, 3


def main() -> None:
    title(f"Peak memory of {STEPS} steps of the MLP, MiB")
    peaks: dict[str, list[float]] = {name: [] for name in RUNS}
    for _ in range(TURNS):
        for name, taken in peaks.items():
            command = [sys.executable, __file__, name]
            taken.append(float(subprocess.run(command, capture_output=True, check=True, text=True).stdout))
    middle = {name: statistics.median(taken) for name, taken in peaks.items()}
    for name, mib in middle.items():
        row(name, mib)
    row("trainrun / Lightning", middle["trainrun"] / middle["Lightning"], "at most 1")


def run_guide(folder: Path) -> None:
    from contestants import guide
    from feeds import guides_own
    from models import MLP

    guide.train(MLP(), guides_own(folder, commands.MLP_SIZE, num_batches=STEPS), epochs=1)


def run_lightning(folder: Path) -> None:
    from contestants import lightning
    from feeds import guides_own
    from models import MLP

    lightning.train(MLP(), guides_own(folder, commands.MLP_SIZE), folder, max_steps=STEPS)


def run_trainrun(folder: Path) -> None:
    from trainrun.__main__ import main

    sys.argv[1:] = [*commands.MLP, f"budget={STEPS}step", f"run_dir={folder / 'run'}"]
    assert main() == 0


RUNS = {"guide": run_guide, "Lightning": run_lightning, "trainrun": run_trainrun}


def peak_mib() -> float:
    """The most memory that this process had at any time."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def measured(name: str) -> None:
    """Run a contestant in this process, what it prints kept away, and print its peak."""
    from contest import muted

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        commands.enter(folder)
        with muted(folder / "log"):
            RUNS[name](folder)
    print(peak_mib())


if __name__ == "__main__":
    measured(sys.argv[1]) if sys.argv[1:] else main()
