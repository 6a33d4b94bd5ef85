"""Any `torch.utils.data.Dataset` as data: map-style in a seeded order, iterable as a stream."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, tee
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from trainrun.data import scaling
from trainrun.data.classes import (
    Splits,
    all_classes,
    classes_of,
    counted,
    notes_of,
    num_step_classes,
    num_tokens,
)
from trainrun.data.extra_columns import ExtraColumns, column_of, weights_of
from trainrun.data.faults import check_targets
from trainrun.data.files import read_batches
from trainrun.data.fingerprint import files_of, fingerprint_of_files, sampled_fingerprint
from trainrun.data.lazy_indices import Indices, numbered
from trainrun.data.order import Order, epoch_order, evenly_spaced, micro_batches, slices
from trainrun.data.prepared import first_of, prepared
from trainrun.data.resident import Holdout
from trainrun.data.samples import (
    Seeded,
    chunks,
    collate_of,
    describe_value,
    endless,
    map_tensors,
    name_of,
    read_sample,
    size_of,
    stream,
    unpacked,
)
from trainrun.data.stateful_stream import StatefulStream, states_of
from trainrun.data.targets import TargetReading, reading_of, resolve_classes
from trainrun.data.workers import workers_error
from trainrun.protocols import ALL, Batch, BatchSpec, DataInfo, Position, Samples, Shard, TargetScaling
from trainrun.tables.names import Key
from trainrun.vocabulary.errors import ConfigError, DataError
from trainrun.vocabulary.ranges import Count, Natural, Split
from trainrun.vocabulary.seeds import derive

_Part = tuple[int, Tensor, Position]  # the seed of its samples' draws, their indices, the position after
_SCALED_FROM = 512  # samples: their mean is within 5 % of a standard deviation, and few enough to read


@dataclass(frozen=True)
class Loading:
    """The settings that every data option takes; `balanced` only where targets are classes."""

    num_workers: Natural
    balanced: bool
    inputs: Key | list[Key] | None
    targets: Key | None
    collate: str | None
    sampler: str | None
    group: Key | None
    time: Key | None
    weights: Key | None


def from_dataset(
    train: Dataset[Any],
    val: Dataset[Any] | None,
    test: Dataset[Any] | None,
    val_fraction: Split,
    test_fraction: Split,
    split_seed: Natural,
    fold: Natural | None,
    num_folds: Count,
    limit: Count | None,
    eval_batch_size: Count,
    num_workers: Natural,
    inputs: Key | list[Key] | None,
    targets: Key | None,
    group: Key | None,
    time: Key | None,
    weights: Key | None,
    collate_function: Callable[[list[Any]], Any] | None,
    target_kind: str | None,
) -> DatasetData:
    """Data from datasets of any samples: pairs, longer tuples, dicts, dataclasses, single values.

    `inputs` and `targets` name their entries, by default the usual ones are found. `collate_function`
    makes a batch of a list of samples, such as `padding.pad`; None stacks them.

    Without a `val` or `test` dataset that share is held out of `train`, by class where the dataset
    lists its `targets`. `fold` replaces the test split, or the validation split where there is a
    `test` dataset. `target_kind` is the kind that the task learns; with None an integer is a class,
    a vector of integers or bools holds labels, and floats are values. The mean and std of values
    come from up to 512 training samples. The number of classes comes from the dataset's `classes`,
    `num_classes` or `targets`, else from every sample.
    Raises DataError for samples that cannot be read so, ConfigError for targets of another kind.
    """
    given = {"train": train, "val": val, "test": test}
    datasets = {name: dataset for name, dataset in given.items() if dataset is not None}
    states = states_of(datasets)
    beside = [name for name in (group, time, weights) if name is not None]
    datasets, form_note = prepared(datasets, inputs, targets, collate_function, target_kind, beside)
    train = datasets["train"]
    reading, info = _describe(train, target_kind)
    if isinstance(train, IterableDataset):
        settings = {"fold": fold, "limit": limit, "group": group, "time": time, "weights": weights}
        _refuse_on_stream(datasets, {"val": val_fraction, "test": test_fraction}, settings)
        splits: Splits = {name: (dataset, _all_of(dataset)) for name, dataset in datasets.items()}
        classes, parts, extra = None, {}, ExtraColumns(None, None, None, partial(column_of, train))
    else:
        classes = classes_of(train, info, reading) if info.kind == "classes" else None
        if classes is not None:
            reading, classes, count = resolve_classes(reading, classes, info.num_targets, info.name)
            info = replace(info, num_targets=count, class_names=info.class_names or reading.names)
        holdout = Holdout(val_fraction, test_fraction, split_seed, limit, fold, num_folds)
        extra = ExtraColumns(group, time, weights, partial(column_of, train))
        parts = extra.split(numbered(size_of(train)), holdout, classes, datasets)
        splits = {name: (train, part) for name, part in parts.items() if len(part)}
        splits |= {name: (datasets[name], _all_of(datasets[name])) for name in datasets if name != "train"}
        if classes is not None:
            info = counted(info, classes, parts["train"])
        elif info.kind == "values":
            info = replace(info, target_scaling=_target_scaling(train, parts["train"], info, reading))
    notes = (form_note, reading.note, *notes_of(datasets, splits, info, reading, classes))
    info = _identified(replace(info, notes=tuple(filter(None, notes))), datasets, splits, num_workers)
    data = DatasetData(extra.described(info, parts), splits, eval_batch_size, num_workers, reading)
    data.streams = {n: StatefulStream(datasets[n], num_workers, state) for n, state in states.items()}
    data.weights = {n: weights_of(partial(column_of, datasets.get(n, train)), weights) for n in splits}
    return data


def _identified(info: DataInfo, datasets: Mapping[str, Any], splits: Splits, num_workers: int) -> DataInfo:
    """`info` with the splits' sizes and the fingerprints of samples and files."""
    sizes: dict[str, int | None] = {"train": 0, "val": 0, "test": 0}
    sizes |= {name: None if part is None else len(part) for name, (_, part) in splits.items()}
    whole = [dataset for dataset in datasets.values() if _all_of(dataset) is not None]
    info = replace(info, sizes=sizes, fingerprint=sampled_fingerprint(whole) if whole else "")
    files = [file for dataset in datasets.values() for file in files_of(dataset)]
    return replace(info, files=fingerprint_of_files(files, max(num_workers, 1))) if files else info


