"""The classes of any Dataset's samples: from its `targets` where it lists them, else read one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from trainrun.data.faults import check_targets, first_unfit
from trainrun.data.lazy_indices import Indices
from trainrun.data.samples import describe_value, name_of, read_sample, size_of
from trainrun.data.targets import TargetReading
from trainrun.protocols import DataInfo
from trainrun.vocabulary.errors import ConfigError, DataError

Splits = dict[str, tuple[Dataset[Any], Indices | None]]  # dataset, indices; None as indices is a stream


def classes_of(dataset: Dataset[Any], info: DataInfo, reading: TargetReading) -> Tensor | None:
    """Every sample's class, (N,); None where the dataset lists none and their number is known."""
    return _listed(dataset, reading) if info.num_targets else all_classes(dataset, reading)


def all_classes(dataset: Dataset[Any], reading: TargetReading) -> Tensor:
    """Every sample's class, (N,); reads all samples where the dataset does not list them."""
    listed = _listed(dataset, reading)
    if listed is None:
        return torch.tensor([_class_of(dataset, i, reading) for i in range(size_of(dataset))])
    return listed


def _listed(dataset: Dataset[Any], reading: TargetReading) -> Tensor | None:
    listed = np.asarray(getattr(dataset, "targets", ()))
    is_plain = listed.shape == (size_of(dataset),) and listed.dtype.kind in "iub"
    listed = (listed == int(reading.names[1])).astype(np.int64) if is_plain and reading.names else listed
    if not is_plain or listed[0] != _class_of(dataset, 0, reading):
        return None
    return torch.from_numpy(listed.astype(np.int64))


def _class_of(dataset: Dataset[Any], index: int, reading: TargetReading) -> int:
    name = name_of(dataset)
    _, target = read_sample(dataset, index)
    label = reading(target, [index], name)
    if not isinstance(label, Tensor) or label.shape != (1,) or label.is_floating_point():
        got = (target.tolist() if isinstance(target, Tensor) else target)[0]
        raise DataError(f"data: sample {index} of {name} has the target {got!r}, the first sample a class")
    return int(label)


def counted(info: DataInfo, classes: Tensor, train: Tensor) -> DataInfo:
    """`info` with the number of training samples of each class."""
    first = first_unfit((classes >= 0) & (classes < info.num_targets))
    if first is not None:
        text = f"has class {int(classes[first])}, there are {info.num_targets}, counted from 0"
        fix = "for numbers use task=regression loss=mse"
        raise DataError(f"data: sample {first} of {info.name} {text}; {fix}")
    counts = torch.bincount(classes[train], minlength=info.num_targets)
    return replace(info, class_counts=tuple(counts.tolist()))


def notes_of(
    datasets: Mapping[str, Dataset[Any]],
    splits: Splits,
    info: DataInfo,
    reading: TargetReading,
    classes: Tensor | None,
) -> Iterator[str]:
    """What the plan should say of the validation and test splits: none, or with classes unseen in training.

    Raises DataError for targets of a given split that differ in kind from those of the training set.
    """
    for split in ("val", "test"):
        dataset, indices = splits.get(split, (None, None))
        if dataset is None or indices is None:
            continue
        if not len(indices):
            yield f"data.{split} has no samples, so there is no {split} split"
            continue
        held = classes[indices[:]] if classes is not None and split not in datasets else None
        if split in datasets:
            held = _given_classes(dataset, info, reading, are_read=classes is not None)
        if held is not None and info.class_counts:
            unknown = held[torch.tensor(info.class_counts)[held] == 0]
            numbers = unknown.unique().tolist()
            names = [info.class_names[number] if info.class_names else str(number) for number in numbers]
            if names:
                text = f"{len(unknown)} samples are of classes that no training sample has"
                yield f"{split}: {text}: {', '.join(names)}"


def _given_classes(
    dataset: Dataset[Any], info: DataInfo, reading: TargetReading, are_read: bool
) -> Tensor | None:
    """The classes of a given split, where it lists them or where those of training had to be read."""
    name = name_of(dataset)
    _, target = read_sample(dataset, 0)
    check_targets(reading(target, [0], name), [0], name, info)
    if info.kind != "classes":
        return None
    declared = hasattr(dataset, "classes") or hasattr(dataset, "num_classes")
    held = all_classes(dataset, reading) if are_read and not declared else _listed(dataset, reading)
    if held is not None:
        check_targets(held, torch.arange(len(held)), name, info)
    return held


def num_tokens(dataset: Dataset[Any], inputs: Any, targets: Tensor) -> int:
    """The vocabulary's size: as the dataset says, else one more than the largest token of any sample.

    `inputs` and `targets` are the first sample, a batch of one. Raises ConfigError where they are
    not one token per target.
    """
    name = name_of(dataset)
    if not isinstance(inputs, Tensor) or inputs.is_floating_point() or inputs.shape != targets.shape:
        text = f"learns a token for each token of the input; an input of {name} is {describe_value(inputs)}"
        raise ConfigError.of("task", f"{text}, a target {describe_value(targets)}, as a batch of one")
    numbers = (getattr(dataset, key, 0) for key in ("vocab_size", "num_classes"))
    if count := next((int(number) for number in numbers if number), 0):
        return count
    if isinstance(dataset, IterableDataset):
        raise DataError("data.train: a stream of tokens must say how many: give the dataset vocab_size")
    samples = (read_sample(dataset, index) for index in range(size_of(dataset)))
    return max((int(tokens.max()) for sample in samples for tokens in sample), default=0) + 1


def num_step_classes(dataset: Dataset[Any]) -> int:
    """One more than the largest class of any step or pixel of any sample; reads all of them.

    Raises ConfigError where that is 255 and far above the others: such pixels usually have no class.
    """
    occurs = torch.zeros(256, dtype=torch.bool)
    largest = 0
    for index in range(size_of(dataset)):
        classes = read_sample(dataset, index)[1].unique()
        largest = max(largest, int(classes.max()))
        occurs[classes[(classes >= 0) & (classes < 256)]] = True
    if largest == 255 and not bool(occurs[128:255].any()):
        text = f"the targets of {name_of(dataset)} have the class 255 and none from 128 to 254"
        fix = "if 255 means no class, give -100 in its place; else give the dataset num_classes=256"
        raise ConfigError.of("task", f"{text}; {fix}")
    return largest + 1
