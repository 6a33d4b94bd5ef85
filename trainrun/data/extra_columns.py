"""Columns beside inputs and targets: group and time decide the splits, weights weigh the loss."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainrun.data.faults import first_unfit
from trainrun.data.fingerprint import fingerprint
from trainrun.data.lazy_indices import Indices
from trainrun.data.order import hold_out
from trainrun.data.resident import Holdout, split
from trainrun.data.sample_form import entry, require_entry
from trainrun.data.samples import Seeded, size_of, source_of, unpacked
from trainrun.protocols import DataInfo
from trainrun.tables.names import Key
from trainrun.vocabulary.errors import ConfigError, DataError

Column = Callable[[Key], Sequence[Any]]  # of a name: a value for each sample


class ExtraColumns:
    """The columns by their names, None where there is none, read by `column`.

    Raises ConfigError for group and time together, DataError for a value that is missing or unfit.
    """

    def __init__(self, group: Key | None, time: Key | None, weights: Key | None, column: Column) -> None:
        if group is not None and time is not None:
            text = "decides the splits, and so does data.group; choose one of them"
            raise ConfigError.of("data.time", text, "data.time=null")
        self.setting, self.name = ("group", group) if time is None else ("time", time)
        self.values = None  # (N,): a group's number, or the time
        if self.name is not None:
            texts = list(map(str, _complete(column, self.setting, self.name)))
            places = {text: place for place, text in enumerate(sorted(set(texts)))}
            moments = [places[text] for text in texts] if time is None else _moments(texts, time)
            self.values = torch.tensor(moments, dtype=torch.float64)
        self.weights = weights_of(column, weights)

    def split(
        self, samples: Indices, holdout: Holdout, classes: Tensor | None, given: Collection[str] = ()
    ) -> dict[str, Any]:
        """Split as `resident.split` does; by group that share of the groups, by time the latest samples.

        Raises ConfigError where the column would decide nothing, DataError where a split would be empty.
        """
        if self.values is None:
            return split(samples, holdout, classes, given)
        key, values = f"data.{self.setting}", self.values[: len(samples)]  # those of given splits follow
        shares = {"test": holdout.test_fraction, "val": holdout.val_fraction}
        shares = {name: share for name, share in shares.items() if share and name not in given}
        if "val" in given or not (shares or holdout.fold is not None):
            text = "has no effect because the validation split is given, or none is held out"
            raise ConfigError.of(key, text, f"{key}=null")
        if self.setting == "time" and holdout.fold is not None:
            text = "takes a part by chance, and data.time the latest; choose one of them"
            raise ConfigError.of("data.fold", text, "data.fold=null")
        groups, whole = values.unique(), replace(holdout, limit=None)
        is_time, numbers = self.setting == "time", torch.arange(len(groups))
        parts: dict[str, Any] = _latest(values, shares) if is_time else split(numbers, whole, None, given)
        if self.setting == "group":
            parts = {name: torch.isin(values, groups[part]).nonzero()[:, 0] for name, part in parts.items()}
        for name in filter(lambda name: not len(parts[name]), ("train", *shares)):
            text = f"{self.name} has {len(groups)} different values, which leaves none for {name}"
            raise DataError(f"{key}: {text}; choose another share: data.val_fraction=0.3")
        if holdout.limit is not None and holdout.limit < len(parts["train"]):
            parts["train"] = hold_out(parts["train"], holdout.limit, holdout.split_seed, "limit", classes)[1]
        return parts

    def described(self, info: DataInfo, splits: Mapping[str, Indices]) -> DataInfo:
        """`info` with a note on the splits, and these columns in its fingerprint. Raises for weights of 0."""
        for name, part in splits.items():
            if self.weights is not None and len(part) and not self.weights[part[:]].any():
                raise DataError(f"data.weights: all samples of {name} weigh 0")
        notes = {"group": f"no {self.name} is in two splits", "time": f"the latest {self.name} is held out"}
        note = () if self.values is None else (notes[self.setting],)
        columns = [column for column in (self.values, self.weights) if column is not None]
        first = torch.tensor(list(info.fingerprint.encode()))
        mark = fingerprint([first, *columns]) if columns else info.fingerprint
        return replace(info, notes=(*info.notes, *note), fingerprint=mark)


def column_of(dataset: Dataset[Any], name: Key) -> Sequence[Any]:
    """An entry of every sample: as an attribute of the data set lists it, else read one by one."""
    source: Any = source_of(dataset)
    size, listed = size_of(dataset), getattr(source, str(name), ())
    if hasattr(listed, "__len__") and len(listed) == size:
        return list(listed)
    samples = Seeded(source)
    require_entry(unpacked(samples[0, 0]), name)
    return [entry(unpacked(samples[0, index]), name, f"sample {index}") for index in range(size)]


def _latest(times: Tensor, shares: dict[str, float]) -> dict[str, Tensor]:
    rest = torch.arange(len(times))
    splits = {"test": rest[:0], "val": rest[:0]}
    for name, share in shares.items():
        number = min(max(round(share * len(times)), 1), len(rest))
        first = times[rest].sort().values[-number:][:1]
        # Those of the same time stay together, on the side that comes nearer to the number.
        with_first, later = times[rest] >= first, times[rest] > first
        is_held = later if 2 * number < with_first.sum() + later.sum() and later.any() else with_first
        rest, splits[name] = rest[~is_held], rest[is_held]
    return {"train": rest, **splits}


def _complete(column: Column, setting: str, name: Key) -> list[Any]:
    try:
        values = [value.item() if hasattr(value, "item") else value for value in column(name)]
    except ConfigError as error:  # there is no such column
        raise ConfigError.of(f"data.{setting}", error.problems[0].text) from None
    for index, value in enumerate(values):
        if value is None or value == "" or value != value:
            raise DataError(f"data.{setting}: sample {index} has no {name}")
    return values


def _moments(texts: Sequence[str], name: Key) -> list[float]:
    """All as numbers or all as dates, whichever more of them are."""
    moments = min(
        ([read(text) for text in texts] for read in (_number, _seconds)), key=lambda m: m.count(None)
    )
    if None in moments:
        index = moments.index(None)
        forms = "numbers, or dates such as 2026-12-31 or 2026-12-31 08:30"
        raise DataError(f"data.time: {name} must hold {forms}, got {texts[index]!r} for sample {index}")
    return [moment for moment in moments if moment is not None]


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return float(text)
    return None


def _seconds(text: str) -> float | None:
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None


def weights_of(column: Column, name: Key | None) -> Tensor | None:
    """What each sample's loss counts, (N,); None without a column. Raises DataError for an unfit value."""
    if name is None:
        return None
    values = _complete(column, "weights", name)
    try:
        weights = torch.tensor(list(map(float, values)))
    except (TypeError, ValueError) as error:
        raise DataError(f"data.weights: {name} must hold numbers of at least 0: {error}") from None
    if (index := first_unfit((weights >= 0) & weights.isfinite())) is not None:
        raise DataError(f"data.weights: sample {index} must have at least 0 as {name}, got {values[index]!r}")
    return weights