class DatasetData:
    """Datasets behind torch's DataLoader; a sample's draws depend on (seed, epoch, index) alone.

    A stream is read in its own order, pass after pass. Its position is the number of samples read,
    to which a resumed run skips. Every rank reads the whole stream and keeps its share, so the stream
    must give all ranks the same samples.
    """

    weights: Mapping[str, Tensor | None] = {}  # split -> those of its data set's samples

    def __init__(
        self, info: DataInfo, splits: Splits, eval_batch_size: int, num_workers: int, reading: TargetReading
    ) -> None:
        self.info, self.splits, self.reading = info, splits, reading
        self.eval_batch_size, self.num_workers = eval_batch_size, num_workers
        self.order: Order = epoch_order
        self.device = torch.device("cpu")
        self.streams: Mapping[str, StatefulStream] = {}  # split -> what it is where it has a state of its own

    def sample_with(self, sampler: Order) -> None:
        """Draw each epoch as the user's function says, which is tried once."""
        indices = self.splits["train"][1]
        if indices is None:
            raise ConfigError.of("data.sampler", "has no meaning on a stream", "data.sampler=null")
        sampler(indices, 0, 0)
        self.order = sampler

    def balance(self) -> None:
        """Draw every class equally often in training; reads all samples of a dataset without `targets`."""
        dataset, indices = self.splits["train"]
        if indices is None:
            raise ConfigError.of("data.balanced", "has no meaning on a stream", "data.balanced=false")
        self.order = partial(epoch_order, classes=all_classes(dataset, self.reading)[indices[:]])

    def to(self, device: torch.device) -> None:
        self.device = device
        scaling.move(self.info.target_scaling, device)

    def train_batches(self, position: Position, batch_spec: BatchSpec, seed: int) -> Iterator[Batch]:
        dataset, indices = self.splits["train"]
        if indices is not None:
            yield from self._load("train", self._parts(indices, position, batch_spec, seed))
        elif (own := self.streams.get("train")) and (position.stream or not position.offset):  # not of before
            for batch, first, after in own.batches(position, batch_spec, seed, self._loaded):
                indices = torch.arange(first, first + batch_spec.batch_size)
                yield Batch(*self._moved(batch, indices, dataset), indices, after)
        else:
            samples = islice(endless(dataset, derive(seed, "stream")), position.offset, None)
            share = Shard(batch_spec.rank, batch_spec.num_ranks)
            yield from self._collated(samples, dataset, batch_spec.batch_size, position.offset, share)

    def require_position(self, position: Position) -> None:
        """Raise ConfigError or ResumeError where training on a stream cannot go on from a position."""
        if position.stream is not None and (own := self.streams.get("train")):
            own.readers_at(position)

    def _parts(
        self, indices: Indices, position: Position, batch_spec: BatchSpec, seed: int
    ) -> Iterator[_Part]:
        """Epoch after epoch, so that loader processes live, and read ahead, across them."""
        while True:
            order, drawn = self.order(indices, seed, position.epoch), derive(seed, position.epoch)
            for part, after in micro_batches(order, position, batch_spec):
                yield drawn, part, after
            position = Position(position.epoch + 1)

    def eval_batches(self, split: str, share: Shard = ALL) -> Iterator[Batch]:
        dataset, indices = self.splits[split]
        if indices is None:
            if own := self.streams.get(split):
                own.load(own.initial, None)
            yield from self._collated(stream(dataset, 0), dataset, self.eval_batch_size, 0, share)
            return
        size = self.eval_batch_size
        parts = slices(indices, range(share.rank * size, len(indices), share.num_ranks * size), size)
        yield from self._load(split, ((0, part, Position()) for part in parts))

    def first_given(self) -> Iterator[tuple[str, Batch]]:
        """(split, its first two samples) for the validation and test splits that were given as datasets."""
        for name, (dataset, indices) in self.splits.items():
            if dataset is not self.splits["train"][0]:
                keys = [] if indices is None else [(0, index) for index in indices[:2].tolist()]
                samples = stream(dataset, 0) if indices is None else map(Seeded(dataset).__getitem__, keys)
                yield from ((name, batch) for batch in self._collated(islice(samples, 2), dataset, 2, 0, ALL))

    def fitted(self) -> dict[str, Any]:
        return scaling.fitted(self.info.target_scaling)

    def restore(self, fitted: Mapping[str, Any]) -> None:
        scaling.restore(self.info.target_scaling, fitted)

    def read(self, file: Path) -> Samples:
        """An array of inputs as the dataset would give them."""
        if not self.info.input_shape:
            raise DataError(
                f"{file}: cannot be read, because the inputs of {self.info.name} are not one array"
            )
        return Samples(read_batches(file, self.info.input_shape, self.eval_batch_size, self.device))

    def _load(self, split: str, parts: Iterable[_Part]) -> Iterator[Batch]:
        dataset, indices = self.splits[split]
        assert indices is not None  # a stream is read another way
        some = indices[:1]  # is loaded in place of none, which cannot be stacked
        parts, ahead = tee(parts)
        keys = ([(seed, i) for i in (part if len(part) else some).tolist()] for seed, part, _ in ahead)
        load = self._loaded(Seeded(dataset), batch_sampler=keys, collate_fn=collate_of(dataset))
        with contextlib.closing(load) as batches:
            for (_, part, after), batch in zip(parts, batches, strict=True):
                inputs, targets = self._moved(batch, part if len(part) else some, dataset)
                if not len(part):
                    inputs, targets = map_tensors((inputs, targets), lambda t: t[:0])
                yield Batch(inputs, targets, part, after).weighed(self.weights.get(split), self.device)

    def _loaded(self, dataset: Dataset[Any], **how: Any) -> Generator[Any]:
        """What a DataLoader gives, whose processes are killed where reading ends early."""
        loader = DataLoader(
            dataset,
            worker_init_fn=_prepare_worker,
            generator=torch.Generator(),  # its own, so that nothing is drawn from the run's
            pin_memory=self.device.type == "cuda",
            **{"num_workers": self.num_workers, **how},
        )
        others, workers = set(active_children()), set[BaseProcess]()
        try:
            batches = iter(loader)
            workers = set(getattr(batches, "_workers", ()))  # also those that died already
            yield from batches
        except BaseException as error:  # a stop, while a loader process may be stuck in a sample
            dead = workers_error(error, workers)
            _kill(workers | set(active_children()) - others)  # also where the loader does not know them yet
            if dead is not None:
                raise dead from error
            raise

    def _collated(
        self, samples: Iterator[Any], dataset: Dataset[Any], size: int, start: int, share: Shard
    ) -> Iterator[Batch]:
        """Batches of `size` from a stream, one for every rank of each stretch that is read."""
        for chunk in chunks(samples, size * share.num_ranks):
            first, end = start + size * share.rank, start + len(chunk)
            if mine := chunk[size * share.rank :][:size]:
                indices = torch.arange(first, first + len(mine))
                inputs, targets = self._moved(collate_of(dataset)(mine), indices, dataset)
                yield Batch(inputs, targets, indices, Position(0, end))
            start = end

    def _moved(self, batch: Any, indices: Tensor, dataset: Dataset[Any]) -> tuple[Any, Any]:
        inputs, targets = unpacked(batch, indices)
        name = name_of(dataset)
        targets = self.reading(targets, indices, name)  # while they are on the host
        check_targets(targets, indices, name, self.info)
        moved = map_tensors((inputs, targets), lambda t: t.to(self.device, non_blocking=True))
        return moved[0], moved[1]


