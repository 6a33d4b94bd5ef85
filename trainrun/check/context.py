"""The context of all checks: copies of model and state, and training samples before augmentation."""

from __future__ import annotations

import contextlib
import copy
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_leaves, tree_map

from trainrun.assembly.build import Parts
from trainrun.assembly.optimizer import configured, optimizer_over, weight_average_of
from trainrun.augment.pictures import unaugmented
from trainrun.checkpoint.state import TrainState
from trainrun.config.tree import value_at
from trainrun.parameters import Parameters
from trainrun.protocols import Batch, BatchSpec, Position, StepResult, TaskProtocol
from trainrun.regularization.kinds import WeightAverage
from trainrun.runtime.machine import seed_forward
from trainrun.task.lightning import Lightning
from trainrun.task.metrics import mean_loss

# Samples of the batch that is measured: fewer give no shares of dead units, more take seconds.
_FEWEST, _MOST = 16, 256


@dataclass(frozen=True)
class CheckContext:
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

    def setting(self, key: str) -> Any:
        """The value at a dotted key; None where there is no such setting."""
        return value_at(self.parts.settings, key)

    def seed(self, count: int) -> None:
        """Make the next forward pass draw what the `count`-th would."""
        seed_forward(self.parts.settings["seed"], count, self.parts.runtime.device)

    def loss(self, model: nn.Module, batch: Batch, count: int = 0) -> float:
        """The loss of a batch, with what the `count`-th forward pass would draw."""
        self.seed(count)
        with torch.no_grad():
            return float(loss_of(self.parts.task, model, batch))


def context_of(parts: Parts) -> CheckContext:
    """With as many samples as the run's micro-batch, but neither very few nor very many."""
    count = min(max(parts.batch_spec.batch_size, _FEWEST), _MOST)
    return CheckContext(parts, first_samples(parts, count))


def first_samples(parts: Parts, count: int) -> Batch:
    """The first `count` samples that training would see, or as many as there are, before augmentation."""
    data, batch_spec = unaugmented(parts.data), BatchSpec(count, 1)
    return next(iter(data.train_batches(Position(), batch_spec, parts.settings["seed"])))


def fresh_state(
    context: CheckContext, model: nn.Module, optimizer: Mapping[str, Any], lr: float
) -> TrainState:
    """What the run begins with, over `model`: with the settings `optimizer` in place of its own, at `lr`.

    It is made anew, because optimizers cannot be deep-copied.
    """
    parts = context.parts
    make = copy.copy(parts.make)
    make.settings = {**parts.settings, "optimizer": optimizer}
    parameters: Parameters = make("parameters")
    for name in parts.state.freezing.held if parts.state.freezing else ():
        model.get_parameter(name).requires_grad_()  # as when the run was built
    groups = parameters.groups(model, parameters.param_configs(model, optimizer.get("weight_decay")), lr)
    own = configured(make, model, parts.pace)
    new_optimizer = own[0] if own else optimizer_over(make, model, groups, lr)
    for group in own[0].param_groups if own else ():
        group["base_lr"] *= lr / parts.rates.lr
    averages = (part for part in parts.regularizers.values() if isinstance(part, WeightAverage))
    weight_average = weight_average_of(copy.deepcopy(next(averages, None)), new_optimizer)
    if weight_average is not None:
        weight_average.start(model)
    schedule = own[1].over(parts.state.total_steps) if own else copy.deepcopy(parts.state.schedule)
    precision = copy.deepcopy(parts.state.precision)
    state = TrainState(model, new_optimizer, schedule, precision, parts.state.total_steps, weight_average)
    state.freezing = parts.state.freezing
    state.stopper = copy.deepcopy(parts.state.stopper)
    state.data, state.fitted = parts.state.data, parts.state.fitted
    return state


