"""Arrays of .npz, .npy, HDF5 or .pt files, in memory or on disk; pictures become channels first."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainrun.data import scaling
from trainrun.data.extra_columns import ExtraColumns
from trainrun.data.faults import check_targets, first_few, first_unfit
from trainrun.data.fingerprint import fingerprint_of_files
from trainrun.data.order import evenly_spaced
from trainrun.data.resident import Holdout, InMemoryData, described
from trainrun.data.rows_in_file import read_by_place
from trainrun.data.samples import typed
from trainrun.data.targets import TargetReading, reading_of, resolve_classes
from trainrun.protocols import Batch, DataInfo, PixelRange, Position, Samples
from trainrun.tables import arrays as files
from trainrun.tables.arrays import ArraySplits, Entry
from trainrun.vocabulary.errors import ConfigError, DataError
from trainrun.vocabulary.ranges import Count, Natural, Split

_SCALED_FROM = 512  # samples on disk: their mean is within 5 % of a standard deviation
_CHANNELS = (1, 3, 4)  # of pictures: grey, colours, colours with transparency


@dataclass(frozen=True)
class SampleLayout:
    """How the rows of a file become samples."""

    row: tuple[int, ...]  # the shape in the file
    shape: tuple[int, ...]  # of a sample
    axes: tuple[int, ...] | None  # of a batch, where they change places
    text: str  # what was taken for what

    def __call__(self, rows: Tensor) -> Tensor:
        rows = rows if self.axes is None else rows.permute(self.axes)
        return rows.reshape(len(rows), *self.shape)


class RowsOnDisk:
    """The rows of arrays, one after the other, read from disk a batch at a time, as a tensor gives them."""

    def __init__(self, entries: Sequence[Entry], layout: SampleLayout) -> None:
        self.entries, self.layout, self.device = entries, layout, torch.device("cpu")
        self.arrays = [read_by_place(entry.rows()) for entry in entries]
        self.ends = list(accumulate(map(len, self.arrays)))

    def to(self, device: torch.device) -> RowsOnDisk:
        """Give further rows on `device`."""
        self.device = device
        return self

    def index_select(self, dim: int, indices: Tensor) -> Tensor:
        """(N, ...) rows of one split as samples. Raises DataError for a value that is not finite."""
        rows, places = np.unique(indices.cpu().numpy(), return_inverse=True)  # HDF5 wants them in order
        part = bisect(self.ends, rows[0]) if len(rows) else 0
        rows -= self.ends[part - 1] if part else 0
        start, end = (rows[0], rows[-1] + 1) if len(rows) else (0, 0)
        is_stretch = end - start == len(rows)  # as in evaluation; faster to read
        values = _tensor(self.arrays[part][start:end] if is_stretch else self.arrays[part][rows])
        samples = self.layout(_finite(values, self.entries[part], rows))
        return samples[torch.from_numpy(places)].to(self.device)


class ArrayData(InMemoryData):
    """Arrays whose inputs are in memory or on disk; other files of the same form can be predicted."""

    chosen: ArraySplits
    layout: SampleLayout
    reading: TargetReading

    def read(self, file: Path) -> Samples:
        """The inputs of another file, with its targets where it has entries of both names."""
        inputs, targets = files.read_more(file, *self.chosen.names)
        trained = self.chosen.inputs["train"]
        if inputs.shape[1:] != self.layout.row or (inputs.dtype.kind == "f") != (trained.dtype.kind == "f"):
            raise DataError(f"{inputs} must hold samples of the shape and type of {trained}")
        rows, true = RowsOnDisk([inputs], self.layout).to(self.device), None
        numbers = torch.arange(inputs.shape[0])
        if targets is not None:
            true = self.reading(_raw_targets(targets), numbers, str(targets))
            check_targets(true, numbers, str(targets), self.info)

        def batch_of(part: Tensor) -> Batch:
            target = None if true is None else true[part].to(self.device)
            return self.scaled(Batch(rows.index_select(0, part), target, part, Position()))

        return Samples(map(batch_of, numbers.split(self.eval_batch_size)))


def arrays(
    path: str,
    inputs: str | None,
    targets: str | None,
    memory_mib: Natural,
    group: str | None,
    time: str | None,
    weights: str | None,
    val_fraction: Split,
    test_fraction: Split,
    split_seed: Natural,
    fold: Natural | None,
    num_folds: Count,
    limit: Count | None,
    eval_batch_size: Count,
    target_kind: str | None,
) -> ArrayData:
    """Inputs and targets of one file, of two, or of a folder of files; a split in a name is that split.

    Inputs are standardised by the training split: each feature of vectors and sequences, each channel of
    pictures. Inputs of more than `memory_mib` stay on disk. `target_kind` is the kind that the task
    learns; with None the targets' type and shape decide.
    Raises DataError and ConfigError naming file, entry, shape and type.
    """
    chosen = files.read(path, inputs, targets)
    entries = list(chosen.inputs.values())
    layout = layout_of(entries[0].shape[1:], entries[0].dtype)
    values, reading, num_targets = _targets(list(chosen.targets.values()), target_kind)
    numbers = torch.arange(len(values)).split([entry.shape[0] for entry in entries])
    given = dict(zip(chosen.inputs, numbers, strict=True))
    holdout = Holdout(val_fraction, test_fraction, split_seed, limit, fold, num_folds)
    classes = values if reading.kind == "classes" else None
    extra = ExtraColumns(group, time, weights, chosen.column)
    splits = extra.split(given.pop("train"), holdout, classes, given) | given
    stored: Any = RowsOnDisk(entries, layout)
    if disk_note := _on_disk(entries, memory_mib):
        seen = stored.index_select(0, evenly_spaced(splits["train"], _SCALED_FROM))
    else:
        stored = torch.cat([stored.index_select(0, part) for part in numbers])
        seen = stored[splits["train"]]
    by_feature = seen.flatten(0, 1) if seen.ndim == 3 else seen  # of sequences, over all their steps
    shift, scale = scaling.standardization(by_feature)
    ends = (0.0, 255.0) if entries[0].dtype == np.uint8 else (min(0.0, float(seen.min())), float(seen.max()))
    notes = tuple(filter(None, (*_notes(chosen, layout, reading, num_targets), reading.note, disk_note)))
    info = DataInfo(Path(path).name, layout.shape, reading.kind, num_targets, {}, reading.names, notes=notes)
    info = replace(
        described(info, seen if disk_note else stored, values, splits),
        pixels=PixelRange(*map(torch.tensor, ends)) if seen.ndim == 4 else None,
        input_scaling=scaling.describe_scaling(shift, scale),
        files=fingerprint_of_files(sorted({entry.file for entry in entries}), 1) if disk_note else "",
    )
    data = ArrayData(extra.described(info, splits), stored, values, splits, shift, scale, eval_batch_size)
    data.chosen, data.layout, data.reading, data.weights = chosen, layout, reading, extra.weights
    return data


def layout_of(row: tuple[int, ...], dtype: np.dtype[Any]) -> SampleLayout:
    """Bytes (H, W) are grey pictures; of (H, W, C) the channels come first; all else stays as it is."""
    if len(row) == 2 and dtype == np.uint8:
        return SampleLayout(row, (1, *row), None, "grey pictures")
    if len(row) == 3 and row[2] in _CHANNELS and row[0] not in _CHANNELS:
        return SampleLayout(row, (row[2], *row[:2]), (0, 3, 1, 2), "pictures, their channels put first")
    texts = ("numbers", "vectors", "sequences (length, features)", "pictures, channels first")
    return SampleLayout(row, row or (1,), None, texts[len(row)] if len(row) < 4 else "channels first")


def _tensor(values: Any) -> Tensor:
    """A copy in a type that torch computes with: floats as float32, unsigned numbers signed."""
    dtype = values.dtype.newbyteorder("=")
    if dtype.kind == "u" and dtype.itemsize > 1:
        dtype = np.dtype(np.int32 if dtype.itemsize == 2 else np.int64)
    return torch.from_numpy(np.array(values, np.float32 if dtype.kind == "f" else dtype, order="C"))


def _finite(values: Tensor, entry: Entry, rows: Sequence[int] | np.ndarray) -> Tensor:
    if values.is_floating_point() and (row := first_unfit(torch.isfinite(values))) is not None:
        raise DataError(f"data.path: row {rows[row]} of {entry} has a value that is not a finite number")
    return values


def _raw_targets(entry: Entry) -> Tensor:
    values = _tensor(entry.rows())
    _, targets = typed((), _finite(values, entry, range(len(values))))
    return targets  # type: ignore[no-any-return]


def _targets(entries: Sequence[Entry], target_kind: str | None) -> tuple[Tensor, TargetReading, int]:
    """(targets of all splits, how they are read, how many classes, labels or values)."""
    if target_kind == "tokens":
        raise ConfigError.of(
            "task", "learns tokens; arrays are read as classes, labels or values", "data=text"
        )
    name, targets = ", ".join(map(str, entries)), torch.cat([_raw_targets(entry) for entry in entries])
    rows, count = range(len(targets)), 0
    reading = reading_of(targets[:1], target_kind, name)
    targets = reading(targets, rows, name)
    if reading.kind == "classes":
        reading, targets, count = resolve_classes(reading, targets, 0, name, are_all=True)
    elif reading.kind in ("labels", "values"):
        count = targets.shape[1]
    check_targets(targets, rows, name, DataInfo(name, (), reading.kind, count, {}))
    return targets, reading, count


def _on_disk(entries: Sequence[Entry], memory_mib: int) -> str:
    """A note where inputs stay on disk, else "". Raises ConfigError where they would, but are compressed."""
    mib = sum(math.prod(entry.shape) * entry.dtype.itemsize for entry in entries) / 2**20
    if mib <= memory_mib:
        return ""
    if packed := next((entry for entry in entries if entry.is_packed), None):
        text = f"is {memory_mib}, {packed} is compressed and would take {mib:,.0f} MiB in memory"
        fix = f"data.memory_mib={math.ceil(mib)}"
        raise ConfigError.of("data.memory_mib", f"{text}; save it with np.savez, or set {fix}", fix)
    text = f"inputs of {mib:,.0f} MiB, more than data.memory_mib={memory_mib}, stay on disk"
    return f"{text}; mean and std are of at most {_SCALED_FROM} samples"


def _notes(chosen: ArraySplits, layout: SampleLayout, reading: TargetReading, count: int) -> Iterator[str]:
    """What was taken for what, for the plan."""
    yield f"inputs are {chosen.inputs['train']}: {layout.text}"
    yield f"targets are {chosen.targets['train']}: {f'{count} ' if count > 1 else ''}{reading.kind}"
    yield from (f"the {name} split is {entry}" for name, entry in chosen.inputs.items() if name != "train")
    yield f"not learned from: {first_few(chosen.left_out)}" if chosen.left_out else ""
