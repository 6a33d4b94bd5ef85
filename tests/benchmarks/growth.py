"""What grows with the size of data, models and records: straight, and how steep.

    python tests/benchmarks/growth.py [disk | epochs | steps | records | runs ...]

Seconds of the processor, the least of a few turns; commands in processes of their own, in times of
`import torch`, with their peak memory.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice, pairwise
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any, NamedTuple

import numpy as np

from trainrun.assembly.build import Parts, build
from trainrun.config.compose.composer import Composer
from trainrun.protocols import Position

ROWS, ROW = 6_400_000, (1, 28, 28)  # 20 GB of float32
LINES, RUNS, TURNS = 100_000, 1000, 3
SETTINGS = ["runtime.threads=1", "budget=100ep", "data=synthetic", "data.shape=[1,4,4]", "model=mlp"]


def main(*words: str) -> None:
    for name in words or tuple(_PARTS):
        _PARTS[name]()


def parts_of(*overrides: str) -> Parts:
    return build(Composer().checked([*SETTINGS, *overrides]).settings)


def cpu_s(work: Callable[[], object]) -> float:
    """Seconds of the processor, the least of a few turns."""
    taken = []
    for _ in range(TURNS):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def disk() -> None:
    """A sparse array of 20 GB, whose holes read as zeros: resident growth, and how long batches take."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, targets = Path(folder) / "x.npy", Path(folder) / "y.npy"
        with inputs.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (ROWS, *ROW)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + ROWS * 4 * int(np.prod(ROW)))
        np.save(targets, np.arange(ROWS) % 10)
        start = resident_mib()
        began = time.process_time()
        words = ["data=arrays", f"data.path={inputs}", f"data.targets={targets}", "batch_size=128"]
        parts = build(Composer().checked([*words, *SETTINGS[:2], "model=mlp"]).settings)
        built_s, batches = (
            time.process_time() - began,
            parts.data.train_batches(Position(), parts.batch_spec, 0),
        )
        next(batches)
        batch_s = cpu_s(lambda: list(islice(batches, 500))) / 500
        list(islice(parts.data.eval_batches("val"), 200))
        grown = resident_mib() - start
        print(f"array of 20 GB: {built_s:.1f} s to build, {batch_s * 1e3:.2f} ms a batch of 128")
        print(f"  resident growth {grown:,.0f} MiB; wanted: less than 2,048")


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def epochs() -> None:
    """An epoch's batches, without training, by the number of samples."""
    costs = {}
    for count in (1000, 10_000, 100_000, 1_000_000):
        parts = parts_of(f"data.num_samples={count}", "model.width=16")
        batches = parts.data.train_batches(Position(), parts.batch_spec, 0)

        def epoch(batches: Iterator[Any] = batches) -> None:
            while not next(batches).ends_epoch:
                pass

        epoch()
        costs[count] = cpu_s(epoch)
        each_us = costs[count] / count * 1e6
        print(f"{count:9,} samples: {costs[count]:7.4f} s an epoch, {each_us:.2f} us a sample")
    print(f"  steepest {steepness(costs):.2f} of straight; wanted: at most 1.5")


def steps() -> None:
    """A step's forward and backward pass and update, by width and by batch."""
    grown = {"model.width": (128, 256, 512, 1024), "batch_size": (32, 128, 512, 2048)}
    for key, sizes in grown.items():
        costs = {}
        for size in sizes:
            words = ["data.num_samples=20000", "model.depth=3", "model.width=256", "batch_size=256"]
            seconds = step_s(parts_of(*words, f"{key}={size}"))
            costs[size**2 if key == "model.width" else size] = seconds  # a matrix has width x width
            print(f"{key}={size:<5} {seconds * 1e3:8.2f} ms a step")
        print(f"  steepest {steepness(costs):.2f} of straight; wanted: at most 1.5")


def step_s(parts: Parts) -> float:
    batches = parts.data.train_batches(Position(), parts.batch_spec, 0)
    step = parts.loop(Path(), "benchmark", None, parts.runtime.signals()).step

    def eight() -> None:
        for batch in islice(batches, 8):
            step(parts.state, [batch])

    eight()
    return cpu_s(eight) / 8


def steepness(costs: Mapping[int, float]) -> float:
    """The most that a cost grows from one size to the next, over what the size grows; 1: straight."""
    return max((costs[b] / costs[a]) / (b / a) for a, b in pairwise(costs))


class Used(NamedTuple):
    """What a process took."""

    cpu_s: float
    peak_mib: float


def used_by(words: list[str], folder: str) -> Used:
    """Of one process, through another that has no other child."""
    code = "import resource, subprocess, sys; ended = subprocess.run(sys.argv[1:], capture_output=True)\n"
    code += "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
    code += "print(used.ru_utime + used.ru_stime, used.ru_maxrss)\n"
    code += "sys.exit(ended.returncode not in (0, 3))"  # 3: the doctor names a symptom
    command = [sys.executable, "-c", code, sys.executable, *words]
    cpu, peak = subprocess.run(command, cwd=folder, capture_output=True, check=True, text=True).stdout.split()
    return Used(float(cpu), int(peak) / 1024)


def least(words: list[str], folder: str) -> Used:
    return min(used_by(words, folder) for _ in range(TURNS))


def real_run(folder: str) -> Path:
    """A short run of the default model."""
    words = ["-m", "trainrun", "budget=3ep", "loop.log_every=2step", "run_dir=outputs/first", "logger=none"]
    subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, check=True)
    return Path(folder) / "outputs" / "first"


def lengthen(file: Path) -> None:
    """Repeat the records of training and evaluation with rising steps."""
    records = [json.loads(line) for line in file.read_text().splitlines()]
    repeated = [r for r in records if r["event"] == "train" or r.get("split") == "val"]
    first, last = records[:1], [r for r in records if r["event"] == "finished"]
    body = [{**repeated[n % len(repeated)], "step": n + 1} for n in range(LINES)]
    last = [{**record, "step": LINES} for record in last]
    starts = [] if first[0]["event"] == "train" else first
    file.write_text("".join(f"{json.dumps(record)}\n" for record in (*starts, *body, *last)))


def records() -> None:
    """Commands that read long records."""
    with tempfile.TemporaryDirectory() as folder:
        run = real_run(folder)
        for name in ("metrics.jsonl", "timing.jsonl"):
            lengthen(run / name)
        copytree(run, run.with_name("second"))
        torch_s = least(["-c", "import torch"], folder).cpu_s
        for words in (
            "doctor outputs/first",
            "compare outputs/first outputs/second",
            "plot run outputs/first",
        ):
            used = least(["-m", "trainrun", *words.split()], folder)
            print(
                f"{words:37} over {LINES:,} lines each: {used.cpu_s / torch_s:.2f}, {used.peak_mib:.0f} MiB"
            )
        print("  in times of import torch; wanted: at most 2 and 250 MiB")


def runs() -> None:
    """The list of many runs."""
    with tempfile.TemporaryDirectory() as folder:
        run = real_run(folder)
        for number in range(RUNS - 1):
            place = run.parent / f"2026-01-{1 + number // 100:02}" / f"{number % 100:02}-00-00"
            copytree(run, place, ignore=ignore_patterns("state.pt"))
        torch_s = least(["-c", "import torch"], folder).cpu_s
        used = least(["-m", "trainrun", "runs"], folder)
        print(f"trainrun runs over {RUNS:,} folders: {used.cpu_s / torch_s:.2f}; wanted: at most 1.5")


_PARTS = {"disk": disk, "epochs": epochs, "steps": steps, "records": records, "runs": runs}

if __name__ == "__main__":
    main(*sys.argv[1:])
