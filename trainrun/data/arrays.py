"""Arrays of .npz, .npy, HDF5 or .pt files, in memory or memory-mapped; pictures become channels first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainrun.data import scaling
from trainrun.data.faults import check_targets, first_few, first_unfit
from trainrun.data.fingerprint import fingerprint_of_files
from trainrun.data.order import evenly_spaced
from trainrun.data.resident import Holdout, InMemoryData, described, split
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
    """How the rows of a file become samples of `shape`."""

    stored: tuple[int, ...]  # the shape of a row
    shape: tuple[int, ...]
    axes: tuple[int, ...] | None  # of a batch, where they change places
    text: str  # what was taken for what

    def __call__(self, rows: Tensor) -> Tensor:
        rows = rows if self.axes is None else rows.permute(self.axes)
        return rows.reshape(len(rows), *self.shape)


class RowsOnDisk:
    """The rows of arrays, one after the other, read from disk a batch at a time, as a tensor gives them."""

    def __init__(self, entries: Sequence[Entry], layout: SampleLayout) -> None:
        self.entries, self.layout, self.device = entries, layout, torch.device("cpu")
        self.arrays = [entry.rows() for entry in entries]

    def to(self, device: torch.device) -> RowsOnDisk:
        """Give further rows on `device`."""
        self.device = device
        return self

    def index_select(self, dim: int, indices: Tensor) -> Tensor:
        """(N, ...) rows as samples. Raises DataError for a value that is not finite."""
        rows, places = np.unique(indices.cpu().numpy(), return_inverse=True)  # HDF5 wants them in order
        parts, start = [_tensor(self.arrays[0][:0])], 0
        for entry, array in zip(self.entries, self.arrays, strict=True):
            inside = rows[(rows >= start) & (rows < start + len(array))] - start
            if len(inside):
                is_stretch = inside[-1] - inside[0] == len(inside) - 1  # as in evaluation; faster to read
                values = array[inside[0] : inside[-1] + 1] if is_stretch else array[inside]
                parts.append(_finite(_tensor(values), entry, inside))
            start += len(array)
        return self.layout(torch.cat(parts))[torch.from_numpy(places)].to(self.device)

    def all(self) -> Tensor:
        """Every row as a sample, in memory."""
        pairs = zip(self.entries, self.arrays, strict=True)
        parts = [_finite(_tensor(array[:]), entry, range(len(array))) for entry, array in pairs]
        return self.layout(parts[0] if len(parts) == 1 else torch.cat(parts)).contiguous()


class ArrayData(InMemoryData):
    """Arrays whose inputs are in memory or on disk; other files of the same form can be predicted."""

    names: tuple[str, str]  # of inputs and targets, without a split's
    layout: SampleLayout
    reading: TargetReading
    is_float: bool  # the stored inputs

    def read(self, file: Path) -> Samples:
        """The inputs of another file, with its targets where it has entries of both names."""
        inputs, targets = files.read_more(file, *self.names)
        if inputs.shape == self.layout.stored:  # a single sample
            alone = inputs
            inputs = replace(alone, shape=(1, *alone.shape), load=lambda: np.asarray(alone.load())[None])
        if inputs.shape[1:] != self.layout.stored or (inputs.dtype.kind == "f") != self.is_float:
            expected = f"{'floats' if self.is_float else 'integers'} of shape {('N', *self.layout.stored)}"
            raise DataError(f"{inputs} is {inputs.form}, not as in training {expected}".replace("'N'", "N"))
        rows, count = RowsOnDisk([inputs], self.layout).to(self.device), inputs.shape[0]
        if targets is None or targets.shape[:1] != (count,):
            true = None
        else:
            true = self.reading(_raw_targets(targets), range(count), str(targets))
            check_targets(true, range(count), str(targets), self.info)

        def batch_of(part: Tensor) -> Batch:
            target = None if true is None else true[part].to(self.device)
            return self.scaled(Batch(rows.index_select(0, part), target, part, Position()))

        return Samples(map(batch_of, torch.arange(count).split(self.eval_batch_size)))


def arrays(
    path: str,
    inputs: str | None,
    targets: str | None,
    memory_mib: Natural,
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
    pictures. Arrays of more than `memory_mib` stay on disk. `target_kind` is the kind that the task
    learns; with None the targets' type and shape decide.
    Raises DataError and ConfigError naming file, entry, shape and type.
    """
    chosen = files.read(path, inputs, targets)
    entries = list(chosen.inputs.values())
    layout = layout_of(entries[0].shape[1:], entries[0].dtype)
    values, reading, num_targets = _targets(chosen, target_kind)
    parts = dict(
        zip(chosen.inputs, torch.arange(len(values)).split([e.shape[0] for e in entries]), strict=True)
    )
    given = {name: part for name, part in parts.items() if name != "train"}
    holdout = Holdout(val_fraction, test_fraction, split_seed, limit, fold, num_folds)
    classes = values if reading.kind == "classes" else None
    splits = split(len(parts["train"]), holdout, classes, given) | given
    rows, disk_note = RowsOnDisk(entries, layout), _on_disk(entries, memory_mib)
    if disk_note:
        stored: Any = rows
        seen = rows.index_select(0, evenly_spaced(splits["train"], _SCALED_FROM))
    else:
        stored = rows.all()
        seen = stored[splits["train"]]
    shift, scale = _standardization(seen)
    notes = (*_notes(chosen, layout, reading, num_targets), disk_note)
    info = DataInfo(
        Path(path).name,
        layout.shape,
        reading.kind,
        num_targets,
        {},
        pixels=_pixels(seen, entries[0].dtype),
        input_scaling=scaling.describe_scaling(shift, scale, per_feature=len(layout.shape) < 3),
        files=fingerprint_of_files(sorted({entry.file for entry in entries}), 1) if disk_note else "",
        notes=tuple(filter(None, notes)),
    )
    info = described(info, seen if disk_note else stored, values, splits)
    data = ArrayData(info, stored, values, splits, shift, scale, eval_batch_size)
    data.names, data.layout, data.reading = chosen.names, layout, reading
    data.is_float = entries[0].dtype.kind == "f"
    return data


