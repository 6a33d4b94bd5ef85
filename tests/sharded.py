"""States whose tensors the ranks hold in shards, made by torch's own fully_shard: saved and resumed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from toy import new_state

from trainrun import ranks
from trainrun.checkpoint.fetch import load_eval_weights, load_state
from trainrun.checkpoint.reader import load_parts, problem_of
from trainrun.checkpoint.state import TrainState
from trainrun.checkpoint.store import Checkpoints
from trainrun.checkpoint.weights import read_checkpoint, start_from
from trainrun.loop.rollback import _roll_back
from trainrun.loop.step import Clip, Policy
from trainrun.regularization.ema import EMA

WIDTH = 12


class Lines:
    """Stands for metrics.jsonl."""

    def metrics_bytes(self) -> int:
        return 123

    def sync(self) -> None:
        pass


def model(kind: str, seed: int) -> nn.Module:
    """A network of layers: `whole`, in `shards`, or in shards of which there are two `replicas`."""
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Linear(8, 2 * WIDTH), nn.Tanh(), nn.Linear(2 * WIDTH, WIDTH), nn.LayerNorm(WIDTH)
    )
    layers.append(nn.Linear(WIDTH, 3))
    if kind == "whole":
        return layers
    size = ranks.size()
    shape, names = ((2, size // 2), ("replica", "shard")) if kind == "replicas" else ((size,), ("shard",))
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
    for layer in layers:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    return fully_shard(layers, mesh=mesh)


def state_of(kind: str, seed: int) -> TrainState:
    def clone(original: nn.Module) -> nn.Module:
        copy = model(kind, seed)
        copy.load_state_dict(original.state_dict())
        return copy

    def adamw(parameters: Any, lr: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr, weight_decay=0.01, foreach=True)

    state, average = new_state(model(kind, seed), adamw), EMA(0.5)
    average.start(state.model, clone)
    state.weight_average = average
    return state


def train(state: TrainState, steps: int) -> None:
    """All ranks see the same batch, so that the mean of their gradients is that of one."""
    assert state.weight_average is not None
    for _ in range(steps):
        inputs = torch.randn(16, 8, generator=torch.Generator().manual_seed(state.step))
        state.optimizer.zero_grad()
        state.model(inputs).square().mean().backward()
        state.optimizer.step()
        state.weight_average.update(state.model)
        state.step += 1
        state.applied += 1


def whole(tree: Any) -> Any:
    """Containers with whole tensors, copied."""
    if isinstance(tree, Tensor):
        return (tree.full_tensor() if hasattr(tree, "full_tensor") else tree).detach().clone()
    if isinstance(tree, Mapping):
        return {key: whole(value) for key, value in tree.items()}
    return [whole(value) for value in tree] if isinstance(tree, list) else tree


def checkpoints(folder: Path, record: Any = None) -> Checkpoints:
    record = record or (Lines() if ranks.is_main_process() else None)
    return Checkpoints(1, 2, 1, None, folder / "checkpoints", "this run", record)


def save_divided(folder: Path, kind: str, steps: tuple[int, ...]) -> Any:
    """Saved after each of `steps`; returns the whole of the last state."""
    state = state_of(kind, seed=1)
    with closing(checkpoints(folder)) as owner:
        for step in steps:
            train(state, step - state.step)
            owner.prepare(state)
            owner.begin(state)
        saved = owner.wait()
    return whole(state.state_dict()), saved


def save_whole(folder: Path) -> Any:
    return save_divided(folder, "whole", (3,))


def resume_divided(folder: Path, kind: str, steps: int) -> Any:
    """(what was loaded, what it came to some steps later), both whole."""
    state = state_of(kind, seed=2)
    owner, warnings = checkpoints(folder), list[str]()
    stored = owner.load_newest(warnings.append) if ranks.is_main_process() else None
    if stored is not None:
        stored.pop("metrics_bytes")
    load_state(state, stored)
    loaded = whole(state.state_dict())
    best = model(kind, seed=3)
    weights = owner.load_weights(best, state.step)
    train(state, steps)
    return {
        "loaded": loaded,
        "later": whole(state.state_dict()),
        "best": (weights, whole(best.state_dict())),
        "warnings": warnings,
    }


def fail_in_one(folder: Path, how: str) -> str:
    """A save of which the last rank's part fails: a full disk, a kill, or weights that are not finite."""
    state = state_of("shards", seed=1)
    with closing(checkpoints(folder)) as owner:
        train(state, 3)
        owner.begin(state)
        owner.wait()
        train(state, 1)
        if ranks.rank() == ranks.size() - 1:
            _break(state, how)
        owner.begin(state)
        owner.wait()
        ranks.add_numbers([])
    return "saved"


