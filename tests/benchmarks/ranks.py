"""Time of a step of two gloo ranks on this machine: DDP or FSDP2 in a bare loop, and trainrun; in turns.

    torchrun --nproc-per-node 2 ranks.py {DDP|trainrun|FSDP2|"trainrun fsdp"} SIZE FOLDER

is one of the runs that are compared; each of its ranks leaves its figures in FOLDER: CPU seconds of a
step, which other work on the machine disturbs least, and the median of what a step took by the clock.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any, TypeVar

import commands
from rows import row, title

Item = TypeVar("Item")
TURNS, RANKS, WARM_UP = 4, 2, 5


@dataclass(frozen=True)
class Size:
    """Widths of the MLP's hidden layers, and how many steps are measured."""

    first: int
    second: int
    steps: int


SIZES = {"0.2 M": Size(256, 128, 200), "18 M": Size(4096, 3584, 20), "GPT": Size(128, 4, 40)}  # width, depth
TOKENS, WINDOWS = 128, 8  # of a batch of the GPT


def main() -> None:
    title(f"Step of {RANKS} gloo ranks, MLP and GPT: DDP / trainrun and FSDP2 / trainrun")
    for size in sys.argv[1:] or SIZES:
        ours, theirs = [], []
        for _ in range(TURNS):
            theirs.append(step_s("FSDP2" if size == "GPT" else "DDP", size))
            ours.append(step_s("trainrun fsdp" if size == "GPT" else "trainrun", size))
        for kind, number in (("CPU", 0), ("clock", 1)):
            theirs_s, ours_s = (min(turn[number] for turn in turns) for turns in (theirs, ours))
            note = f"{theirs_s * 1e3:.2f} / {ours_s * 1e3:.2f} ms"
            row(f"{size} parameters, {kind}", theirs_s / ours_s, note=note)


def step_s(name: str, size: str) -> tuple[float, float]:
    """(CPU seconds of a step over both ranks, seconds of it by the clock)."""
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={RANKS}", "--standalone"]
    with tempfile.TemporaryDirectory() as folder:
        command = [*launch, __file__, name, size, folder]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        figures = [json.loads(file.read_text()) for file in Path(folder).glob("rank*")]
        if len(figures) != RANKS:
            raise RuntimeError(f"{name} of {size}: {ended.stderr[-2000:]}")
    return sum(cpu_s for cpu_s, _ in figures), max(clock_s for _, clock_s in figures)


def measured(batches: Iterable[Item], steps: int, folder: Path) -> Iterator[Item]:
    """So many batches after the warm-up; leaves what a step took in `folder`."""
    iterator = iter(batches)
    for _ in range(WARM_UP):
        yield next(iterator)
    began, times = time.process_time(), []
    for _ in range(steps):
        since = time.perf_counter()
        yield next(iterator)
        times.append(time.perf_counter() - since)
    figures = (time.process_time() - began) / steps, statistics.median(times)
    (folder / f"rank{os.environ['RANK']}").write_text(json.dumps(figures))


def run_ddp(size: Size, folder: Path) -> None:
    """The bare loop over a model in DistributedDataParallel."""
    import bare
    import torch
    from feeds import Resident
    from models import MLP

    torch.distributed.init_process_group("gloo")
    model = torch.nn.parallel.DistributedDataParallel(MLP(size.first, size.second))
    epochs = chain.from_iterable(repeat(Resident(commands.MLP_SIZE // RANKS)))
    bare.train(model, measured(epochs, size.steps, folder))
    torch.distributed.destroy_process_group()


def run_fsdp2(size: Size, folder: Path) -> None:
    """trainrun's GPT in a loop over torch's `fully_shard`, of its blocks and of the rest."""
    import torch
    from torch.distributed.fsdp import fully_shard

    from trainrun.model.gpt import GPT

    torch.distributed.init_process_group("gloo")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    mesh = torch.distributed.init_device_mesh("cpu", (RANKS,))
    model = GPT((TOKENS,), 256, 256, size.first, size.second, 4, 0.0)
    for block in model.body:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    spared = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": spared, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)
    tokens = torch.randint(256, (1000, TOKENS + 1))
    drawn = (tokens[torch.randint(1000, (WINDOWS,))] for _ in repeat(None))
    for windows in measured(drawn, size.steps, folder):
        optimizer.zero_grad(set_to_none=True)
        outputs = model(windows[:, :-1])
        torch.nn.functional.cross_entropy(outputs.flatten(0, 1), windows[:, 1:].flatten()).backward()
        optimizer.step()
    torch.distributed.destroy_process_group()


def run_trainrun_fsdp(size: Size, folder: Path) -> None:
    words = ["data=text", f"model.width={size.first}", f"model.depth={size.second}", "parallel=fsdp"]
    few = ["data.limit=2000", "loop.clip.norm=null", "logger=none", "runtime.threads=1"]
    _run([*words, *few, f"batch_size={WINDOWS}", f"data.block_size={TOKENS}"], size, folder)


def run_trainrun(size: Size, folder: Path) -> None:
    widths = [f"+model.first={size.first}", f"+model.second={size.second}"]
    _run([*commands.MLP, *widths, f"batch_size={commands.MLP_SIZE // RANKS}"], size, folder)


def _run(words: list[str], size: Size, folder: Path) -> None:
    """The command, with as many steps, and windows that measure."""
    from trainrun.cli.main import main
    from trainrun.loop.windows import Windows

    plain = Windows.__call__

    def windows(self: Windows, state: Any) -> Iterator[Any]:
        yield from measured(plain(self, state), size.steps, folder)
        yield from plain(self, state)

    Windows.__call__ = windows  # type: ignore[assignment]
    commands.enter(folder)
    main([*words, f"budget={WARM_UP + size.steps + 1}step", f"run_dir={folder / 'run'}"])


RUNS = {"DDP": run_ddp, "trainrun": run_trainrun, "FSDP2": run_fsdp2, "trainrun fsdp": run_trainrun_fsdp}

if __name__ == "__main__":
    if sys.argv[2:]:
        RUNS[sys.argv[1]](SIZES[sys.argv[2]], Path(sys.argv[3]))
    else:
        main()
