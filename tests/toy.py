"""The smallest whole run, of plain parts made by hand: what the tests of the core share."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainrun import ranks
from trainrun.checkpoint.fetch import load_state
from trainrun.checkpoint.state import TrainState
from trainrun.checkpoint.store import Checkpoints
from trainrun.loop.budget import ClockBudget
from trainrun.loop.clock import Clock
from trainrun.loop.evaluator import Evaluator, Monitor
from trainrun.loop.loop import Loop
from trainrun.loop.probes import Probe
from trainrun.loop.step import Clip, Policy, Step
from trainrun.loop.windows import Windows
from trainrun.parallel.ddp import DDP
from trainrun.precision import Precision
from trainrun.protocols import ALL, Batch, BatchSpec, DataInfo, Outcome, Position, Shard
from trainrun.run.record import Record
from trainrun.runtime.signals import Signals
from trainrun.vocabulary.events import Event, Finished, StepsLogged

CPU = torch.device("cpu")
ACCURACY = Monitor("accuracy", maximize=True)
FEATURES, CLASSES = 5, 3
TRAIN, VAL, TEST = 41, 16, 19  # 41 = 3 windows of 12 and a ragged one of 5: micro-batches of 4 and 1
FINISHED = Finished(
    step=20,
    reason="budget",
    skipped=0,
    samples=640,
    parameters=12,
    monitor="val/accuracy",
    best=0.9,
    best_step=10,
    kept_step=10,
    kept_weights="raw",
    seconds=1.5,
)

LOGGED = StepsLogged(
    step=5,
    epoch=1.0,
    loss=0.5,
    lr={"all": 0.1},
    grad_norm=1.0,
    grad_norm_after=None,
    clipped=None,
    skipped=0,
    samples_per_s=1.0,
    data_wait=0.0,
)


class ToyData:
    """Three noisy clusters in memory; `asked` lists every split that was evaluated."""

    def __init__(self, train: int = TRAIN, val: int = VAL, test: int = TEST) -> None:
        generator = torch.Generator().manual_seed(0)
        total = train + val + test
        self.targets = torch.randint(CLASSES, (total,), generator=generator)
        centres = torch.randn(CLASSES, FEATURES, generator=generator)
        self.inputs = centres[self.targets] + 0.8 * torch.randn(total, FEATURES, generator=generator)
        bounds = {"train": (0, train), "val": (train, train + val), "test": (train + val, total)}
        self.splits = {name: torch.arange(*ends) for name, ends in bounds.items()}
        sizes = {name: len(indices) for name, indices in self.splits.items()}
        self.info = DataInfo("toy", (FEATURES,), "classes", CLASSES, sizes)
        self.asked: list[str] = []

    def to(self, device: torch.device) -> None:
        pass

    def train_batches(self, position: Position, batch_spec: BatchSpec, seed: int) -> Iterator[Batch]:
        epoch, offset, size = position.epoch, position.offset, len(self.splits["train"])
        while True:
            order = torch.randperm(size, generator=torch.Generator().manual_seed(1000 * seed + epoch))
            for start in range(offset, size, batch_spec.batch_size * batch_spec.num_ranks):
                end = min(start + batch_spec.batch_size * batch_spec.num_ranks, size)
                after = Position(epoch, end) if end < size else Position(epoch + 1)
                yield self.batch(
                    order[start:end][batch_spec.batch_size * batch_spec.rank :][: batch_spec.batch_size],
                    after,
                )
            epoch, offset = epoch + 1, 0

    def eval_batches(self, split: str, share: Shard = ALL) -> Iterator[Batch]:
        self.asked.append(split)
        for indices in self.splits[split].split(7)[share.rank :: share.num_ranks]:
            yield self.batch(indices)

    def batch(self, indices: Tensor, after: Position | None = None) -> Batch:
        return Batch(self.inputs[indices], self.targets[indices], indices, after or Position())

    def fitted(self) -> dict[str, Any]:
        return {}

    def restore(self, fitted: Mapping[str, Any]) -> None:
        pass


class ToyTask:
    """Softmax classification, from torch's functions alone."""

    num_outputs = CLASSES
    metric_modes: Mapping[str, str] = {"loss": "min", "accuracy": "max"}
    counts_samples = True

    def __init__(self) -> None:
        self.own_metrics: dict[str, Callable[..., Any]] = {}

    def count(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(len(batch))}

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        outputs = model(batch.inputs)
        loss = F.cross_entropy(outputs, batch.targets, reduction="sum")
        return Outcome({"loss": loss}, {"correct": (outputs.argmax(1) == batch.targets).sum()}, outputs)

    def summarize(self, sums: Mapping[str, Any], num_samples: int) -> dict[str, float]:
        return {"accuracy": float(sums["correct"]) / num_samples}

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return torch.softmax(model(inputs), 1)


