"""Two ranks: equal to one process, killed and resumed, and as fast as torch's DDP and FSDP alone.

    several.py ENGINE JOB FILE FOLDER DEVICE small|large

is one rank of a contest: trainrun with parallel=ENGINE and torch's own in turns; the first writes the rows.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from setup import QUIET, Run, Setup, Started, texts

RANKS = 2
BARS = {"ddp": 0.97, "fsdp": 0.95}  # torch alone / trainrun
PROMPT_S = 60.0  # after one rank was killed
ROOT = Path(__file__).resolve().parents[2]


def ranks(setup: Setup) -> None:
    import torch

    count = torch.cuda.device_count() if setup.is_gpu else RANKS
    if count < RANKS:
        setup.skipped("DDP and FSDP", f"need two GPUs, there is {count}; on a CPU: --device cpu --small")
        return
    engines = [name for name in BARS if (ROOT / "conf" / "parallel" / f"{name}.yaml").exists()]
    for name in set(BARS) - set(engines):
        setup.skipped(name, f"there is no parallel={name}")
    equal_to_one(setup, engines)
    killed(setup)
    for engine in engines:
        for job in ("mlp", "gpt") if engine == "ddp" and not setup.small else ("gpt",):
            race(setup, engine, job)


def environments() -> list[dict[str, str]]:
    """What a launcher would say to each rank; all stay in this process's group, so that they end with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1"}
    return [{"RANK": str(n), "LOCAL_RANK": str(n), "MASTER_PORT": port, **shared} for n in range(RANKS)]


def together(setup: Setup, words: list[str], name: str) -> list[Started]:
    return [setup.start(words, name, environment) for environment in environments()]


def equal_to_one(setup: Setup, engines: list[str]) -> None:
    """Losses of two ranks are those of one process that accumulates, to rounding."""
    words = [*texts(setup.small), *QUIET, "budget=8step", "loop.log_every=1step"]
    alone = setup.start([*words, f"loop.accumulate={RANKS}"], "alone")
    started = {engine: together(setup, [*words, f"parallel={engine}"], engine) for engine in engines}
    one = alone.wait()
    for engine, processes in started.items():
        run, *_ = [process.wait() for process in processes]
        name = f"{engine}: losses of {RANKS} ranks and of one process"
        if fault := one.fault or run.fault:
            setup.must(name, "a run failed", "at most 1e-4 apart", False, fault)
            continue
        apart = max(abs(a / b - 1) for a, b in zip(run.losses, one.losses, strict=True))
        setup.must(
            name, f"{apart:.1e} apart", "at most 1e-4 apart", apart <= 1e-4, f"{len(run.losses)} steps"
        )


def killed(setup: Setup) -> None:
    """Kill -9 of the second rank: the first ends soon and says so, and both go on to the same bits."""
    from exact import checkpoints, compare

    words = [
        *texts(setup.small),
        "logger=none",
        f"budget={50 if setup.small else 120}step",
        "checkpoint.every=10step",
    ]
    words += ["runtime.deterministic=true", "loop.eval_every=1000step", "loop.log_every=5step"]
    whole, broken = (together(setup, words, name) for name in ("whole", "killed"))
    while broken[1].process.poll() is None and len(checkpoints(broken[1].folder)) < 2:
        time.sleep(0.005)
    began = time.monotonic()
    broken[1].process.kill()
    step = int(checkpoints(broken[0].folder)[-1].name.rpartition("-")[2])
    first = broken[0].wait()
    took = time.monotonic() - began
    note = f"after {took:.0f} s: {(first.said.strip().splitlines() or [''])[-1]}"
    is_told = first.code == 10 and took <= PROMPT_S
    must = f"exit code 10 in {PROMPT_S:.0f} s"
    setup.must("a rank is killed: the other", f"exit code {first.code}", must, is_told, note)
    again = [Started(["resume", str(first.folder)], first.folder, env) for env in environments()]
    ends: list[Run] = [processes[0].wait() for processes in (whole, again)]
    compare(setup, "resumed with both", step, *ends)


def race(setup: Setup, engine: str, job: str) -> None:
    """Start the ranks of a contest, whose first writes the rows; it ends all."""
    folder = setup.folder / f"{engine}-{job}"
    folder.mkdir()
    command = [sys.executable, __file__, engine, job, str(setup.file), str(folder), setup.device]
    command.append("small" if setup.small else "large")
    processes = []
    for number, environment in enumerate(environments()):
        with (folder / f"rank{number}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
            )
    code = processes[0].wait()
    for process in processes:
        process.kill()
        process.wait()
    if code:
        logs = [(folder / f"rank{number}.log").read_text(errors="replace")[-600:] for number in range(RANKS)]
        note = "\n" + "\n".join(logs)
        setup.must(f"{engine}, {job}: steps", f"exit code {code}", "exit code 0", False, note)


def main(engine: str, job_name: str, file: str, folder: str, device: str, size: str) -> None:
    """One rank. Trainrun comes first: it makes the group of processes, which torch's own then shares."""
    setup = Setup("ranks", Path(file), Path(folder), device, size == "small")
    import loops
    import speed
    import torch

    rank = int(os.environ["RANK"])
    here = torch.device("cuda", rank) if setup.is_gpu else torch.device("cpu")
    gib = torch.cuda.mem_get_info(here)[1] / 2**30 if setup.is_gpu else 0
    job = loops.jobs(setup.small, gib / 2)[job_name]  # both are in memory at once
    job.words[:] += [f"parallel={engine}", "runtime.timeout=60s"]
    contestants = {
        "trainrun": speed.GpuContestant(lambda it: speed.trainrun(it, setup, job, "off")),
        "torch": speed.GpuContestant(lambda it: loops.eager(bare(job, here, engine), it.feed)),
    }
    steps, turns = (20, 4) if setup.small else speed.TURNS[job_name]
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns):
        for name, contestant in contestants.items():
            took = contestant.turn(steps).wall_s
            if turn:
                times[name].append(took)
    if rank == 0:
        ratio = statistics.median(a / b for a, b in zip(times["torch"], times["trainrun"], strict=True))
        both = ", ".join(f"{name} {statistics.median(took) * 1e3:.4g} ms" for name, took in times.items())
        name, bar = f"{engine}, {job_name}: torch alone / trainrun", BARS[engine]
        if setup.is_gpu:
            setup.must(name, ratio, f"at least {bar}", ratio >= bar, both)
        else:
            setup.figure(name, ratio, f"{both}; at least {bar} on a quiet machine")
    sys.stdout.flush()
    os._exit(0)  # both loops wait for a turn that does not come


def bare(job: Any, device: Any, engine: str) -> Any:
    """The loop by hand, in a thread that has no device yet."""
    import loops
    import torch

    if device.type == "cuda":
        torch.cuda.set_device(device)
    return loops.Loop.of(job, device, wrapper(engine, device))


def wrapper(engine: str, device: Any) -> Callable[[Any], Any]:
    """Torch's own, over a model on its device."""
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    from torch.nn.parallel import DistributedDataParallel

    if engine == "ddp":
        ids = [device.index] if device.type == "cuda" else None
        return lambda model: DistributedDataParallel(model, device_ids=ids)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)

    def shard(model: Any) -> Any:
        for module in (*model.blocks, model):
            fully_shard(module, mp_policy=policy)
        return model

    return shard


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    main(*sys.argv[1:])