def without_dropout(model: nn.Module) -> nn.Module:
    """The model itself, its rates of dropout and stochastic depth set to 0."""
    for module in model.modules():
        is_dropout = isinstance(module, _DropoutNd) or type(module).__name__ == "StochasticDepth"
        for name in ("p",) if is_dropout else ("dropout", "drop_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


def loss_of(task: TaskProtocol, model: nn.Module, batch: Batch) -> Tensor:
    """The mean that training minimises, of one batch."""
    counts, terms = task.count(batch), task(model, batch).terms
    return torch.stack([term / counts[name] for name, term in terms.items()]).sum()


def loss_in(result: StepResult) -> float:
    """The mean that a step of training has reached, without penalties; nan without a masked token."""
    return mean_loss(result.terms, result.counts)


def tensors_in(outputs: Any) -> list[Tensor]:
    """The floating-point tensors among what a model takes or gives, in whatever containers they lie."""
    return [leaf for leaf in tree_leaves(outputs) if _is_values(leaf)]


def leaves_in(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of whatever lies in nested mappings, lists and tuples."""
    if isinstance(tree, (Mapping, list, tuple)):
        for key, value in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from leaves_in(value, f"{path}/{key}" if path else str(key))
    else:
        yield path, tree


def is_same(ours: Any, theirs: Any) -> bool:
    """Whether two values, or all those of two tensors of one type, are equal; a NaN equals another."""
    if isinstance(ours, Tensor) != isinstance(theirs, Tensor):
        return False
    if isinstance(ours, Tensor) and (ours.dtype != theirs.dtype or ours.shape != theirs.shape):
        return False
    same = (ours == theirs) | ((ours != ours) & (theirs != theirs))
    return bool(same.all() if isinstance(same, Tensor) else same)


def _is_values(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.numel() > 0


class Fixed(nn.Module):
    """Gives what `model` gives, but with the same row for every sample in each tensor: at first zeros."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.outputs: Any = None  # the model's for the first batch; all are of their shapes
        self.rows: list[Tensor] = []  # one per tensor of them; those that may be changed want a gradient

    def __getattr__(self, name: str) -> Any:
        """What a task may ask of the model itself, such as one of its layers."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        if self.outputs is None:
            with torch.no_grad():
                self.outputs = self.model(*inputs, **named)
            # A tensor without samples, such as a penalty, has no row: it stays 0.
            self.rows = [
                tensor.new_zeros(tensor.shape[1:][-1:], requires_grad=tensor.ndim > 0)
                for tensor in tensors_in(self.outputs)
            ]
        rows = iter(self.rows)
        return tree_map(
            lambda leaf: next(rows).expand(leaf.shape).clone() if _is_values(leaf) else leaf, self.outputs
        )


def blank_loss(task: TaskProtocol, model: nn.Module, batch: Batch) -> float:
    """The loss where all outputs are 0; nan where it is not made of outputs, as a model's own loss."""
    if isinstance(task, Lightning):  # whose steps call what they like
        return math.nan
    fixed = Fixed(model)
    loss = loss_of(task, fixed, batch)
    return float(loss.detach()) if fixed.rows and loss.requires_grad else math.nan


def blind_loss(task: TaskProtocol, model: nn.Module, batch: Batch) -> float:
    """The least loss with the same outputs for all samples, as without inputs; nan as of `blank_loss`."""
    if isinstance(task, Lightning):
        return math.nan
    fixed = Fixed(model)
    loss = loss_of(task, fixed, batch)  # which tells what the outputs are
    if not fixed.rows or not loss.requires_grad:
        return math.nan
    free = [row for row in fixed.rows if row.requires_grad]
    optimizer = torch.optim.LBFGS(free, max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(task, fixed, batch)
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(loss_of(task, fixed, batch).detach())


def time_limit(cpu_s: float, wall_factor: float) -> Callable[[], bool]:
    """Return what tells whether a question has taken `cpu_s`, or as many times that by the wall's clock.

    The processor's time counts, because the machine may be busy; the wall's, because a disk may be slow.
    """
    cpu_end, wall_end = time.process_time() + cpu_s, time.monotonic() + cpu_s * wall_factor
    return lambda: time.process_time() > cpu_end or time.monotonic() > wall_end


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
