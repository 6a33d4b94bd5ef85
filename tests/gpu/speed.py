"""Steps of trainrun and of bare loops in turns in one process: milliseconds, memory, share of peak FLOPs."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Generator, Iterator
from typing import Any

import loops
import torch
from loops import Batch, Job, Loop
from setup import QUIET, Setup
from turns import Contestant

from trainrun.runtime.peaks import peak_flops

Times = dict[str, list[float]]  # seconds of a step, by turn
# Steps of a turn, and turns; the first turn warms up.
TURNS = {"mlp": (200, 6), "resnet9": (30, 6), "gpt": (6, 6)}
BARE = "bare loop"


class GpuContestant(Contestant):
    """A loop whose turn ends when the GPU has done what it was given."""

    def await_step(self) -> None:  # in the loop's own thread, so on its device
        if self._left == 0:
            synchronize()
        super().await_step()


def mlp(setup: Setup) -> None:
    compare(setup)


def resnet9(setup: Setup) -> None:
    compare(setup)


def gpt(setup: Setup) -> None:
    compare(setup)


def compare(setup: Setup) -> None:
    """First what starts at once, then what must be compiled: a part that runs over has the first rows."""
    gib = torch.cuda.mem_get_info()[1] / 2**30 if setup.is_gpu else 0
    job = loops.jobs(setup.small, gib)[setup.part]
    device = torch.device(setup.device, 0) if setup.is_gpu else torch.device("cpu")
    if setup.is_gpu:
        peaks(setup, job, device)
    contest = Contest(setup, job, device)
    contest.add(BARE, lambda it: loops.eager(contest.loop(), it.feed))
    if setup.is_gpu:
        contest.add("bare loop, CUDA graph", lambda it: loops.graphed(contest.loop(), it.feed))
    else:
        setup.skipped("bare loop, CUDA graph", "is of GPUs")
    contest.add("trainrun", lambda it: trainrun(it, setup, job, "off"))
    contest.race()
    if setup.small:
        setup.skipped("compiled", "compiling takes long: only without --small")
        return
    contest.add("trainrun, compile=step", lambda it: trainrun(it, setup, job, "step"))  # forgets older graphs
    contest.add("bare loop, compiled", lambda it: loops.compiled(contest.loop(), it.feed))
    contest.race()


class Contest:
    """Loops of one job on one device."""

    def __init__(self, setup: Setup, job: Job, device: torch.device) -> None:
        self.setup, self.job, self.device = setup, job, device
        self.contestants: dict[str, Contestant] = {}
        self.flops = 0
        self.times: Times = {}

    def loop(self) -> Loop:
        loop = Loop.of(self.job, self.device, lambda model: model)
        self.flops = self.flops or loop.flops()
        return loop

    def add(self, name: str, loop: Callable[[Contestant], object]) -> None:
        try:
            self.contestants[name] = GpuContestant(loop)
        except RuntimeError as error:
            self.setup.must(name, "failed", "runs", False, f"\n{error.__cause__!r}")

    def race(self) -> None:
        """Let all of them take turns; rows of those that have none yet, and ratios to the bare loop."""
        steps, turns = (3, 3) if self.setup.small else TURNS[self.setup.part]
        new = [name for name in self.contestants if name not in self.times]
        times: Times = {name: [] for name in self.contestants}
        for turn in range(turns):
            for name in list(times):
                try:
                    took = self.contestants[name].turn(steps).wall_s
                except RuntimeError as error:
                    self.setup.must(name, "failed", "runs", False, f"\n{error.__cause__!r}")
                    del self.contestants[name], times[name]
                    continue
                if turn:
                    times[name].append(took)
        self.times |= times
        for name in new:
            if name in times:
                self.row(name, times)

    def row(self, name: str, times: Times) -> None:
        seconds = statistics.median(times[name])
        notes = []
        if name != BARE and BARE in times:
            pairs = zip(times[BARE], times[name], strict=True)
            notes.append(f"{BARE} / this {statistics.median(a / b for a, b in pairs):.3g}")
        rate = self.flops / seconds
        notes.append(f"{rate / 1e12:.3g} TFLOP/s")
        card = torch.cuda.get_device_name(self.device) if self.setup.is_gpu else "CPU"
        if peak := peak_flops(card, self.job.precision):
            notes.append(
                f"{rate / peak:.1%} of the {peak / 1e12:.0f} that the card makes in {self.job.precision}"
            )
        self.setup.figure(f"{name}, ms a step", seconds * 1e3, ", ".join(notes))


def trainrun(contestant: Contestant, setup: Setup, job: Job, mode: str) -> None:
    """The command itself, with its logs every 50 steps, its windows behind the baton."""
    from trainrun.cli.main import main
    from trainrun.loop.windows import Windows

    plain = vars(Windows).get("plain", Windows.__call__)

    def windows(self: Windows, state: Any) -> Generator[Any]:
        yield from contestant.feed(plain(self, state))

    Windows.plain = plain  # type: ignore[attr-defined]
    Windows.__call__ = windows  # type: ignore[method-assign]
    words = [*job.words, *QUIET, "budget=1000000step", f"runtime.compile={mode}"]
    code = main(setup.words(words, f"run-{mode}"))
    raise RuntimeError(f"trainrun {' '.join(words)} ended with exit code {code}")


def peaks(setup: Setup, job: Job, device: torch.device) -> None:
    """The most memory that a few steps of each take, one after the other."""
    steps, most = 5, dict[str, int]()
    for name in (BARE, "trainrun"):
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        if name == BARE:
            loops.eager(Loop.of(job, device, lambda model: model), lambda batches: first(batches, steps))
        else:
            run = setup.train([*job.words, *QUIET, f"budget={steps}step"], "peak")
            if run.fault:
                setup.must("trainrun", f"exit code {run.code}", "exit code 0", False, run.fault)
                return
        synchronize()
        most[name] = torch.cuda.max_memory_allocated(device) - before
    note = f"{BARE} {most[BARE] / 2**20:,.0f} MiB, trainrun / {BARE} {most['trainrun'] / most[BARE]:.3g}"
    setup.figure("peak memory, MiB", f"{most['trainrun'] / 2**20:,.0f}", note)


def first(batches: Iterator[Batch], count: int) -> Iterator[Batch]:
    for _ in range(count):
        yield next(batches)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
