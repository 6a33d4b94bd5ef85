"""Calls a function in several processes that are the ranks of one run, and what such tests call there.

The processes are forks of a server (rank_server.py) that has imported torch and never computed, so
that a call takes well under a second. They reach each other over the loopback interface.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.utils.checkpoint
from sharded import (  # noqa: F401  # called by name
    begin_wide,
    evaluate_wide,
    fail_in_one,
    go_on,
    resume_divided,
    resume_wide,
    roll_back_wide,
    save_divided,
    save_whole,
    save_wide,
)
from torch import Tensor, nn
from toy import CLASSES, CPU, FEATURES, Toy, ToyData, ToyTask, adamw, mlp, momentum, new_state, new_step

from trainrun import ranks
from trainrun.assembly.dry_run import _check_shares
from trainrun.checkpoint import commit, store
from trainrun.cli.main import main
from trainrun.data.dataset import from_dataset
from trainrun.loop.evaluate import evaluate, shared_batches
from trainrun.loop.evaluator import Monitor
from trainrun.loop.step import Clip
from trainrun.loss import CrossEntropy
from trainrun.optimizer import newer
from trainrun.optimizer import of_torch as optimizers
from trainrun.optimizer.sam import SAM
from trainrun.parallel.ddp import DDP
from trainrun.parallel.fsdp import FSDP
from trainrun.precision import Precision, ScaledPrecision
from trainrun.protocols import Batch, BatchSpec, DataInfo, Outcome, Position
from trainrun.regularization.early_stopping import EarlyStopping
from trainrun.regularization.ema import EMA
from trainrun.regularization.kinds import BatchChange
from trainrun.regularization.label_smoothing import LabelSmoothing
from trainrun.regularization.penalty import L2
from trainrun.regularization.schedule_free import ScheduleFreeAverage
from trainrun.regularization.swa import SWA
from trainrun.runtime import divided
from trainrun.runtime.machine import Runtime
from trainrun.runtime.usage import largest_peaks
from trainrun.scheduler import Plateau, plateau
from trainrun.task.classification import Classification
from trainrun.vocabulary.errors import ConfigError, ResumeError
from trainrun.vocabulary.events import Evaluated, RolledBack

LOSS = Monitor("loss", maximize=False)


@dataclass(frozen=True)
class Ended:
    """What a rank came to: its result, or the error that ended it."""

    value: Any
    error: str


class Ranks:
    """`ranks(size, function, *arguments)`: what each of `size` ranks came to in this module's function."""

    def __init__(self, server: subprocess.Popen[bytes]) -> None:
        self.server = server

    def __call__(self, size: int, function: Callable[..., Any], *arguments: Any) -> list[Ended]:
        assert self.server.stdin and self.server.stdout
        pickle.dump((size, function.__name__, arguments), self.server.stdin)
        self.server.stdin.flush()
        ended: list[Ended] = pickle.load(self.server.stdout)
        return ended

    def values(self, size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """The results, where no rank failed."""
        ended = self(size, function, *arguments)
        assert not any(result.error for result in ended), "\n".join(result.error for result in ended)
        return [result.value for result in ended]


@contextmanager
def serving() -> Iterator[Ranks]:
    file, here = Path(__file__).with_name("rank_server.py"), os.pathsep.join(sys.path)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "20000", "PYTHONPATH": here}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, str(file)], env=environment, **pipes) as server:
        yield Ranks(server)
        assert server.stdin
        server.stdin.close()


@dataclass(frozen=True)
class Said:
    """What a command came to on one rank."""

    code: int
    out: str
    err: str


def command(folder: Path, *words: str) -> Said:
    """`trainrun WORDS` in `folder`, as one of the ranks."""
    os.chdir(folder)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        code = main(words)
        texts = []
        for stream, file in ((sys.stdout, out), (sys.stderr, err)):
            stream.flush()
            file.seek(0)
            texts.append(file.read().decode())
    return Said(code, *texts)