def _break(state: TrainState, how: str) -> None:
    def full(descriptor: int, body: Any) -> int:
        if how == "killed":
            os._exit(9)
        raise OSError(28, os.strerror(28))

    if how == "not finite":
        with torch.no_grad():
            state.model[-1].bias.to_local().fill_(float("nan"))
    else:
        os.write = full  # type: ignore[assignment]


def go_on(folder: Path, steps: int, moments: Mapping[int, float]) -> Any:
    """Train to the end from what is stored, saved after each step; some are killed after some seconds."""
    if (after_s := moments.get(ranks.rank())) is not None:
        timer = threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
    began, state = time.monotonic(), state_of("shards", seed=1)
    with closing(checkpoints(folder)) as owner:
        stored = None
        if ranks.is_main_process():
            owner.clean()
            stored = owner.load_newest(lambda text: None)
        if stored is not None:
            stored.pop("metrics_bytes")
        load_state(state, stored)
        while state.step < steps:
            train(state, 1)
            owner.begin(state)
        owner.wait()
    return whole(state.state_dict()), time.monotonic() - began


LAYERS = 16


def wide(kind: str, mib: int, num_layers: int = LAYERS) -> TrainState:
    """A state of about so many MiB: weights, and AdamW's two moments of each."""
    width = int((mib * 2**20 / 12 / num_layers) ** 0.5)
    layers = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(num_layers)))
    if kind == "shards":
        for layer in layers:
            fully_shard(layer)
        fully_shard(layers)
    return new_state(layers, lambda parameters, lr: torch.optim.AdamW(parameters, lr, foreach=True))


def save_wide(folder: Path, kind: str, mib: int, num_layers: int = LAYERS) -> None:
    state = wide(kind, mib, num_layers)
    for parameter in state.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.step = state.applied = 1
    with closing(checkpoints(folder)) as owner:
        owner.begin(state)
        owner.wait()


def resume_wide(folder: Path, kind: str, mib: int) -> float:
    """The peak of this rank's memory while it builds and loads a state, by the size of what it then has."""
    before = _warm(kind)
    state, owner = wide(kind, mib), checkpoints(folder)
    stored = owner.load_newest(lambda text: None) if ranks.is_main_process() else None
    if stored is not None:
        stored.pop("metrics_bytes")
    load_state(state, stored)
    peak = _memory("VmHWM") - before
    return peak / (mib * 2**20 / (ranks.size() if kind == "shards" else 1))


def roll_back_wide(folder: Path, mib: int) -> float:
    """The same of a rollback, by a state that is live and has its moments."""
    before = _warm("whole")
    state, owner = wide("whole", mib), checkpoints(folder)
    for parameter in state.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.optimizer.step()
    Path("/proc/self/clear_refs").write_text("5")  # a step takes more by itself
    _roll_back(state, Policy(Clip(None, None, None), "rollback", 1, 0.5), owner)
    assert state.step == 1 and len(state.optimizer.state) == LAYERS
    return (_memory("VmHWM") - before) / (mib * 2**20)


def evaluate_wide(folder: Path, mib: int, num_layers: int = LAYERS) -> float:
    """The peak of this process's memory while it builds a model and loads weights, by their size."""
    before = _warm("whole")
    path, model = folder / "checkpoints" / "step-000000001", wide("whole", mib, num_layers).model
    assert problem_of(path, None) is None
    load_eval_weights(model, path, load_parts(path))
    return (_memory("VmHWM") - before) / (mib * 2**20 / 3)


def begin_wide(folder: Path, mib: int, num_layers: int) -> float:
    """The same of a new run that starts from them."""
    before = _warm("whole")
    model = wide("whole", mib, num_layers).model
    assert start_from(model, read_checkpoint(folder / "checkpoints" / "step-000000001")) == []
    return (_memory("VmHWM") - before) / (mib * 2**20 / 3)


def _warm(kind: str) -> int:
    """Import what is imported late, and begin the peak anew; returns the memory taken so far."""
    state = wide(kind, 1)
    for parameter in state.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.optimizer.step()
    state.load_state_dict(state.state_dict())
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024