class Constant:
    """A schedule that does nothing and counts nothing."""

    def __call__(self, update: int) -> tuple[float, float | None]:
        return 1.0, None


def mlp(seed: int = 0, dropout: float = 0.0, batch_norm: bool = False) -> nn.Module:
    torch.manual_seed(seed)
    norm: list[nn.Module] = [nn.BatchNorm1d(8)] if batch_norm else []
    return nn.Sequential(nn.Linear(FEATURES, 8), *norm, nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, CLASSES))


def adamw(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr, weight_decay=0.01)


def momentum(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr, momentum=0.9)


def new_state(
    model: nn.Module,
    optimizer: Callable[[Any, float], torch.optim.Optimizer] = momentum,
    lr: float = 0.05,
    total_steps: int = 16,
    clone: Callable[[nn.Module], nn.Module] = copy.deepcopy,
    **parts: Any,
) -> TrainState:
    group = {"params": list(model.parameters()), "name": "all", "base_lr": lr}
    parts = {"schedule": Constant(), "precision": Precision("fp32", None, CPU)} | parts
    if parts.get("weight_average") is not None:
        parts["weight_average"].start(model, clone)
    return TrainState(model=model, optimizer=optimizer([group], lr), total_steps=total_steps, **parts)


def new_step(
    data: Any,
    task: Any,
    clip: Clip | None = None,
    nonfinite: Any = "stop",
    accumulate: int = 1,
    seed: int = 1,
    batch_changes: Sequence[Any] = (),
    penalties: Mapping[str, Any] | None = None,
    parallel: Any = None,
) -> Step:
    policy = Policy(clip or Clip(None, None, None), nonfinite, 3, 0.5)
    return Step(
        task, policy, batch_changes, penalties or {}, data.info, accumulate, seed, parallel or DDP(1, None)
    )


class Scripted(ToyTask):
    """Validation accuracies as given, or (accuracy, loss); one for each evaluation, the last one stays."""

    def __init__(self, values: Sequence[float | tuple[float, float]]) -> None:
        super().__init__()
        self.values = [value if isinstance(value, tuple) else (value, 1.0) for value in values]

    def summarize(self, sums: Mapping[str, Any], num_samples: int) -> dict[str, float]:
        metrics = super().summarize(sums, num_samples)
        if num_samples == VAL:  # no log window is of this size
            metrics["accuracy"], metrics["loss"] = self.values.pop(0) if self.values[1:] else self.values[0]
        return metrics


def scripted(*values: float | tuple[float, float]) -> Callable[[], Scripted]:
    return lambda: Scripted(values)


class SignalAt(Signals):
    """A SIGTERM that comes during step `step`."""

    def __init__(self, state: TrainState, step: int | None) -> None:
        super().__init__()
        self.state, self.step = state, step

    def check(self) -> None:
        if self.step is not None and self.state.step >= self.step:
            self.ask("SIGTERM")
        super().check()