def on_nodes(folder: Path, *words: str) -> Said:
    """The same where each rank has a home of its own."""
    os.environ["TRAINRUN_STATE"] = str(folder / f"home{ranks.launched().rank}")
    return command(folder, *words)


def timed_command(folder: Path, *words: str) -> tuple[Said, float]:
    """What a command came to, and the seconds that it took."""
    began = time.perf_counter()
    return command(folder, *words), time.perf_counter() - began


def killed_command(moments: dict[int, float], folder: Path, *words: str) -> Said:
    """The same where ranks are killed so many seconds after they began."""
    if (after_s := moments.get(ranks.launched().rank)) is not None:
        threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return command(folder, *words)


def slow_first(what: str, folder: Path) -> tuple[int, float]:
    """The steps and seconds of a run whose first rank is slow at something, where ranks wait for 2 s."""
    ranks.set_timeout(2)
    began = time.monotonic()
    if ranks.is_main_process():
        if what in ("saving", "hanging"):
            commit.os = _SlowDisk(hangs=what == "hanging")  # type: ignore[attr-defined]
        elif what == "loading":
            left_s = [5.0]  # of which the first look takes all
            store.problem_among_ranks = lambda path, run_id: _compute(left_s.pop() if left_s else 0.0)  # type: ignore[attr-defined]
    if what == "reading":
        with ranks.local_first():
            _compute(5 if ranks.is_main_process() else 0)
    return train("momentum", folder, 2).step, time.monotonic() - began


class _SlowDisk:
    """The module os, where the first file takes 5 s to write; if it hangs, all at once."""

    def __init__(self, hangs: bool) -> None:
        self.hangs, self.began = hangs, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, body: memoryview) -> int:
        self.began = self.began or time.monotonic()
        if (left_s := self.began + 5 - time.monotonic()) > 0:
            time.sleep(left_s if self.hangs else 0.5)
            body = body[:1]
        return os.write(descriptor, body)


def _compute(seconds: float) -> None:
    """Take a third of a processor."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        spun = time.process_time() + 0.005
        while time.process_time() < spun:
            pass
        time.sleep(0.01)


def as_tasks(per_node: int, folder: Path, *words: str) -> Said:
    """The same where no torchrun but Slurm's srun started the ranks, on nodes that are all this one."""
    me = ranks.launched()
    for name in [name for name in os.environ if name.startswith(("TORCHELASTIC", "MASTER_"))]:
        del os.environ[name]
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        del os.environ[name]
    node, local = divmod(me.rank, per_node)
    nodes = me.size // per_node
    said = {"JOB_ID": os.getppid(), "STEP_ID": 0, "STEP_NUM_TASKS": me.size, "STEP_NUM_NODES": nodes}
    said |= {"STEP_TASKS_PER_NODE": f"{per_node}(x{nodes})", "STEP_NODELIST": f"127.0.0.[1-{nodes}]"}
    said |= {"NTASKS": me.size, "PROCID": me.rank, "LOCALID": local, "NODEID": node}
    os.environ.update({f"SLURM_{name}": str(value) for name, value in said.items()})
    return command(folder, *words)


def late_ranks(folder: Path, *words: str) -> Said:
    """The same where all ranks but the first take a while to build what they train."""
    if ranks.launched().rank:
        Runtime.require_sync = lambda self: time.sleep(1)  # type: ignore[method-assign]
    return command(folder, *words)


# What is called in every rank. All of it can also be called where there is only one.


