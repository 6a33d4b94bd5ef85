"""Data that fit in memory: one tensor, batched by index_select, without any per-sample Python."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainrun.data import scaling
from trainrun.data.faults import first_unfit
from trainrun.data.files import read_batches
from trainrun.data.fingerprint import fingerprint, order_mark
from trainrun.data.lazy_indices import Indices
from trainrun.data.order import Order, epoch_order, fold_of, hold_out, micro_batches, slices
from trainrun.protocols import ALL, Batch, BatchSpec, DataInfo, PixelRange, Position, Samples, Shard
from trainrun.vocabulary.errors import ConfigError, DataError


@dataclass(frozen=True)
class Holdout:
    """How validation and test samples are taken where a data set has no split of its own."""

    val_fraction: float
    test_fraction: float
    split_seed: int
    limit: int | None  # keep only this many training samples
    fold: int | None  # this part is the test split, or where the data have one the validation split
    num_folds: int


class IndexedData:
    """Data whose batches are gathered by index on the device that trains, ordered by `data/order.py`."""

    splits: dict[str, Tensor]  # split -> indices; empty ones are left out
    eval_batch_size: int
    device = storage = torch.device("cpu")  # what trains, and where the samples lie
    order: Order = staticmethod(epoch_order)
    weights: Tensor | None = None  # of all samples in the loss; None: all alike

    def sample_with(self, sampler: Order) -> None:
        """Draw each epoch as the user's function says, which is tried once."""
        sampler(self.splits["train"], 0, 0)
        self.order = sampler

    def train_batches(self, position: Position, batch_spec: BatchSpec, seed: int) -> Iterator[Batch]:
        while True:
            order = self.order(self.splits["train"], seed, position.epoch)
            for indices, after in micro_batches(order.to(self.storage), position, batch_spec):
                yield self._moved(self._gather(indices, after)).weighed(self.weights, self.device)
            position = Position(position.epoch + 1)

    def eval_batches(self, split: str, share: Shard = ALL) -> Iterator[Batch]:
        rows, size = self.splits[split].to(self.storage), self.eval_batch_size
        starts = range(share.rank * size, len(rows), share.num_ranks * size)
        for indices in slices(rows, starts, size):
            yield self._moved(self._gather(indices, Position())).weighed(self.weights, self.device)

    def _moved(self, batch: Batch) -> Batch:
        """A batch on the device that trains."""
        if self.storage == self.device:
            return batch
        parts = {name: getattr(batch, name) for name in ("inputs", "targets", "indices")}
        return replace(batch, **{name: part.to(self.device) for name, part in parts.items()})

    def _gather(self, indices: Tensor, after: Position) -> Batch:
        raise NotImplementedError


class InMemoryData(IndexedData):
    """Samples as one tensor on the device that trains, or on the host if that has too little memory.

    `inputs` (N, ...) keep their stored dtype (uint8 pictures stay bytes) and become float32 batch
    by batch: `(x - shift) * scale`. `targets` are (N,) int64 classes or (N, outputs) float32.
    """

    def __init__(
        self,
        info: DataInfo,
        inputs: Tensor,
        targets: Tensor,
        splits: Mapping[str, Tensor],
        shift: Tensor,
        scale: Tensor,
        eval_batch_size: int,
    ) -> None:
        self.info, self.inputs, self.targets = info, inputs, targets
        self.splits = {name: part for name, part in splits.items() if len(part)}
        self.shift, self.scale, self.eval_batch_size = shift, scale, eval_batch_size
        if info.pixels is not None:
            self.stored_black, self.stored_white = info.pixels.black, info.pixels.white
            self._scale_pixels()

    def balance(self) -> None:
        """Draw every class equally often in training."""
        self.order = partial(epoch_order, classes=self.targets.cpu()[self.splits["train"]])

    def to(self, device: torch.device) -> None:
        self.device, self.storage = device, storage_for(device, self.inputs, self.targets)
        self.inputs, self.targets = self.inputs.to(self.storage), self.targets.to(self.storage)
        self.shift, self.scale = self.shift.to(device), self.scale.to(device)
        self.weights = None if self.weights is None else self.weights.to(device)
        scaling.move(self.info.target_scaling, device)
        self._scale_pixels()

    def fitted(self) -> dict[str, Any]:
        inputs = {"shift": self.shift.cpu(), "scale": self.scale.cpu()}
        return inputs | scaling.fitted(self.info.target_scaling)

    def restore(self, fitted: Mapping[str, Any]) -> None:
        self.shift, self.scale = fitted["shift"].to(self.device), fitted["scale"].to(self.device)
        scaling.restore(self.info.target_scaling, fitted)
        self._scale_pixels()

    def read(self, file: Path) -> Samples:
        """A file of inputs as they are stored here, before (x - shift) * scale."""
        batches = read_batches(file, self.info.input_shape, self.eval_batch_size, self.device)
        return Samples(map(self.scaled, batches))

    def train_batches(self, position: Position, batch_spec: BatchSpec, seed: int) -> Iterator[Batch]:
        return map(self.scaled, self.stored_batches(position, batch_spec, seed))

    def stored_batches(self, position: Position, batch_spec: BatchSpec, seed: int) -> Iterator[Batch]:
        """What `train_batches` gives, but for `standardized`."""
        return super().train_batches(position, batch_spec, seed)

    def eval_batches(self, split: str, share: Shard = ALL) -> Iterator[Batch]:
        return map(self.scaled, super().eval_batches(split, share))

    def scaled(self, batch: Batch) -> Batch:
        """A batch of copies of stored values as the model sees them; changes them in place."""
        return replace(batch, inputs=self.standardized(batch.inputs))

    def standardized(self, inputs: Tensor) -> Tensor:
        """Copies of stored inputs as the model sees them; changes them in place."""
        return inputs.to(torch.float32).sub_(self.shift).mul_(self.scale)

    def _scale_pixels(self) -> None:
        """Black and white as the model sees them."""
        if self.info.pixels is not None:
            ends = (self.stored_black, self.stored_white)
            self.stored_black, self.stored_white = (end.to(self.device) for end in ends)
            self.info.pixels.black = ((self.stored_black - self.shift) * self.scale)[0]
            self.info.pixels.white = ((self.stored_white - self.shift) * self.scale)[0]

    def _gather(self, indices: Tensor, after: Position) -> Batch:
        targets = self.targets.index_select(0, indices)
        return Batch(self.inputs.index_select(0, indices), targets, indices, after)


