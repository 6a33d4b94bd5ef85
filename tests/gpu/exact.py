"""A run that is killed and resumed has the same bits as one that was not: runtime.deterministic=true."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from setup import Run, Setup, Started, pictures, texts
from torch import Tensor

STEPS, EVERY = 200, 10  # on a GPU some seconds


def exact(setup: Setup) -> None:
    """All runs go side by side; each case is a pair of them."""
    count = torch.cuda.device_count() if setup.is_gpu else 0
    cases = {
        "resnet9, bf16, augmented, EMA": [
            *pictures(setup.small),
            *("precision=bf16", "augment=crop_flip", "regularization=[ema]"),
        ],
        "gpt, dropout, 2 micro-batches": [*texts(setup.small), "loop.accumulate=2"],
    }
    if count > 1:
        cases["resnet9 on cuda:1"] = [*pictures(setup.small), "runtime.device=cuda:1"]
    else:
        setup.skipped("resnet9 on cuda:1", f"needs two GPUs, there are {count}")
    words = [
        "logger=none",
        f"budget={80 if setup.small else STEPS}step",
        f"checkpoint.every={EVERY}step",
        "loop.log_every=5step",
    ]
    words += ["runtime.deterministic=true", "loop.eval_every=50step", "runtime.threads=1"]
    pairs = {}
    for number, (name, case) in enumerate(cases.items()):
        pairs[name] = [setup.start([*case, *words], f"{kind}{number}") for kind in ("whole", "killed")]
    steps = kill([killed for _, killed in pairs.values()])
    for (name, (whole, killed)), step in zip(pairs.items(), steps, strict=True):
        ended = killed.wait()
        if step is None:
            setup.must(name, "ended before it was killed", "the same bits", False, ended.fault)
            continue
        resumed = Started(["resume", str(killed.folder)], killed.folder, None)
        compare(setup, name, step, whole.wait(), resumed.wait())


def kill(runs: Sequence[Started]) -> list[int | None]:
    """Kill -9 each once its second checkpoint is there: at which step; None where it ended before."""
    killed: dict[Started, int | None] = {}
    while len(killed) < len(runs):
        for run in runs:
            if run in killed:
                continue
            steps = checkpoints(run.folder)
            if run.process.poll() is not None:
                killed[run] = None
            elif len(steps) > 1:
                run.process.kill()
                killed[run] = int(steps[-1].name.rpartition("-")[2])
        time.sleep(0.002)
    return [killed[run] for run in runs]


def compare(setup: Setup, name: str, step: int, whole: Run, resumed: Run) -> None:
    if fault := whole.fault or resumed.fault:
        setup.must(name, "a run failed", "the same bits", False, fault)
        return
    states = [
        torch.load(checkpoints(run.folder)[-1] / "state.pt", weights_only=True) for run in (whole, resumed)
    ]
    unlike = [place for place, (a, b) in _paired(*states).items() if not same(a, b)]
    logs = [(run.folder / "metrics.jsonl").read_bytes() for run in (whole, resumed)]
    text = f"killed after step {step}"
    note = f"{text}; differ: {', '.join(unlike[:3])}" if unlike else text
    setup.must(name, f"{len(unlike)} tensors differ", "the same bits", not unlike, note)
    is_same = logs[0] == logs[1]
    setup.must(f"{name}: metrics.jsonl", "the same" if is_same else "differs", "the same bytes", is_same)


def checkpoints(folder: Path) -> list[Path]:
    return sorted(file.parent for file in folder.glob("checkpoints/step-*/manifest.json"))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and _bytes(a) == _bytes(b)
    return type(a) is type(b)  # numbers: some tell the time that was used


def _bytes(tensor: Tensor) -> bytes:
    return tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _paired(a: Any, b: Any, place: str = "") -> dict[str, tuple[Any, Any]]:
    """The leaves of two trees of containers by where they are; one that is missing is None."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        a, b = dict(enumerate(a)), dict(enumerate(b))
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return {place: (a, b)}
    leaves: dict[str, tuple[Any, Any]] = {}
    for key in a | b:
        leaves |= _paired(a.get(key), b.get(key), f"{place}.{key}" if place else str(key))
    return leaves