def meetings() -> dict[str, Any]:
    """Every way to meet, once, with values that tell the ranks apart."""
    me = ranks.rank() + 1.0
    mixed = [torch.full((3, 2), me), torch.tensor(10 * int(me)), torch.full((2,), me, dtype=torch.float64)]
    picture = torch.arange(48.0).view(1, 3, 4, 4).mul(me).contiguous(memory_format=torch.channels_last)
    given = [nn.Parameter(torch.full((2,), me)), torch.tensor([me > 1]), torch.full((3,), me).bfloat16()]
    ranks.start_sum(mixed)()
    ranks.broadcast([*given, picture])
    return {
        "place": (ranks.rank(), ranks.size(), ranks.is_main_process()),
        "added": mixed,
        "picture": picture,
        "is channels last": picture.is_contiguous(memory_format=torch.channels_last),
        "given": [tensor.detach() for tensor in given],
        "numbers": ranks.add_numbers([me, 0.1]),
        "largest": ranks.largest([me, -me]),
        "peaks": largest_peaks({"rss_bytes": 5.0, "rss_peak_bytes": me}),
        "total": ranks.start_total({"host": me, "device": torch.tensor(me)})(),
        "first": ranks.broadcast_object({"a": [me, "text", None], "b": torch.full((2,), me)}),
        "gathered": ranks.gather((me, torch.full((int(me),), me))),
        "large": _large(),
        "hook": sys.excepthook.__name__,
    }


def _large() -> tuple[float, float]:
    """Extremes of what the first rank gives in several buckets."""
    tensors = [torch.full((5_000_000,), float(ranks.rank() + 1)) for _ in range(3)]
    ranks.broadcast(tensors)
    return min(float(t.min()) for t in tensors), max(float(t.max()) for t in tensors)


@dataclass(frozen=True)
class Came:
    """What can be sent of a training: all that tells two runs apart."""

    weights: dict[str, Tensor]
    metrics: bytes
    step: int
    samples: int
    position: Position
    last: str  # event
    evaluations: list[dict[str, float]]  # validation metrics
    skipped: int