@dataclass(frozen=True)
class Toy:
    """A small run in `folder`. Every call of `train` makes all parts anew, as a new process would."""

    folder: Path
    model: Callable[[], nn.Module] = mlp
    state: Mapping[str, Any] = field(default_factory=dict)  # of new_state; callables among parts are called
    step: Mapping[str, Any] = field(default_factory=dict)  # of new_step
    data: Callable[[], Any] = ToyData
    task: Callable[[], Any] = ToyTask
    batch_size: int = 4
    accumulate: int = 3
    eval_every: int = 4
    log_every: int = 3
    save_every: int = 5
    keep_last: int = 2
    keep_best: int = 1
    health: bool = True
    stop_at: float | None = None
    probes: Sequence[Probe] = ()
    monitor: Monitor | None = ACCURACY
    seed: int = 1
    budget: Callable[[], ClockBudget] | None = None
    clock: Callable[[TrainState], Clock] = Clock
    parallel: Callable[[], Any] = lambda: DDP(1, None)

    def but(self, **changes: Any) -> Toy:
        return replace(self, **changes)

    def checkpoints(self, record: Record | None) -> Checkpoints:
        folder = self.folder / "checkpoints"
        return Checkpoints(self.save_every, self.keep_last, self.keep_best, None, folder, "toy", record)

    def train(self, signal_at: int | None = None) -> Trained:
        """To the end, or to a signal during step `signal_at`; continues what the folder holds.

        Of several ranks the first alone writes, as in a real run.
        """
        if not ranks.is_main_process():
            return self._train(None, signal_at)
        self.folder.mkdir(exist_ok=True)
        with contextlib.closing(Record(self.folder)) as record:
            return self._train(record, signal_at)

    def _train(self, record: Record | None, signal_at: int | None) -> Trained:
        data, task, checkpoints = self.data(), self.task(), self.checkpoints(record)
        parts = {name: part() if name in _MADE else part for name, part in self.state.items()}
        parallel, precision = self.parallel(), parts.get("precision")
        model = parallel.place(self.model(), CPU, precision and precision.dtype, [])
        state = new_state(model, clone=parallel.clone, **parts)
        stored = checkpoints.load_newest(_no_warning) if record else None
        size = stored.pop("metrics_bytes") if stored else 0
        if record:
            record.cut(size)
        stored = load_state(state, stored)
        step = new_step(
            data, task, accumulate=self.accumulate, seed=self.seed, parallel=parallel, **self.step
        )
        budget = self.budget() if self.budget else None
        if budget and stored:
            budget.restore(state)
        batch_spec = BatchSpec(self.batch_size, self.accumulate, ranks.size(), ranks.rank())
        windows, signals = Windows(data, batch_spec, self.seed), SignalAt(state, signal_at)
        shared = {"windows": windows, "checkpoints": checkpoints, "signals": signals}
        loop = Loop(
            eval_every=self.eval_every,
            log_every=self.log_every,
            health=self.health,
            step=step,
            policy=step.policy,
            budget=budget,
            evaluator=Evaluator(
                task=task,
                monitor=self.monitor,
                stop_at=self.stop_at,
                probes=self.probes,
                clone=parallel.clone,
                **shared,
            ),
            clock=self.clock,
            **shared,
        )
        events = []
        with contextlib.closing(checkpoints):
            for event in loop.train(state):
                if record:
                    record(event)
                events.append(event)
        return Trained(state, events, data, (self.folder / "metrics.jsonl").read_bytes() if record else b"")


@dataclass(frozen=True)
class Trained:
    """What one process of a run came to."""

    state: TrainState
    events: list[Event]
    data: Any
    metrics: bytes  # metrics.jsonl

    @property
    def weights(self) -> dict[str, Tensor]:
        return self.state.model.state_dict()

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def same_bits(ours: Any, theirs: Any) -> bool:
    """Whether two trees of containers hold the same values, tensors to the last bit."""
    if isinstance(ours, Tensor):
        return ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    if isinstance(ours, Mapping):
        return ours.keys() == theirs.keys() and all(same_bits(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same_bits, ours, theirs))
    return bool(ours == theirs)


_MADE = ("weight_average", "stopper", "schedule", "precision")


def _no_warning(text: str) -> None:
    raise AssertionError(text)