def storage_for(device: torch.device, *samples: Tensor) -> torch.device:
    """Where samples lie: on the device; on the host those on disk, or of over half of a GPU's memory."""
    if device.type != "cuda":
        return device
    size = sum(getattr(part, "nbytes", math.inf) for part in samples)  # rows on disk have none
    most = torch.cuda.get_device_properties(device).total_memory / 2  # training needs the rest
    return device if size <= most else torch.device("cpu")


def resident(
    info: DataInfo,
    inputs: Tensor,
    targets: Tensor,
    holdout: Holdout,
    eval_batch_size: int,
    given: dict[str, Tensor] | None = None,
    kind: type[InMemoryData] = InMemoryData,
) -> InMemoryData:
    """Data of class `kind`, split and standardised by the training split alone.

    `given` are the indices of official validation and test splits, which follow all other samples.
    Raises DataError where no sample is left to train on or a value is not finite.
    """
    given = given or {}
    count = len(inputs) - sum(map(len, given.values()))
    splits = split(torch.arange(count), holdout, targets if info.kind == "classes" else None, given) | given
    shift, scale = scaling.standardization(inputs[splits["train"]])
    info = described(info, inputs, targets, splits)
    info = replace(info, input_scaling=scaling.describe_scaling(shift, scale))
    if inputs.ndim == 4 and info.pixels is None:  # 0 or less, and the largest value
        info = replace(info, pixels=PixelRange(inputs.min().float().clamp(max=0), inputs.max().float()))
    return kind(info, inputs, targets, splits, shift, scale, eval_batch_size)


def split(
    samples: Indices, holdout: Holdout, classes: Tensor | None, given: Collection[str] = ()
) -> dict[str, Any]:
    """Indices of "train" among all `samples`, and of those of "test" and "val" that are not `given`.

    Computed where they are read if all are so and have no classes; stratified where they have.
    Raises ConfigError for shares that take all and for a fold where both are given, DataError where
    no sample is left to train on.
    """
    shares = {"test": holdout.test_fraction, "val": holdout.val_fraction}
    shares = {name: share for name, share in shares.items() if name not in given}
    if holdout.fold is None and sum(shares.values()) >= 1:
        text = "leaves no sample to train on: data.test_fraction takes the rest"
        raise ConfigError.of("data.val_fraction", text)
    folded = next(iter(shares), None) if holdout.fold is not None else None
    if holdout.fold is not None and folded is None:
        raise ConfigError.of("data.fold", "the data have validation and test splits of their own", None)
    rest, seed = samples if classes is None else samples[:], holdout.split_seed
    splits, count = dict[str, Indices](), len(samples)
    for name, share in shares.items():
        if holdout.fold is not None and name == folded:
            rest, splits[name] = fold_of(rest, holdout.fold, holdout.num_folds, seed, classes)
        else:
            number = min(len(rest), round(share * count))
            rest, splits[name] = hold_out(rest, number, seed, name, classes)
    if holdout.limit is not None and holdout.limit < len(rest):
        rest = hold_out(rest, holdout.limit, seed, "limit", classes)[1]
    if len(rest) == 0:
        raise DataError(f"data: no sample is left to train on, got {count} samples in all")
    return {"train": rest, **splits}


def described(info: DataInfo, inputs: Tensor, targets: Tensor, splits: Mapping[str, Tensor]) -> DataInfo:
    """`info` with sizes, class counts, target scaling and fingerprint; estimates are of the training split.

    Regression targets keep their own units; `info` says what would standardise them.
    Raises DataError where a value is not finite.
    """
    for what, values in (("inputs", inputs), ("targets", targets)):
        if values.is_floating_point() and (row := first_unfit(torch.isfinite(values))) is not None:
            raise DataError(f"data: sample {row} of {info.name} has {what} that are not finite numbers")
    train = targets[splits["train"]]
    is_classes = info.kind == "classes"
    return replace(
        info,
        sizes={name: len(splits[name]) for name in ("train", "val", "test")},
        class_counts=tuple(torch.bincount(train, minlength=info.num_targets).tolist()) if is_classes else (),
        target_scaling=scaling.target_scaling(train) if info.kind == "values" else None,
        in_memory=True,
        fingerprint=fingerprint([inputs, targets, *order_mark(len(train))]),
    )