def train(
    kind: str, folder: Path, ranks_then: int, signal_at: int | None = None, signal_on: int | None = None
) -> Came:
    """One process of a run of that kind, whose window is cut for `ranks_then` ranks.

    `signal_on`: the rank that alone gets the signal, else all do.
    """
    parts = {"accumulate": 4, **KINDS[kind]}
    toy = Toy(folder, **parts | {"accumulate": parts["accumulate"] // ranks_then})
    done = toy.train(signal_at if signal_on in (None, ranks.rank()) else None)
    evaluations = [dict(event.metrics) for event in done.events if isinstance(event, Evaluated)]
    weights, last, state = done.weights, type(done.events[-1]).__name__, done.state
    return Came(
        weights, done.metrics, state.step, state.samples, state.position, last, evaluations, state.skipped
    )


def train_all(folder: Path, ranks_then: int) -> dict[str, Came]:
    return {kind: train(kind, folder / kind, ranks_then) for kind in KINDS}


def train_divided(folder: Path, ranks_then: int) -> dict[str, Came]:
    """What 1, 2, 3, 4, 6 or 12 ranks can share: windows of 24 and 17 samples, in micro-batches of 2."""
    cut = {"batch_size": 2, "accumulate": 12}
    for kind in DIVIDED:
        KINDS[f"{kind}, divided"] = KINDS[kind] | cut
    folder.mkdir(exist_ok=True)
    return {kind: train(f"{kind}, divided", folder / kind, ranks_then) for kind in DIVIDED}


def fsdp(shard: int | None = None, reduce: Any = "every", reduce_dtype: Any = None) -> FSDP:
    return FSDP("auto", shard, reduce, reduce_dtype, None)


def train_sharded(
    folder: Path, ranks_then: int, shard: int | None, reduce: Any, kinds: Any
) -> dict[str, Came]:
    """The same with weights divided among the ranks; returns whole ones."""
    folder.mkdir(exist_ok=True)
    came = {}
    for kind in kinds:
        KINDS["sharded"] = KINDS[kind] | {"parallel": lambda: fsdp(shard, reduce)}
        result = train("sharded", folder / kind, ranks_then)
        weights = {name: divided.whole(value) for name, value in result.weights.items()}
        came[kind] = replace(result, weights=weights)
    return came


OPTIMIZERS: dict[str, Callable[[Any, nn.Module], torch.optim.Optimizer]] = {
    "sgd": lambda params, model: optimizers.sgd(params, 0.1, 0.01),
    "momentum": lambda params, model: optimizers.momentum(params, 0.1, 0.9, 0.01),
    "nesterov": lambda params, model: optimizers.nesterov(params, 0.1, 0.9, 0.01),
    "adagrad": lambda params, model: optimizers.adagrad(params, 0.1, 0.0, 1e-8, 0.01),
    "adadelta": lambda params, model: optimizers.adadelta(params, 1.0, 0.9, 1e-6, 0.01),
    "rmsprop": lambda params, model: optimizers.rmsprop(params, 0.01, 0.9, 1e-8, 0.5, False, 0.01),
    "adam": lambda params, model: optimizers.adam(params, 0.01, (0.9, 0.99), 1e-8, True, 0.01),
    "adamw": lambda params, model: optimizers.adamw(params, 0.01, (0.9, 0.99), 1e-8, False, 0.01),
    "adamax": lambda params, model: optimizers.adamax(params, 0.01, (0.9, 0.99), 1e-8, 0.01),
    "nadam": lambda params, model: optimizers.nadam(params, 0.01, (0.9, 0.99), 1e-8, 0.004, True, 0.01),
    "radam": lambda params, model: optimizers.radam(params, 0.01, (0.9, 0.99), 1e-8, True, 0.01),
    "lion": lambda params, model: newer.lion(params, 0.01, (0.9, 0.99), 0.01),
    "schedule_free": lambda params, model: newer.schedule_free_adamw(params, 0.01, (0.9, 0.99), 1e-8, 0.01),
    "muon": lambda params, model: newer.muon(params, model, 0.01, 0.9, 5, (0.9, 0.99), 1e-8, 0.01),
}


def optimize(kinds: Sequence[str], shard: int | None) -> dict[str, list[Tensor]]:
    """Whole weights after four steps of each optimizer, and what schedule-free's average is."""
    weights = {}
    for kind in kinds:
        torch.manual_seed(0)
        model: Any = nn.Sequential(
            nn.Conv2d(1, 5, 3), nn.Flatten(), nn.Linear(45, 7), nn.Tanh(), nn.Linear(7, 3)
        )
        engine = fsdp(shard)
        model = engine.place(model, CPU, None, ["2"])
        groups = [{"params": [*model.parameters()], "name": "all", "lr": 0.01}]
        optimizer = OPTIMIZERS[kind](groups, model)
        for step in range(4):
            optimizer.zero_grad()
            inputs = torch.randn(12, 1, 5, 5, generator=torch.Generator().manual_seed(step))
            (model(inputs[ranks.rank() :: ranks.size()]).square().sum() / 12).backward()
            optimizer.step()
        weights[kind] = [divided.whole(p.detach()) for p in model.parameters()]
        if isinstance(optimizer, newer.ScheduleFreeAdamW):
            average = ScheduleFreeAverage(optimizer)
            average.start(model, engine.clone)
            average.update(model)
            weights[kind] += [divided.whole(p.detach()) for p in average.started_copy.parameters()]
    return weights


def divided_as() -> dict[str, Any]:
    """How models are divided, and what is said of those that cannot be."""

    def refusal(engine: FSDP, model: nn.Module, *blocks: str) -> str:
        try:
            engine.place(model, CPU, None, blocks)
        except ConfigError as error:
            return str(error)
        return ""

    engine = fsdp()
    model = engine.place(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)), CPU, None, ["0"])
    parts = [
        f"{n}: {len(divided.local(p))} of {len(p)} rows" for n, p in model.named_parameters() if p.ndim > 1
    ]
    same = zip(engine.clone(model).parameters(), model.parameters(), strict=True)
    if ranks.rank():  # which has one row of the three
        parts[1] = parts[1].replace("1 of", "2 of")
    if all(torch.equal(divided.whole(ours), divided.whole(theirs)) for ours, theirs in same):
        parts.append("clone equal")
    elsewhere = engine.place(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), CPU, None, [])
    elsewhere[1]._buffers = {name: b.to("meta") for name, b in elsewhere[1].named_buffers()}  # type: ignore[index,union-attr]
    twin = engine.clone(elsewhere)  # weights and buffers are apart, as with offload=cpu on a GPU
    devices = [{t.device.type for t in tensors()} for tensors in (twin.parameters, twin.buffers)]
    tied = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    tied["b"].weight = tied["a"].weight
    scalar = nn.Module()
    scalar.s = nn.Parameter(torch.ones(()))
    return {
        "blocks": parts,
        "devices": devices,
        "tied": refusal(fsdp(), tied, "a"),
        "shard=4": refusal(fsdp(4), mlp()),
        "offload": refusal(FSDP("auto", None, "every", None, "cpu"), mlp()),
        "scalar": refusal(fsdp(), scalar),
    }


