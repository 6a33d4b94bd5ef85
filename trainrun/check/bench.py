"""What the questions are asked of: copies of the model, and training samples as they are, not augmented."""

from __future__ import annotations

import contextlib
import copy
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from trainrun.augment.pictures import unaugmented
from trainrun.config.build import Parts
from trainrun.protocols import Batch, Cut, Data, Position, StepResult, Task
from trainrun.runtime import seed_forward

_FEWEST, _MOST = 16, 256  # samples of the batch that is measured


@dataclass(frozen=True)
class Bench:
    """A built run, whose own model and data stay as they are."""

    parts: Parts
    batch: Batch  # the first training samples

    @property
    def model(self) -> nn.Module:
        """A copy with its first weights, in training mode."""
        return copy.deepcopy(self.parts.state.model).train()

    @property
    def still(self) -> nn.Module:
        """The same without dropout, so that what is measured does not depend on its draws."""
        return without_dropout(self.model)

    @property
    def data(self) -> Data:
        """Before augmentation."""
        return unaugmented(self.parts.data)

    def seed(self, count: int) -> None:
        """Make the next forward pass draw what the `count`-th would."""
        seed_forward(self.parts.settings["seed"], count, self.parts.runtime.device)


def bench_of(parts: Parts) -> Bench:
    """With as many samples as the run's micro-batch, but neither very few nor very many."""
    count = min(max(parts.cut.batch_size, _FEWEST), _MOST)
    return Bench(parts, first_samples(unaugmented(parts.data), count, parts.settings["seed"]))


def first_samples(data: Data, count: int, seed: int) -> Batch:
    """The first `count` samples that training would see, or as many as there are."""
    return next(iter(data.train_batches(Position(), Cut(count, 1), seed)))


def chosen(batch: Batch, rows: Tensor) -> Batch:
    """Some samples of a batch whose inputs and targets are tensors."""
    rows = rows.to(batch.targets.device)
    indices = torch.as_tensor(batch.indices).to(rows.device)[rows]
    return replace(batch, inputs=batch.inputs[rows], targets=batch.targets[rows], indices=indices)


def without_dropout(model: nn.Module) -> nn.Module:
    """The model itself, its rates of dropout and stochastic depth set to 0."""
    for module in model.modules():
        is_dropout = isinstance(module, _DropoutNd) or type(module).__name__ == "StochasticDepth"
        for name in ("p",) if is_dropout else ("dropout", "drop_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


def loss_of(task: Task, model: nn.Module, batch: Batch) -> Tensor:
    """The mean that training minimises, of one batch."""
    counts, terms = task.count(batch), task(model, batch).terms
    return torch.stack([term / counts[name] for name, term in terms.items()]).sum()


def loss_in(result: StepResult) -> float:
    """The mean that a step of training has reached, without penalties."""
    return sum(float(term) / float(result.counts[name]) for name, term in result.terms.items())


class Fixed(nn.Module):
    """A model in whose place the same values are given for every sample."""

    def __init__(self, model: nn.Module, values: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.values = model, values
        self.outputs: Tensor | None = None  # the model's for the first batch; all are of its shape

    def forward(self, *inputs: Any) -> Tensor:
        if self.outputs is None:
            with torch.no_grad():
                self.outputs = self.model(*inputs)
        return self.values(self.outputs)


def blank_loss(task: Task, model: nn.Module, batch: Batch) -> float:
    """The loss where all outputs are 0: ln C of a cross-entropy over C classes, ln 2 of a binary one, the
    mean square of the targets of a squared error.
    """
    with torch.no_grad():
        return float(loss_of(task, Fixed(model, torch.zeros_like), batch))


def blind_loss(task: Task, model: nn.Module, batch: Batch) -> float:
    """The least loss with outputs that are the same for all samples: what is learned without the inputs."""
    found: list[Tensor] = []

    def values(outputs: Tensor) -> Tensor:
        if not found:
            found.append(torch.zeros(outputs.shape[-1:], device=outputs.device, requires_grad=True))
        return found[0].expand(outputs.shape)

    fixed = Fixed(model, values)
    loss_of(task, fixed, batch)  # which tells how many outputs there are
    optimizer = torch.optim.LBFGS(found, max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(task, fixed, batch)
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(loss_of(task, fixed, batch).detach())


class Patience:
    """How long a question may take: `cpu_s` by the processor's clock, for a machine may be busy with other
    things, and `wall_s` by the wall's, for a disk may be slow.
    """

    def __init__(self, cpu_s: float, wall_s: float) -> None:
        self._ends = time.process_time() + cpu_s, time.monotonic() + wall_s

    @property
    def is_over(self) -> bool:
        return time.process_time() > self._ends[0] or time.monotonic() > self._ends[1]


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Whatever is drawn inside, the generators come out as they were."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)