def _prepare_worker(worker_id: int) -> None:
    """Ignore signals, which the run's own process handles, and open the socket that tensors are sent through.

    It would otherwise open with the first batch, in a thread for which an ending worker does not wait:
    its temporary folder could be gone by then, and a traceback was printed.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    ForkingPickler.dumps(torch.empty(1))


def _kill(workers: Iterable[BaseProcess]) -> None:
    """Kill loader processes: they ignore the signal with which the loader would end them."""
    for worker in workers:
        with contextlib.suppress(RuntimeError):  # torch's report that a worker died
            worker.kill()
            worker.join()


def _refuse_on_stream(
    datasets: Mapping[str, Any], shares: Mapping[str, float], settings: Mapping[str, Any]
) -> None:
    for name, share in shares.items():
        if share and name not in datasets:
            text = f"cannot be held out of a stream; with data=dataset give data.{name}, or 0"
            raise ConfigError.of(f"data.{name}_fraction", text, f"data.{name}_fraction=0")
    for name, value in settings.items():
        if value is not None:
            text = "has no meaning on a stream; do it in the dataset"
            raise ConfigError.of(f"data.{name}", text, f"data.{name}=null")


def _all_of(dataset: Dataset[Any]) -> Indices | None:
    if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized):
        return None
    return numbered(size_of(dataset))


def _describe(dataset: Dataset[Any], target_kind: str | None) -> tuple[TargetReading, DataInfo]:
    """Shapes and kind of target from the first sample; 0 targets where classes are not yet counted."""
    name = name_of(dataset)
    if not isinstance(dataset, (IterableDataset, Sized)):
        raise DataError(f"data.train: {name} has no length; a stream must be an IterableDataset")
    if (sample := first_of(dataset)) is None:
        raise DataError(f"data.train: {name} is empty")
    inputs, targets = unpacked(collate_of(dataset)([sample]), [0])
    shape = tuple(inputs.shape[1:]) if isinstance(inputs, Tensor) else ()
    reading = reading_of(targets, target_kind, name, inputs)
    shown = sample[0] if isinstance(sample, (list, tuple)) and len(sample) == 2 else inputs
    parts = "" if isinstance(inputs, Tensor) else describe_value(shown)
    info = DataInfo(name, shape, reading.kind, 0, {}, input_parts=parts)
    if reading.kind in ("other", "whole", "step_values"):
        return reading, replace(info, num_targets=int(reading.kind == "step_values"))
    if reading.kind == "tokens":
        return reading, replace(info, num_targets=num_tokens(dataset, inputs, targets))
    if reading.kind not in ("classes", "step_classes"):
        return reading, replace(info, num_targets=reading(targets, [0], name).shape[1])
    names = tuple(str(label) for label in getattr(dataset, "classes", ()))
    count = len(names) or int(getattr(dataset, "num_classes", 0))
    if not count and isinstance(dataset, IterableDataset):
        raise DataError("data.train: a stream of classes must say how many: give the dataset num_classes")
    if not count and reading.kind == "step_classes":
        count = num_step_classes(dataset)
    return reading, replace(info, num_targets=count, class_names=names)


def _target_scaling(
    dataset: Dataset[Any], train: Indices, info: DataInfo, reading: TargetReading
) -> TargetScaling:
    """Estimate mean and std from evenly spaced training samples."""
    targets = []
    for index in evenly_spaced(train, _SCALED_FROM).tolist():
        target = reading(read_sample(dataset, index)[1], [index], info.name)
        check_targets(target, [index], info.name, info)
        targets.append(target)
    return scaling.target_scaling(torch.cat(targets))