def muon_beside_whole() -> list[tuple[Tensor, Tensor]]:
    """(shards' weights, whole ones) after a step of Muon with the same gradient."""
    torch.manual_seed(0)
    model: Any = fsdp().place(
        nn.Sequential(nn.Conv2d(1, 5, 3), nn.Flatten(), nn.Linear(45, 7)), CPU, None, []
    )
    model(torch.randn(12, 1, 5, 5)).square().sum().backward()
    plain = [nn.Parameter(divided.whole(p.detach()).clone()) for p in model.parameters() if p.ndim > 1]
    shards = [p for p in model.parameters() if p.ndim > 1]
    for weight, shard in zip(plain, shards, strict=True):
        weight.grad = divided.whole(shard.grad)
    for weights in (plain, shards):
        newer.Muon([{"params": weights}], 0.01, 0.9, 5, 0.01).step()
    return [(divided.whole(p.detach()), weight.detach()) for p, weight in zip(shards, plain, strict=True)]


class Weighted(ToyTask):
    """Class weights: what a term averages over depends on the targets, so on the rank."""

    weights = torch.tensor([0.2, 1.0, 3.0])

    def count(self, batch: Batch) -> dict[str, Any]:
        return {"loss": self.weights[batch.targets].sum()}

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        outputs = model(batch.inputs)
        loss = nn.functional.cross_entropy(outputs, batch.targets, self.weights, reduction="sum")
        return Outcome({"loss": loss}, {"correct": (outputs.argmax(1) == batch.targets).sum()}, outputs)


class Miscounted(ToyTask):
    """Averages over twice the samples, which the order of the data does not tell."""

    def count(self, batch: Batch) -> dict[str, float]:
        return {"loss": 2.0 * len(batch)}


class TwoTerms(ToyTask):
    """Has a second term, a mean over other numbers than the first."""

    def count(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(len(batch)), "size": 3.0 * len(batch)}

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        outcome = super().__call__(model, batch)
        return replace(outcome, terms={**outcome.terms, "size": model(batch.inputs).square().sum()})


