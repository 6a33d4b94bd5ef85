"""Little room: the largest batch that fits is found, and a lack of memory is told with what helps."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from setup import QUIET, TRAINRUN, Setup, pictures

ROOM = 4 * 2**30  # bytes of a GPU that are left to both
WINDOW = 53**2  # ResNet-9 takes about 7 GB for it; of its three divisors each takes find-batch a process
PROMPT_S = 60.0  # from the start of a process to the answer


def memory(setup: Setup) -> None:
    with taken(setup):
        find_batch(setup)
        run_out(setup)


@contextmanager
def taken(setup: Setup) -> Iterator[None]:
    """Within, another program has all of the GPU but ROOM: this one."""
    if not setup.is_gpu:
        yield
        return
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(max(0, free - ROOM), dtype=torch.uint8, device="cuda")
    setup.figure("room on the GPU, GiB", torch.cuda.mem_get_info()[0] / 2**30)
    yield
    del held
    torch.cuda.empty_cache()


def find_batch(setup: Setup) -> None:
    window = 9 if setup.small else WINDOW
    words = [*sized(setup, window), setup.where]
    began = time.monotonic()
    command = [*TRAINRUN, "find-batch", *words, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    took = f"{time.monotonic() - began:.0f} s"
    if ended.returncode:
        setup.must(
            "find-batch", f"exit code {ended.returncode}", "a size", False, f"{took}\n{ended.stderr[-800:]}"
        )
        return
    answer = json.loads(ended.stdout)
    tried = {size["size"]: size for size in answer["train"]}
    size = answer["batch_size"]
    note = f"of {window}, {tried[size]['samples_per_s']:,.0f} samples/s; {took}; {answer['limit']}"
    setup.must("find-batch", size, "a size", 1 <= size <= window, note)
    words = [*sized(setup, size), *QUIET, *answer["overrides"][1:], "budget=3step"]
    run = setup.start(words, "fitting").wait()
    setup.must("training with it", f"exit code {run.code}", "exit code 0", run.code == 0, run.fault)


def sized(setup: Setup, batch_size: int) -> list[str]:
    few = ["data.val_fraction=0.01", "data.test_fraction=0.01"]
    return [*pictures(setup.small, 6000)[:-1], *few, f"batch_size={batch_size}"]


def run_out(setup: Setup) -> None:
    """On a GPU by a batch that is too large; on a CPU by a model that asks for a petabyte."""
    words = [*sized(setup, WINDOW), *QUIET, "budget=2step"]
    if not setup.is_gpu:
        words = ["data=synthetic", "data.num_samples=600", "model._target_=loops.Greedy", "batch_size=16"]
        words += [*QUIET, "budget=2step"]
    run = setup.start(words, "too-large").wait()
    setup.must(
        "out of memory",
        f"exit code {run.code}",
        "exit code 8",
        run.code == 8,
        run.said if run.code != 8 else "",
    )
    setup.must("seconds to the answer", run.seconds, f"at most {PROMPT_S:.0f}", run.seconds <= PROMPT_S)
    lines = [line.strip() for line in run.said.splitlines() if line.startswith("  trainrun resume ")]
    setup.must(
        "an answer", len(lines), "at least 1", bool(lines), lines[0] if lines else f"\n{run.said[-800:]}"
    )
    if setup.is_gpu:
        file = run.folder / "failures" / "memory.pickle"
        setup.must("failures/memory.pickle", "there" if file.exists() else "missing", "there", file.exists())
    if lines and run.code == 8:
        follow(setup, shlex.split(lines[0])[1:])


def follow(setup: Setup, words: list[str]) -> None:
    """Do what it says, again where memory still runs out."""
    seconds: list[float] = []
    while len(seconds) < 5:
        began = time.monotonic()
        ended = subprocess.run([*TRAINRUN, *words], capture_output=True, text=True, check=False)
        seconds.append(time.monotonic() - began)
        lines = [line for line in ended.stderr.splitlines() if line.startswith("  trainrun resume ")]
        if ended.returncode != 8 or not lines:
            break
        words = shlex.split(lines[0])[1:]
    note = f"{len(seconds)} times followed, the last in {seconds[-1]:.0f} s: {' '.join(words[2:])}"
    done = ended.returncode == 0
    note += "" if done else f"\n{ended.stderr[-800:]}"
    setup.must("following the answer", f"exit code {ended.returncode}", "exit code 0", done, note)
