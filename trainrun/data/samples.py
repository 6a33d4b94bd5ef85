"""Read any Dataset: seed each sample's random draws, stack samples, name the sample that fails."""

from __future__ import annotations

import random
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from trainrun.config.call import located_error
from trainrun.protocols import InputParts
from trainrun.vocabulary.errors import DataError
from trainrun.vocabulary.seeds import derive

_UNSTACKABLE = (TypeError, ValueError, RuntimeError, KeyError)  # of default_collate


@dataclass(frozen=True)
class FailedSample:
    """An error in place of a sample or batch, as text: it leaves a worker process without a traceback."""

    message: str
    index: int | None = None  # the failed sample's place in its batch
    traceback: str = ""  # of the user's code, for -v


class Seeded(Dataset[Any]):
    """A map-style dataset whose sample [seed, index] depends on these alone, whichever process reads it."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Any:
        seed, index = key
        seed_all(derive(seed, index))
        try:
            return self.dataset[index]
        except (Exception, SystemExit) as error:
            text = "".join(traceback.format_exception(error))
            return FailedSample(describe_failure(self.dataset, index, error), traceback=text)


def stream(dataset: Dataset[Any], seed: int, start: int = 0, num_read: int = 0) -> Iterator[Any]:
    """One pass over an iterable dataset, of which `num_read` were read; draws are seeded from `start` on."""
    seed_all(derive(seed, start))
    samples = iter(cast(Any, dataset))
    for number in count(start + num_read):
        seed_all(derive(seed, number))
        try:
            sample = next(samples)
        except StopIteration:
            return
        except (Exception, SystemExit) as error:
            raise DataError(describe_failure(dataset, number, error)) from error
        yield sample


def endless(dataset: Dataset[Any], seed: int) -> Iterator[Any]:
    """Pass after pass over an iterable dataset."""
    num_read = 0
    while True:
        before = num_read
        for sample in stream(dataset, seed, num_read):
            yield sample
            num_read += 1
        if num_read == before:
            raise DataError(f"data.train: the stream {name_of(dataset)} is empty")


def chunks(samples: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size`, the last one short."""
    while chunk := list(islice(samples, size)):
        yield chunk


Pair = tuple[Any, Any]
Collate = Callable[[list[Any]], Pair | FailedSample]


def collate(samples: list[Any], stack: Callable[[list[Pair]], Pair] = default_collate) -> Pair | FailedSample:
    """(inputs, targets) of samples, stacked, in the types that models and losses take."""
    if failed := next((sample for sample in samples if isinstance(sample, FailedSample)), None):
        return failed
    for sample in samples:
        if sample is not None and not (isinstance(sample, (list, tuple)) and len(sample) == 2):
            return FailedSample(f"data: a sample is not (input, target), got {_describe_pairless(sample)}")
    samples = [sample and tuple(map(_numbers, sample)) for sample in samples]
    try:
        inputs, targets = stack(samples)
    except _UNSTACKABLE as error:
        index = _first_odd(samples)
        return FailedSample(f"cannot be stacked with the others: {_why(samples[index], error)}", index)
    return typed(InputParts(inputs) if isinstance(samples[0][0], InputParts) else inputs, targets)


def typed(inputs: Any, targets: Any) -> Pair:
    """A batch in the types that models and losses take.

    float64 becomes float32, integer and bool targets int64, one float target per sample (N, 1).
    """
    targets = map_tensors(targets, _single)
    if isinstance(targets, Tensor) and not targets.is_floating_point():
        targets = targets.long()
    elif isinstance(targets, Tensor) and targets.ndim == 1:
        targets = targets[:, None]
    return map_tensors(inputs, _single), targets


def collate_of(dataset: Dataset[Any]) -> Collate:
    """What makes a batch of a dataset's samples."""
    return getattr(dataset, "collate_prepared", collate)


def source_of(dataset: Dataset[Any]) -> Dataset[Any]:
    """The user's dataset, where this is it in another form."""
    return getattr(dataset, "unprepared", dataset)


def name_of(dataset: Dataset[Any]) -> str:
    """What a dataset is called in messages: the name of its class."""
    return type(source_of(dataset)).__name__


def unpacked(
    batch: tuple[Any, Any] | FailedSample, indices: Sequence[int] | Tensor | None = None
) -> tuple[Any, Any]:
    """Raises DataError for a batch that failed; `indices` are those of its samples."""
    if isinstance(batch, FailedSample):
        if batch.index is None:
            raise DataError(batch.message) from (RuntimeError(batch.traceback) if batch.traceback else None)
        number = "" if indices is None else f" {int(indices[batch.index])}"
        raise DataError(f"data: sample{number} {batch.message}")
    return batch


