"""The five kinds of regulariser, each of which acts at one place of the run."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainrun.protocols import Batch, DataInfo


class ModelChange(ABC):
    """Changes the model once, when it is built."""

    @abstractmethod
    def change_model(self, model: nn.Module) -> None: ...


class BatchChange(ABC):
    """Changes every training batch; its draws come from `generator` alone."""

    @abstractmethod
    def check(self, info: DataInfo) -> None:
        """Raise ConfigError where targets of this kind cannot be changed."""

    @abstractmethod
    def change_batch(self, batch: Batch, info: DataInfo, generator: torch.Generator) -> Batch: ...


class Mixing(BatchChange):
    """A change that mixes samples; of several, one is drawn for each batch."""

    name: str


class _OneOf(BatchChange):
    def __init__(self, changes: Sequence[Mixing]) -> None:
        self.changes = changes

    def check(self, info: DataInfo) -> None:
        for change in self.changes:
            change.check(info)

    def change_batch(self, batch: Batch, info: DataInfo, generator: torch.Generator) -> Batch:
        drawn = int(torch.randint(len(self.changes), (1,), generator=generator))
        return self.changes[drawn].change_batch(batch, info, generator)


def combine_batch_changes(changes: Iterable[Any]) -> list[BatchChange]:
    """The batch changes among `changes`, in their order; several mixings become one that draws by batch."""
    batch_changes = [change for change in changes if isinstance(change, BatchChange)]
    mixings = [change for change in batch_changes if isinstance(change, Mixing)]
    if len(mixings) < 2:
        return batch_changes
    return [_OneOf(mixings), *(change for change in batch_changes if not isinstance(change, Mixing))]


class Penalty(ABC):
    """Adds a term to the loss, once per optimizer step."""

    @abstractmethod
    def penalty(self, model: nn.Module) -> Tensor: ...


class WeightAverage(ABC):
    """Averages weights in a copy of the model, in evaluation mode: `model`, None before it has started."""

    name: str
    model: nn.Module | None = None
    bn_batches: int | None = 0  # of training, that batch norm's statistics are estimated from; None: all
    _copy: nn.Module | None = None
    _averaged_from: nn.Module | None = None  # the model whose tensors a subclass has listed

    def start(self, model: nn.Module, clone: Callable[[nn.Module], nn.Module] = copy.deepcopy) -> None:
        """Make the copy, by `clone`; the model is where it trains, and initialised."""
        self.model = self._copy = clone(model).requires_grad_(False).eval()
        self._averaged_from = None

    @property
    def started_copy(self) -> nn.Module:
        """The copy; raises RuntimeError before `start`."""
        if self._copy is None:
            raise RuntimeError(f"{type(self).__name__} is used before {type(self).__name__}.start")
        return self._copy

    @abstractmethod
    def update(self, model: nn.Module) -> None:
        """After an applied optimizer step."""

    def update_bn(
        self,
        batches: Iterable[Batch],
        autocast: Callable[[], AbstractContextManager[Any]],
        raw: nn.Module | None = None,
    ) -> None:
        """Estimate batch norm's statistics of the copy from training batches, before an evaluation.

        Those of norms that are frozen in the `raw` model stay.
        """
        if self.model is not None and self.bn_batches != 0:
            frozen = _frozen_norms(raw) if raw else set()
            estimate_batch_norm(self.model, islice(batches, self.bn_batches), autocast, frozen)

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.started_copy.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.started_copy.load_state_dict(state["model"])


class Stopper(ABC):
    """Ends the run by what it sees of the monitored metric."""

    name: str
    restore_best: bool

    @abstractmethod
    def observe(self, value: float, maximize: bool) -> bool:
        """Called after every evaluation; True ends the run."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]: ...
    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@torch.no_grad()
def estimate_batch_norm(
    model: nn.Module,
    batches: Iterable[Batch],
    autocast: Callable[[], AbstractContextManager[Any]],
    left_out: Collection[str] = (),
) -> None:
    """Set batch norm's running statistics to their mean over the batches; reads none without batch norm.

    Norms whose names are `left_out` keep theirs.
    """
    modules = {name: module for name, module in model.named_modules() if name not in left_out}
    norms = [module for module in modules.values() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    for norm in norms:  # all other layers, such as dropout, stay in evaluation mode
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    try:
        for batch in batches:
            if len(batch) > 1:  # one value has no variance
                with autocast():
                    model(batch.inputs)
    except BaseException:  # a stop: the mean over a part of the batches is worse than the old statistics
        for buffer, value in before:
            buffer.copy_(value)
        raise
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.eval()


def _frozen_norms(model: nn.Module) -> set[str]:
    """The names of batch norms whose own parameters are frozen."""
    norms = {name: list(m.parameters()) for name, m in model.named_modules() if isinstance(m, _BatchNorm)}
    return {name for name, own in norms.items() if own and not any(p.requires_grad for p in own)}
