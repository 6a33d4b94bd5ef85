"""Predictions as rows of a table (CSV): classes with probabilities, labels, or values."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, compress, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainrun.protocols import Batch, DataInfo, Readable, Samples, TaskProtocol
from trainrun.session.load_run import LoadedRun
from trainrun.task.base import has_target
from trainrun.task.binary import Binary
from trainrun.task.classification import Classification
from trainrun.task.multilabel import Multilabel
from trainrun.task.regression import Regression
from trainrun.task.steps import class_axis
from trainrun.vocabulary.errors import ConfigError, DataError

Rows = list[list[str]]
# The columns that say where a step or pixel is, by their number.
_PLACES = {0: [], 1: ["step"], 2: ["row", "column"], 3: ["depth", "row", "column"]}


class Classes:
    """The likeliest class, its probability, and that of every class: of (N, C), or (N, 1) of the second."""

    def __init__(self, info: DataInfo) -> None:
        self.names = _names(info)
        self.targets = ["target"]
        self.heads = ["predicted", "probability", *(f"p_{name}" for name in self.names)]

    def predicted(self, outputs: Tensor) -> Rows:
        if outputs.shape[1] == 1:
            outputs = torch.cat([1 - outputs, outputs], 1)
        top, best = outputs.max(1)  # of two equal ones the first, as the metrics have it
        rows = zip(best.tolist(), top.tolist(), outputs.tolist(), strict=True)
        return [[self.names[label], _number(p), *map(_number, row)] for label, p, row in rows]

    def true(self, targets: Tensor) -> Rows:
        return [[self.names[label]] for label in targets.tolist()]


class Labels:
    """The labels of more than even probability, joined by `|`, and the probability of every label, (N, K)."""

    def __init__(self, info: DataInfo) -> None:
        self.names = _names(info)
        self.targets = ["target"]
        self.heads = ["predicted", *(f"p_{name}" for name in self.names)]

    def predicted(self, outputs: Tensor) -> Rows:
        rows = zip(self.true(outputs > 0.5), outputs.tolist(), strict=True)
        return [[*labels, *map(_number, row)] for labels, row in rows]

    def true(self, targets: Tensor) -> Rows:
        return [["|".join(compress(self.names, row))] for row in targets.tolist()]


class Values:
    """Numbers, (N, K): of a regression in the targets' own units, of a task of one's own as it gives them."""

    def __init__(self, count: int, num_targets: int) -> None:
        self.targets, self.heads = _columns("target", num_targets), _columns("predicted", count)

    def predicted(self, outputs: Tensor) -> Rows:
        return [[_number(value) for value in row] for row in outputs.tolist()]

    def true(self, targets: Tensor) -> Rows:
        return self.predicted(targets[:, None] if targets.ndim == 1 else targets)


def rows_of(
    task: TaskProtocol, info: DataInfo, samples: Samples, predictions: Iterable[tuple[Batch, Tensor]]
) -> Iterator[list[str]]:
    """The heads, then a row per sample, or per step or pixel that has a target.

    `predictions` are `samples`' batches, each with `task.predict` of it.
    Raises DataError where there is no sample, ConfigError for a task whose predictions are no table.
    """
    predictions = iter(predictions)
    first = next(predictions, None)
    if first is None:
        raise DataError("there is no sample to predict")
    kind, names = _kind(task, info, first[1]), iter(samples.names)
    has_targets, has_steps = first[0].targets is not None, getattr(task, "has_steps", False)
    axes = _PLACES[_as_rows(*first, info, has_steps)[2].shape[1]]
    heads = ["index", *(["name"] if samples.names else []), *axes]
    yield [*heads, *(kind.targets if has_targets else []), *kind.heads]
    for pair in chain([first], predictions):
        batch, outputs, places = _as_rows(*pair, info, has_steps)
        rows = kind.predicted(outputs)
        true = kind.true(batch.targets) if has_targets else [[]] * len(rows)
        for index, place, target, row in zip(batch.indices, places.tolist(), true, rows, strict=True):
            yield [str(int(index)), *islice(names, 1), *map(str, place), *target, *row]


def _as_rows(batch: Batch, outputs: Tensor, info: DataInfo, has_steps: bool) -> tuple[Batch, Tensor, Tensor]:
    """The batch, outputs (M, K) and places (M, axes), with each step or pixel that has a target as a row."""
    if not has_steps:
        return batch, outputs, outputs[:, :0]
    targets: Any = None if batch.targets is None else batch.targets.cpu()
    if info.kind == "step_classes":
        outputs = outputs.movedim(class_axis(outputs, info.num_targets), -1)
    else:
        outputs = outputs.reshape(outputs.shape if targets is None else targets.shape)[..., None]
        targets = None if targets is None else targets[..., None]
    shape = outputs.shape[:-1]
    counted = torch.ones(shape, dtype=torch.bool) if targets is None else has_target(targets).view(shape)
    places = counted.nonzero()
    indices = torch.as_tensor(batch.indices).cpu()[places[:, 0]]
    targets = None if targets is None else targets[counted]
    return replace(batch, indices=indices, targets=targets), outputs[counted], places[:, 1:]


def numbers_in(heads: Sequence[str], task: TaskProtocol) -> dict[str, Callable[[str], float]]:
    """How the texts of each column that holds numbers are read."""
    has_names = isinstance(task, (Classification, Binary, Multilabel))
    texts = ("name", "target", "predicted") if has_names else ("name",)
    whole = ("index", *chain.from_iterable(_PLACES.values()))
    return {head: int if head in whole else float for head in heads if head not in texts}


def _kind(task: TaskProtocol, info: DataInfo, outputs: Tensor) -> Classes | Labels | Values:
    if isinstance(task, (Classification, Binary)):
        return Classes(info)
    if isinstance(task, Multilabel):
        return Labels(info)
    if isinstance(task, Regression):
        return Values(info.num_targets, info.num_targets)
    if outputs.ndim != 2:
        text = f"{type(task).__name__.lower()} predicts {tuple(outputs.shape)}, which is no table"
        raise ConfigError.of("predict", f"{text}; take the model itself, trainrun.load(RUN)")
    return Values(outputs.shape[1], info.num_targets if info.kind in ("values", "labels") else 1)


def _columns(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}_{index}" for index in range(count)]


def _names(info: DataInfo) -> tuple[str, ...]:
    return info.class_names or tuple(map(str, range(info.num_targets)))


def _number(value: float) -> str:
    """Seven digits, what a model's numbers have."""
    return f"{value:.7g}"


def samples_of(run: LoadedRun, file: Path | None, split: str) -> Samples:
    """The samples of a file, else of a split. Raises ConfigError for a model without a forward."""
    run.require_forward()
    data = run.parts.data
    if file is None:
        return Samples(data.eval_batches(split))
    if not file.exists():
        raise DataError(f"--input: there is no file {file}")
    if not file.is_file() and not file.is_dir():
        raise DataError(f"--input: {file} is a pipe or a device, not a file")
    if not isinstance(data, Readable):
        text = f"{run.parts.info.name} reads no samples beside its own; use --split"
        raise ConfigError.of("--input", text)
    with about_input(file):
        return data.read(file.expanduser())


@contextlib.contextmanager
def about_input(file: Path | None) -> Iterator[None]:
    """Within, a DataError is about the file that was given as --input, not about the run's data."""
    try:
        yield
    except DataError as error:
        if file is None:
            raise
        raise DataError(f"--input: {re.sub('^data[.a-z]*: ', '', str(error))}") from None