class Sometimes(nn.Module):
    """Of two layers only the first is used, but for inputs that one rank alone may see; a third never."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.rarely, self.never = (nn.Linear(FEATURES, 3) for _ in range(3))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.always(inputs)
        return outputs + self.rarely(inputs) if bool(inputs[0, 0] > 0.5) else outputs


def sometimes() -> nn.Module:
    torch.manual_seed(0)
    return Sometimes()


def relus() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, CLASSES))


class Noise(BatchChange):
    """Changes every training batch by random draws."""

    def check(self, info: DataInfo) -> None:
        pass

    def change_batch(self, batch: Batch, info: DataInfo, generator: torch.Generator) -> Batch:
        return replace(
            batch, inputs=batch.inputs + 0.5 * torch.randn(batch.inputs.shape, generator=generator)
        )


def lbfgs(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, lr, max_iter=3, history_size=3)


def sam(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return SAM(momentum(parameters, lr), 0.05, False)


def reduce_on_plateau() -> Plateau:
    values = {"factor": 0.3, "patience": 0, "threshold": 0.1, "cooldown": 1}
    return plateau(base_lr=0.05, maximize=False, **values, warmup=3, warmup_start=0.1, min_lr=1e-4)


def overflowing() -> ScaledPrecision:
    """Its first steps are skipped, and it keeps growing into overflow."""
    return ScaledPrecision(CPU, 2.0**22, growth_interval=1)


# 41 samples are windows of 16, 16 and 9: micro-batches of 4, 4 and 1, of which the second of two ranks
# gets one, and then none.
KINDS: dict[str, dict[str, Any]] = {
    "momentum": {"state": {"optimizer": momentum}},
    "dropout, the same draws": {"model": lambda: mlp(dropout=0.4)},
    "batch norm, the same micro-batches": {
        "model": lambda: mlp(batch_norm=True),
        "batch_size": 3,  # it takes two samples at least, and 41 are 13 threes and a two
        "monitor": None,
    },
    "a mean of weights, its batch norm estimated anew": {
        "model": lambda: mlp(batch_norm=True),
        "batch_size": 3,
        "state": {"weight_average": lambda: SWA(1, 1)},
    },
    "adamw and an average": {"state": {"optimizer": adamw, "weight_average": lambda: EMA(0.9)}},
    "fp16 that skips": {"state": {"precision": overflowing}},
    "l-bfgs": {"batch_size": 21, "accumulate": 2, "state": {"optimizer": lbfgs, "lr": 0.5}},
    "sam": {"state": {"optimizer": sam}},
    "clipping and a penalty": {"step": {"clip": Clip(0.4, None, None), "penalties": {"l2": L2(0.01)}}},
    "clipping by value": {"step": {"clip": Clip(None, 0.05, None)}},
    "adaptive clipping": {"step": {"clip": Clip(None, None, 0.1)}},
    "class weights": {"task": Weighted},
    "a mean over other numbers than the samples": {"task": Miscounted},
    "two terms": {"task": TwoTerms},
    "class weights and smoothed labels": {
        "task": lambda: Classification([], CrossEntropy([0.2, 1.0, 3.0], ()), ToyData().info),
        "step": {"batch_changes": [LabelSmoothing(0.2)]},
    },
    "parameters used by some": {"model": sometimes, "state": {"optimizer": adamw}},
    "units of which some are dead": {"model": relus},
    "plateau": {"monitor": LOSS, "eval_every": 2, "state": {"schedule": reduce_on_plateau}},
    "a stream": {"data": lambda: dataset(Flowing(FEATURES), Flowing(FEATURES)), "state": {"lr": 0.001}},
    "fewer samples than ranks": {"data": lambda: ToyData(train=3, val=2, test=1), "accumulate": 2},
    "noise drawn for each batch": {"step": {"batch_changes": [Noise()]}},
    "early stopping": {
        "monitor": LOSS,
        "eval_every": 2,
        "state": {"lr": 0.9, "stopper": lambda: EarlyStopping(3, 0.0, restore_best=True)},
    },
}


DIVIDED = ("l-bfgs", "sam", "class weights", "parameters used by some", "clipping and a penalty")


def judge() -> dict[str, float]:
    """Metrics of a split of three batches, with one of the user's own; ranks differ in their statistics."""
    data, task, model = ToyData(), ToyTask(), mlp(batch_norm=True)
    task.own_metrics = {"order": in_order, "median": lambda outputs, targets: outputs.median()}
    model[1].running_mean += float(ranks.rank())
    return evaluate(model, task, shared_batches(data, "val"), Precision("fp32", None, CPU))


def in_order(outputs: Tensor, targets: Tensor) -> float:
    """Depends on every output and on its place in the split."""
    return float((outputs.sum(1) * torch.arange(len(targets)) * (targets + 1)).sum())


def diverge() -> dict[str, float]:
    """As a step does that forgets to add: each rank its own weights."""
    model = mlp(seed=ranks.rank())
    return evaluate(model, ToyTask(), shared_batches(ToyData(), "val"), Precision("fp32", None, CPU))


def fail_on(rank: int, how: str) -> str:
    """A data set's error, a killed process, or a hand that ends it; the others wait for it in a step."""
    data, task = ToyData(), ToyTask()
    state, step = new_state(mlp()), new_step(data, task)
    batches = data.train_batches(Position(), BatchSpec(4, 1, ranks.size(), ranks.rank()), 1)
    for count, batch in enumerate(batches):
        if count == 2 and ranks.rank() == rank:
            if how == "killed":
                os._exit(9)
            raise RuntimeError("sample 17 is broken\nand what else is to be said")
        step(state, [batch])
    raise AssertionError("nothing failed")