def layout_of(row: tuple[int, ...], dtype: np.dtype[Any]) -> SampleLayout:
    """Bytes (H, W) are grey pictures; of (H, W, C) the channels come first; all else stays as it is."""
    if row == ():
        return SampleLayout(row, (1,), None, "single numbers")
    if len(row) == 2 and dtype == np.uint8:
        return SampleLayout(row, (1, *row), None, f"grey pictures of {row[0]} x {row[1]}")
    if len(row) == 3 and row[2] in _CHANNELS and row[0] not in _CHANNELS:
        text = f"pictures of {row[0]} x {row[1]} with {row[2]} channels last, which are put first"
        return SampleLayout(row, (row[2], row[0], row[1]), (0, 3, 1, 2), text)
    texts = {
        1: f"vectors of {row[0]}",
        2: f"sequences of {row[0]} steps by {row[-1]} features",
        3: f"pictures of {row[0]} channels by {' x '.join(map(str, row[1:]))}",
    }
    return SampleLayout(row, row, None, texts.get(len(row), f"channels first, {row}"))


def _tensor(values: Any) -> Tensor:
    """A copy in a type that torch computes with: floats as float32, unsigned numbers signed."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    dtype = np.dtype(np.float32) if kind == "f" else values.dtype.newbyteorder("=")
    if kind == "u" and size > 1:
        dtype = np.dtype(np.int32 if size == 2 else np.int64)
    return torch.from_numpy(np.array(values, dtype, order="C"))


def _finite(values: Tensor, entry: Entry, rows: Sequence[int] | np.ndarray) -> Tensor:
    if values.is_floating_point() and (row := first_unfit(torch.isfinite(values))) is not None:
        text = f"row {rows[row]} of {entry} has a value that is not a finite number"
        raise DataError(f"data.path: {text} ({entry.form})")
    return values


def _raw_targets(entry: Entry) -> Tensor:
    values = _tensor(entry.rows())
    _, targets = typed((), _finite(values, entry, range(len(values))))
    return targets  # type: ignore[no-any-return]


def _targets(chosen: ArraySplits, target_kind: str | None) -> tuple[Tensor, TargetReading, int]:
    """(targets of all splits, how they are read, how many classes, labels or values)."""
    if target_kind == "tokens":
        raise ConfigError.of(
            "task", "learns tokens; data=arrays holds classes, labels or values", "data=text"
        )
    name = str(chosen.targets["train"])
    raw = {split: _raw_targets(entry) for split, entry in chosen.targets.items()}
    reading = reading_of(raw["train"][:1], target_kind, name)
    count = 0
    if reading.kind == "classes":
        classes = torch.cat([reading(r, range(len(r)), str(chosen.targets[s])) for s, r in raw.items()])
        reading, _, count = resolve_classes(reading, classes, 0, name)
    read = {split: reading(r, range(len(r)), str(chosen.targets[split])) for split, r in raw.items()}
    if reading.kind in ("labels", "values"):
        count = read["train"].shape[1]
    info = DataInfo(name, (), reading.kind, count, {})
    for split_name, values in read.items():
        check_targets(values, range(len(values)), str(chosen.targets[split_name]), info)
    return torch.cat(list(read.values())), reading, count


def _on_disk(entries: Sequence[Entry], memory_mib: int) -> str:
    """A note where inputs stay on disk, else "". Raises ConfigError where they would, but are compressed."""
    mib = sum(math.prod(entry.shape) * entry.dtype.itemsize for entry in entries) / 2**20
    if mib <= memory_mib:
        return ""
    if packed := next((entry for entry in entries if entry.is_packed), None):
        text = f"{packed} is compressed and would take {mib:,.0f} MiB in memory, more than {memory_mib}"
        fix = f"data.memory_mib={math.ceil(mib)}"
        raise ConfigError.of("data.memory_mib", f"{text}; save it with np.savez, or set {fix}", fix)
    text = f"{mib:,.0f} MiB, more than data.memory_mib={memory_mib}, stay on disk"
    return f"{text}; mean and std by at most {_SCALED_FROM} samples"


def _standardization(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """(shift, scale) by feature of vectors and sequences, else by channel."""
    if inputs.ndim != 3:
        return scaling.standardization(inputs, per_feature=False)
    shift, scale = scaling.standardization(inputs.transpose(1, 2), per_feature=False)
    return shift.transpose(1, 2), scale.transpose(1, 2)


def _pixels(inputs: Tensor, dtype: np.dtype[Any]) -> PixelRange | None:
    """Black and white of pictures: 0 and 255 of bytes, else 0 or less and the largest value."""
    if inputs.ndim != 4:
        return None
    if dtype == np.uint8:
        return PixelRange(torch.tensor(0.0), torch.tensor(255.0))
    return PixelRange(inputs.min().float().clamp(max=0), inputs.max().float())


def _notes(chosen: ArraySplits, layout: SampleLayout, reading: TargetReading, count: int) -> Iterator[str]:
    """What was taken for what, for the plan."""
    inputs, targets = chosen.inputs["train"], chosen.targets["train"]
    yield f"inputs are {inputs}, {inputs.form}: {layout.text}"
    yield f"targets are {targets}, {targets.form}: {f'{count} ' if count else ''}{reading.kind}"
    yield reading.note
    others: Mapping[str, Entry] = {name: entry for name, entry in chosen.inputs.items() if name != "train"}
    yield "; ".join(f"the {name} split is {entry}" for name, entry in others.items())
    if chosen.left_out:
        yield f"not used: {first_few(chosen.left_out, 5)}"
