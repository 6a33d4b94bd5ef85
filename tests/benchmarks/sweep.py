"""What a sweep costs beside its jobs' training, and what two jobs at once gain.

    python tests/benchmarks/sweep.py [overhead | launchers] [ROUNDS]

Overhead: a sweep of one job and one of many, in turns; what the second takes longer beyond its jobs' own
seconds of training, over the jobs that it has more. So the start counts for nothing.
Launchers: the same jobs of the default run under joblib, two at once and one at a time, and one at a time
with a single thread, as each of two has on two cores; in turns, start included.
Wants a machine that does nothing else.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FEW, MANY, AT_ONCE = 1, 9, 8
OVERHEAD_S, GAIN = 0.5, 1.6
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs={}")
LAUNCHERS = {
    "basic, 1 thread": ("runtime.threads=1",),
    "joblib, 1 at once": (JOBLIB[0], JOBLIB[1].format(1)),
    "joblib, 2 at once": (JOBLIB[0], JOBLIB[1].format(2)),
}


def main(*words: str) -> int:
    """Returns how many bars are missed."""
    rounds = next((int(word) for word in words if word.isdigit()), 3)
    asked = [word for word in words if not word.isdigit()] or ["overhead", "launchers"]
    met = {"overhead": overhead, "launchers": launchers}
    return sum(not met[name](rounds) for name in asked)


def overhead(rounds: int) -> bool:
    """Seconds of a job beyond training, under the in-process launcher."""
    found = []
    for number in range(1, rounds + 1):
        few, many = (sweep(count, "budget=2ep") for count in (FEW, MANY))
        found.append(((many[0] - many[1]) - (few[0] - few[1])) / (MANY - FEW))
        print(f"round {number}: {MANY} jobs {many[0]:.1f} s, {many[1]:.1f} of them training;", end=" ")
        print(f"{FEW} job {few[0]:.1f} s, {few[1]:.1f}; overhead {found[-1]:.2f} s a job", flush=True)
    middle = statistics.median(found)
    spread = f"{min(found):.2f} to {max(found):.2f}"
    print(f"overhead {middle:.2f} s a job (median; {spread}); wanted: at most {OVERHEAD_S}")
    return middle <= OVERHEAD_S


def launchers(rounds: int) -> bool:
    """How many times the jobs of one worker two get done."""
    gains = []
    for number in range(1, rounds + 1):
        walls = {name: sweep(AT_ONCE, *words)[0] for name, words in LAUNCHERS.items()}
        basic, one, two = walls.values()
        gains.append((one / two, basic / two))
        told = ", ".join(f"{name} {wall:.1f} s" for name, wall in walls.items())
        print(f"round {number}, {AT_ONCE} jobs: {told}; {one / two:.2f} times one worker,", end=" ")
        print(f"{basic / two:.2f} times one of one thread", flush=True)
    for name, values in zip(("one worker", "one of one thread"), zip(*gains, strict=True), strict=True):
        middle, spread = statistics.median(values), f"{min(values):.2f} to {max(values):.2f}"
        print(f"two workers: {middle:.2f} times {name} (median; {spread}); wanted: at least {GAIN}")
    return statistics.median(one for one, _ in gains) >= GAIN


def sweep(jobs: int, *words: str) -> tuple[float, float]:
    """(seconds of the whole command, seconds of training summed over its jobs)."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "trainrun", "-m", f"seed=range({jobs})", "run_dir=sweep", "-q", *words]
        began = time.perf_counter()
        subprocess.run(line, cwd=folder, env=environment, check=True, capture_output=True)
        wall = time.perf_counter() - began
        told = json.loads((Path(folder) / "sweep" / "sweep.json").read_text())["jobs"]
    assert [one["state"] for one in told] == ["completed"] * jobs
    return wall, sum(one["seconds"] for one in told)


if __name__ == "__main__":
    sys.exit(min(main(*sys.argv[1:]), 1))