def fail_alone(rank: int, how: str) -> None:
    """One rank dies, is stopped or hangs while the others wait for it in a sum."""
    ranks.set_timeout(2)
    if ranks.rank() == rank:
        if how == "killed":
            os._exit(9)
        end = time.monotonic() + 4
        while time.monotonic() < end:  # a loop that never ends, but for the test's sake
            pass
        os._exit(0)
    ranks.add_numbers([1.0])


class Reading(torch.utils.data.Dataset[Any]):
    """Remembers which samples were asked for."""

    def __init__(self, size: int) -> None:
        self.size, self.asked = size, list[int]()

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        return torch.full((2,), float(index)), index % 2


class Flowing(torch.utils.data.IterableDataset[Any]):
    """A stream of 10 samples, each its number."""

    num_classes = 3

    def __init__(self, features: int) -> None:
        self.features = features

    def __iter__(self) -> Iterator[Any]:
        for number in range(10):
            yield torch.full((self.features,), float(number)), number % 3


def loaded(data: Any, batch_spec: BatchSpec, count: int) -> list[tuple[list[int], list[float], Position]]:
    """(indices, inputs, position) of the first batches of a rank."""
    batches = data.train_batches(Position(), batch_spec, 0)
    fetched = [next(batches) for _ in range(count)]
    return [([int(i) for i in b.indices], b.inputs[:, 0].tolist(), b.position) for b in fetched]


def dataset(train: Any, val: Any = None) -> Any:
    """Data that are read sample by sample, without hold-out."""
    rest = {"val_fraction": 0.0, "test_fraction": 0.0, "split_seed": 0, "limit": None}
    rest |= {"fold": None, "num_folds": 5}
    return from_dataset(
        train=train,
        val=val,
        test=None,
        **rest,
        eval_batch_size=4,
        num_workers=0,
        inputs=None,
        targets=None,
        group=None,
        time=None,
        weights=None,
        collate_function=None,
        target_kind=None,
    )


def break_sample(sample: int, is_sharded: bool = False) -> tuple[str, list[int], str, list[list[int]]]:
    """What is found in a step of 8 samples of which one is not a number."""
    data = ToyData()
    data.inputs[sample] = float("nan")
    engine = fsdp() if is_sharded else DDP(1, None)
    state = new_state(engine.place(mlp(), CPU, None, []))
    step = new_step(data, ToyTask(), parallel=engine)
    mine = torch.arange(8).chunk(ranks.size())[ranks.rank()]
    result = step(state, [data.batch(mine)])
    assert result.finding is not None
    report = result.finding
    indices = [batch["indices"].tolist() for batch in report.replay["batches"]]
    return report.where, list(report.samples), str(report.norm), indices


class BadOnce(ToyData):
    """The last rank's first batch beyond the 20th sample of the second epoch is not a number, once."""

    def train_batches(self, position: Position, batch_spec: BatchSpec, seed: int) -> Iterator[Batch]:
        for batch in super().train_batches(position, batch_spec, seed):
            after = batch.position
            if (
                after.epoch == 1
                and after.offset > 20
                and ranks.rank() == ranks.size() - 1
                and len(self.asked) < 99
            ):
                self.asked += ["train"] * 99  # no more
                batch = replace(batch, inputs=batch.inputs * float("nan"))
            yield batch


def roll_back(
    folder: Path, is_sharded: bool = False
) -> tuple[list[tuple[int, int, float]], dict[str, Tensor], int]:
    """(rollbacks, final weights, last step) of a run that meets one bad batch."""
    accumulate = 4 // ranks.size()
    toy = Toy(folder, data=BadOnce, step={"nonfinite": "rollback"}, accumulate=accumulate)
    done = (toy.but(parallel=fsdp) if is_sharded else toy).train()
    rollbacks = [(event.step, event.to, event.lr_factor) for event in done.of(RolledBack)]
    weights = {name: divided.whole(value) for name, value in done.weights.items()}
    return rollbacks, weights, done.state.step


