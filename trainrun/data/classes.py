"""The classes of a foreign dataset: as it lists them, else read from every sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from trainrun.data.faults import check_targets
from trainrun.data.samples import Seeded, collate, seen, size_of, unpacked
from trainrun.data.targets import TargetReading
from trainrun.protocols import DataInfo
from trainrun.vocabulary.errors import ConfigError, DataError

Splits = dict[str, tuple[Dataset[Any], Tensor | None]]  # dataset, indices; None as indices is a stream


def classes_of(dataset: Dataset[Any], info: DataInfo, reading: TargetReading) -> Tensor | None:
    """Every sample's class, (N,): as the dataset lists them, else read where their number is unknown."""
    listed = _listed(dataset, reading)
    return all_classes(dataset, reading) if listed is None and not info.num_targets else listed


def all_classes(dataset: Dataset[Any], reading: TargetReading) -> Tensor:
    """Every sample's class, (N,): as the dataset lists them, else read one after the other."""
    listed = _listed(dataset, reading)
    if listed is not None:
        return listed
    return torch.tensor([_class_of(dataset, i, reading) for i in range(size_of(dataset))])


def _listed(dataset: Dataset[Any], reading: TargetReading) -> Tensor | None:
    listed = np.asarray(getattr(dataset, "targets", ()))
    is_plain = listed.shape == (size_of(dataset),) and listed.dtype.kind in "iub"
    listed = (listed > 0).astype(np.int64) if is_plain and reading.form == "sign" else listed
    if not is_plain or listed[0] != _class_of(dataset, 0, reading):
        return None
    return torch.from_numpy(listed.astype(np.int64))


def _class_of(dataset: Dataset[Any], index: int, reading: TargetReading) -> int:
    name = type(dataset).__name__
    _, target = unpacked(collate([Seeded(dataset, 0)[index]]), [index])
    read = reading(target, [index], name)
    if not isinstance(read, Tensor) or read.shape != (1,) or read.is_floating_point():
        got = target.tolist() if isinstance(target, Tensor) else target
        raise DataError(
            f"data: sample {index} of {name} has the target {got[0]!r}, and the first sample a class"
        )
    return int(read)


def counted(info: DataInfo, classes: Tensor, train: Tensor | None) -> DataInfo:
    """With how many training samples each class has."""
    outside = ((classes < 0) | (classes >= info.num_targets)).nonzero()
    if len(outside):
        first = int(outside[0])
        text = f"has class {int(classes[first])}, there are {info.num_targets}, counted from 0"
        raise DataError(
            f"data: sample {first} of {info.name} {text}; for numbers use task=regression loss=mse"
        )
    counts = torch.bincount(classes[train], minlength=info.num_targets)
    return replace(info, class_counts=tuple(counts.tolist()))


def notes_of(
    datasets: Mapping[str, Dataset[Any]],
    splits: Splits,
    info: DataInfo,
    reading: TargetReading,
    classes: Tensor | None,
) -> Iterator[str]:
    """What a run should know of its validation and test splits, for the plan.

    Raises DataError for targets of a split of its own that the training set's are not like.
    """
    for split in ("val", "test"):
        dataset, indices = splits.get(split, (None, None))
        if dataset is None or indices is None:
            continue
        if not len(indices):
            yield f"data.{split} has no samples, so there is no {split} split"
            continue
        held = classes[indices] if classes is not None and split not in datasets else None
        if split in datasets:
            held = _given_classes(dataset, info, reading, are_read=classes is not None)
        if held is not None and info.class_counts:
            unknown = held[torch.tensor(info.class_counts)[held] == 0]
            names = [
                info.class_names[number] if info.class_names else str(number)
                for number in unknown.unique().tolist()
            ]
            if names:
                text = f"{len(unknown)} samples are of classes that no training sample has"
                yield f"{split}: {text}: {', '.join(names)}"


def _given_classes(
    dataset: Dataset[Any], info: DataInfo, reading: TargetReading, are_read: bool
) -> Tensor | None:
    """The classes of a split of its own, where it lists them or where training's had to be read, too.

    Raises DataError for the first target that training's are not like.
    """
    name = type(dataset).__name__
    _, target = unpacked(collate([Seeded(dataset, 0)[0]]), [0])
    check_targets(reading(target, [0], name), [0], name, info)
    if info.kind != "classes":
        return None
    declared = hasattr(dataset, "classes") or hasattr(dataset, "num_classes")
    held = all_classes(dataset, reading) if are_read and not declared else _listed(dataset, reading)
    if held is not None:
        check_targets(held, torch.arange(len(held)), name, info)
    return held


def num_tokens(dataset: Dataset[Any], inputs: Any, targets: Tensor) -> int:
    """How many tokens there are: as the dataset says, else one more than the largest of any sample.

    `inputs` and `targets` are the first sample, a batch of one. Raises ConfigError for inputs that are
    no tokens, one for each target.
    """
    name = type(dataset).__name__
    if not isinstance(inputs, Tensor) or inputs.is_floating_point() or inputs.shape != targets.shape:
        text = f"learns a token for each token of the input; an input of {name} is {seen(inputs)}"
        raise ConfigError.one("task", f"{text}, a target {seen(targets)}, as a batch of one")
    numbers = (getattr(dataset, key, 0) for key in ("vocab_size", "num_classes"))
    if count := next((int(number) for number in numbers if number), 0):
        return count
    if isinstance(dataset, IterableDataset):
        raise DataError("data.train: a stream of tokens must say how many: give the dataset vocab_size")
    largest = 0
    for index in range(size_of(dataset)):
        for tokens in unpacked(collate([Seeded(dataset, 0)[index]]), [index]):
            largest = max(largest, int(tokens.max()))
    return largest + 1
