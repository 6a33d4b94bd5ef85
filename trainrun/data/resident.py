"""Data that fit in memory: one tensor, batched by gather, without any per-sample Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trainrun.data import scaling
from trainrun.data.fingerprint import fingerprint
from trainrun.data.order import epoch_order, hold_out, micro_batches
from trainrun.errors import ConfigError, DataError
from trainrun.protocols import ALL, Batch, Cut, DataInfo, Position, Share


@dataclass(frozen=True)
class Holdout:
    """How validation and test samples are taken where a data set has no split of its own."""

    val_fraction: float
    test_fraction: float
    split_seed: int
    limit: int | None  # keep only this many training samples


class Resident:
    """Samples as one tensor on the device that trains.

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
        self.info, self.inputs, self.targets, self.splits = info, inputs, targets, dict(splits)
        self.shift, self.scale, self.eval_batch_size = shift, scale, eval_batch_size
        self.classes: Tensor | None = None  # of the training samples, where each is to be drawn equally often
        self.device = torch.device("cpu")

    def balance(self) -> None:
        """Draw every class equally often in training."""
        self.classes = self.targets.cpu()[self.splits["train"]]

    def to(self, device: torch.device) -> None:
        self.device = device
        self.inputs, self.targets = self.inputs.to(device), self.targets.to(device)
        self.shift, self.scale = self.shift.to(device), self.scale.to(device)
        scaling.move(self.info.target_scaling, device)

    def train_batches(self, position: Position, cut: Cut, seed: int) -> Iterator[Batch]:
        train = self.splits["train"]
        while True:
            order = epoch_order(train, seed, position.epoch, self.classes).to(self.device)
            for indices, after in micro_batches(order, position, cut):
                yield self._gather(indices, after)
            position = Position(position.epoch + 1)

    def eval_batches(self, split: str, share: Share = ALL) -> Iterator[Batch]:
        batches = self.splits[split].to(self.device).split(self.eval_batch_size)
        for indices in batches[share.rank :: share.num_ranks]:
            yield self._gather(indices, Position())

    def fitted(self) -> dict[str, Any]:
        inputs = {"shift": self.shift.cpu(), "scale": self.scale.cpu()}
        return inputs | scaling.fitted(self.info.target_scaling)

    def restore(self, fitted: Mapping[str, Any]) -> None:
        self.shift, self.scale = fitted["shift"].to(self.device), fitted["scale"].to(self.device)
        scaling.restore(self.info.target_scaling, fitted)

    def _gather(self, indices: Tensor, after: Position) -> Batch:
        inputs = self.inputs.index_select(0, indices).to(torch.float32).sub_(self.shift).mul_(self.scale)
        return Batch(inputs, self.targets.index_select(0, indices), indices, after)


def resident(
    info: DataInfo,
    inputs: Tensor,
    targets: Tensor,
    holdout: Holdout,
    eval_batch_size: int,
    per_feature: bool,
    test: Tensor | None = None,
) -> Resident:
    """Split, count, and fit the scaling on the training split alone.

    `per_feature` standardises every input feature (tables); otherwise every channel (pictures).
    `test` are the indices of an official test split; without it `test_fraction` is held out.
    Regression targets keep their own units; `info` says what would standardise them.
    Raises DataError where no sample is left to train on or a value is not finite.
    """
    classes = targets if info.kind == "classes" else None
    if test is None and holdout.val_fraction + holdout.test_fraction >= 1:
        raise ConfigError.one(
            "data.val_fraction", "leaves no sample to train on, together with data.test_fraction"
        )
    rest = torch.arange(len(inputs))
    if test is None:
        num_val = round(holdout.val_fraction * len(rest))
        num_test = round(holdout.test_fraction * len(rest))
        rest, test = hold_out(rest, num_test, holdout.split_seed, "test", classes)
    else:
        rest = rest[~torch.isin(rest, test)]
        num_val = round(holdout.val_fraction * len(rest))
    train, val = hold_out(rest, num_val, holdout.split_seed, "val", classes)
    if holdout.limit is not None and holdout.limit < len(train):
        train = hold_out(train, holdout.limit, holdout.split_seed, "limit", classes)[1]
    if len(train) == 0:
        raise DataError(f"data: no sample is left to train on, got {len(inputs)} samples in all")
    for what, values in (("inputs", inputs), ("targets", targets)):
        if not torch.isfinite(values).all():
            at = int((~torch.isfinite(values)).reshape(len(values), -1).any(1).nonzero()[0])
            raise DataError(f"data: sample {at} of {info.name} has {what} that are not finite numbers")
    info = replace(info, fingerprint=fingerprint([inputs, targets]))
    shift, scale = scaling.standardization(inputs[train], per_feature)
    if info.kind == "values":
        info = replace(info, target_scaling=scaling.target_scaling(targets[train]))
    sizes = {"train": len(train), "val": len(val), "test": len(test)}
    counts = (
        tuple(torch.bincount(targets[train], minlength=info.num_targets).tolist())
        if classes is not None
        else ()
    )
    info = replace(info, sizes=sizes, class_counts=counts, in_memory=True)
    splits = {name: part for name, part in (("train", train), ("val", val), ("test", test)) if len(part)}
    return Resident(info, inputs, targets, splits, shift, scale, eval_batch_size)