def load_lost(folder: Path) -> str:
    """What is said where the best weights are no longer there."""
    try:
        Toy(folder).checkpoints(None).load_weights(mlp(), 4)
    except ResumeError as error:
        return str(error)
    return "loaded"


class _Selfish(ToyData):
    """Gives every rank what one rank would get."""

    def train_batches(self, position: Position, batch_spec: BatchSpec, seed: int) -> Iterator[Batch]:
        return super().train_batches(position, replace(batch_spec, num_ranks=1, rank=0), seed)


class _Repeating(ToyData):
    """Draws its first sample again and again, as balanced classes may."""

    def __init__(self) -> None:
        super().__init__()
        self.splits["train"][:] = 0


def check_shares(kind: str) -> str:
    """What is said of data that give all ranks the same, or all ranks their own."""
    kinds = {"own": ToyData, "same": _Selfish, "repeated": _Repeating}
    try:
        _check_shares(kinds[kind](), 0)
    except ConfigError as error:
        return str(error)
    return ""


def _of_rank(rank: int) -> tuple[nn.Module, Tensor]:
    """A model and one rank's batch, seen through two layers of which the second is used twice."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), shared := nn.Linear(5, 5), nn.Tanh(), shared)
    return model, torch.randn(7, 6, generator=torch.Generator().manual_seed(rank))


def alone(rank: int) -> list[Tensor]:
    """The gradients that a rank's batches come to without the others."""
    model, inputs = _of_rank(rank)
    for batch in inputs.split(4):
        model(batch).square().sum().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def overlapped(bucket_bytes: int, dtype: Any) -> list[list[Tensor]]:
    """The same summed over the ranks, two windows of two micro-batches."""
    model, inputs = _of_rank(ranks.rank())
    parameters, engine = list(model.parameters()), DDP(bucket_bytes / 2**20, dtype)
    steps = []
    for _ in range(2):
        model.zero_grad()
        for batch in inputs.split(4):
            with engine.micro_batch(model, parameters, is_last=len(batch) == 3):
                model(batch).square().sum().backward()
        engine.sum_gradients(parameters, [torch.ones(())])
        steps.append([p.grad.clone() for p in parameters if p.grad is not None])
    return steps


def sent_before_the_end() -> list[str]:
    """The parameters whose buckets, of one each, were on their way when the backward pass had ended."""
    model, inputs = _of_rank(ranks.rank())
    names, engine, sent = dict(model.named_parameters()), DDP(1 / 2**20, None), []
    with engine.micro_batch(model, list(names.values()), is_last=True):
        model(inputs).sum().backward()
        buckets = engine._buckets._buckets
        sent = [name for b in buckets if b.wait for name, p in names.items() if p is b.parameters[0]]
    engine.sum_gradients(list(names.values()), [torch.ones(())])
    return sent


def come_twice(bucket_bytes: int) -> None:
    """A layer used in two segments under reentrant checkpoints, each of which adds to its gradient."""
    model, inputs = _of_rank(ranks.rank())
    shared, parameters, engine = model[2], list(model.parameters()), DDP(bucket_bytes / 2**20, None)
    with engine.micro_batch(model, parameters, is_last=True):
        hidden = model[0](inputs)
        for _ in range(2):
            hidden = torch.utils.checkpoint.checkpoint(shared, hidden, use_reentrant=True)
        hidden.sum().backward()
    engine.sum_gradients(parameters, [torch.ones(())])


def used_by_some() -> list[bool]:
    """Which parameters have a gradient where the second layer is the last rank's, the third nobody's."""
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    parameters, engine = list(layers.parameters()), DDP(1, None)
    with engine.micro_batch(layers, parameters, is_last=True):
        hidden = layers[0](torch.ones(1, 2))
        if ranks.rank() == ranks.size() - 1:
            hidden = layers[1](hidden)
        hidden.sum().backward()
    engine.sum_gradients(parameters, [torch.ones(())])
    return [p.grad is not None for p in parameters]