def read_sample(dataset: Dataset[Any], index: int) -> tuple[Any, Any]:
    """(inputs, targets) of one sample, as a batch of one; its draws are those of seed 0."""
    return unpacked(collate_of(dataset)([Seeded(dataset)[0, index]]), [index])


def map_tensors(tree: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """`function` on every tensor inside mappings, lists and tuples."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        return {key: map_tensors(value, function) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):  # a named one
        return type(tree)(*(map_tensors(value, function) for value in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(map_tensors(value, function) for value in tree)
    return tree


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """The tensors inside mappings, lists and tuples, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (Mapping, list, tuple)):
        for value in tree.values() if isinstance(tree, Mapping) else tree:
            yield from tensors_in(value)


def _single(tensor: Tensor) -> Tensor:
    if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64):  # torch has few operations on these
        return tensor.long()
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def _numbers(part: Any) -> Any:
    """Convert a list or tuple of plain numbers to a tensor, in dicts, too; leave anything else as it is."""
    if isinstance(part, (Tensor, int, float, str)):  # the commonest, at no cost
        return part
    if isinstance(part, Mapping):
        return {key: _numbers(value) for key, value in part.items()}
    if isinstance(part, InputParts):
        return InputParts(map(_numbers, part))
    first = part
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    if first is part or not isinstance(first, (int, float, np.number, np.bool_)):
        return part
    try:
        array = np.asarray(part)
    except (ValueError, OverflowError):  # lists of several lengths
        return part
    return torch.from_numpy(array) if array.dtype.kind in "iufb" else part


def _describe_pairless(sample: Any) -> str:
    """Describe a sample that is no pair, and say what to return."""
    if isinstance(sample, Mapping):
        keys = ", ".join(repr(key) for key in sample)
        return f"a dict with {keys}; return the two, such as sample['image'], sample['label']"
    if isinstance(sample, (list, tuple)):
        kinds = ", ".join(type(part).__name__ for part in sample)
        return f"a {type(sample).__name__} of {len(sample)} ({kinds}); return one input and one target"
    shape = f" of shape {tuple(sample.shape)}" if isinstance(sample, (Tensor, np.ndarray)) else ""
    return f"a {type(sample).__name__}{shape}; return an input and a target"


def _why(sample: Any, error: Exception) -> str:
    """Say why a sample does not stack, what it is and what to do."""
    if not isinstance(sample, tuple):
        return f"it is {type(sample).__name__}; return an input and a target, or leave it out"
    for part, what in zip(sample, ("input", "target"), strict=True):
        if part is None:
            return f"its {what} is None; give one, or leave the sample out"
        if hasattr(part, "getbands"):  # a Pillow picture
            fix = "return torchvision.transforms.functional.to_tensor of it"
            return f"its {what} is a {type(part).__name__} picture; {fix}"
    advice = "; data.collate=pad fills up shorter samples" if "equal size" in str(error) else ""
    return f"{error}{advice}; it has input {describe_value(sample[0])} and target {describe_value(sample[1])}"


def describe_value(value: Any) -> str:
    """Describe a value by type, shape or length: `float32 of shape (4,)`, `list of 2 (...)`, `str 'abc'`."""
    if isinstance(value, (Tensor, np.ndarray)):
        return f"{value.dtype} of shape {tuple(value.shape)}".removeprefix("torch.")
    if isinstance(value, (list, tuple, Mapping)):
        elements = list(value.values() if isinstance(value, Mapping) else value)[:4]
        return f"{type(value).__name__} of {len(value)} ({', '.join(map(describe_value, elements))})"
    return f"{type(value).__name__} {value!r}"[:80]


def seed_all(seed: int) -> None:
    """Seed what the user's code may draw from."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)


def size_of(dataset: Any) -> int:
    """How many samples a map-style dataset says it has."""
    try:
        return len(dataset)
    except Exception as error:
        kind = type(source_of(dataset))
        text = f"the length of {kind.__name__} cannot be read: {describe_error(error, kind.__module__)}"
        raise DataError(f"data: {text}") from None


def describe_error(error: BaseException, module: str) -> str:
    """An error in the user's code and the last line of its module that it passed, in place of a traceback."""
    return located_error(error, getattr(sys.modules.get(module), "__file__", None))


def describe_failure(dataset: Dataset[Any], index: int, error: BaseException) -> str:
    """Say which sample failed and why, with the place in the code that is not ours."""
    if isinstance(error, DataError):
        return str(error)
    reason = describe_error(error, type(source_of(dataset)).__module__)
    return f"data: sample {index} of {name_of(dataset)} failed: {reason}"


def _first_odd(samples: list[Any]) -> int:
    """The index of the first sample that does not stack with the one before it, or alone."""
    for index in range(len(samples)):
        try:
            default_collate(samples[max(0, index - 1) : index + 1])
        except _UNSTACKABLE:
            return index
    return 0
