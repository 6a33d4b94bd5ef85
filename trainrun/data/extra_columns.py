"""Columns beside inputs and targets: group and time decide the splits, weights weigh the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainrun.data.fingerprint import fingerprint
from trainrun.data.order import hold_out
from trainrun.data.resident import Holdout, split
from trainrun.data.sample_form import entry
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
        self.values = self.weights = None  # (N,): what is not parted by the splits; what each loss counts
        if self.name is not None:
            self.texts = [str(value) for value in _complete(column, self.setting, self.name)]
            places = {text: place for place, text in enumerate(sorted(set(self.texts)))}
            moments = [places[text] for text in self.texts] if time is None else _moments(self.texts, time)
            self.values = torch.tensor(moments, dtype=torch.float64)
        if weights is not None:
            self.weights = torch.tensor(_weights(_complete(column, "weights", weights), weights))

    def split(
        self, count: int, holdout: Holdout, classes: Tensor | None, given: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """Split as `resident.split` does; by group that share of the groups, by time the latest samples.

        Raises ConfigError where the column would decide nothing, DataError where a split would be empty.
        """
        if self.values is None:
            return split(count, holdout, classes, given)
        shares = {"test": holdout.test_fraction, "val": holdout.val_fraction}
        shares = {name: share for name, share in shares.items() if share and name not in given}
        if "val" in given or not (shares or holdout.fold is not None):
            text = "has no effect because the validation split is given, or none is held out"
            raise ConfigError.of(f"data.{self.setting}", text, f"data.{self.setting}=null")
        values = self.values[:count]  # those of given splits follow
        groups = values.unique()
        if self.setting == "time":
            splits = self._latest(values, shares, holdout)
        else:
            parts = split(len(groups), replace(holdout, limit=None), None, given)
            splits = {name: torch.isin(values, groups[part]).nonzero()[:, 0] for name, part in parts.items()}
        for name in filter(lambda name: not len(splits[name]), ("train", *shares)):
            text = f"{self.name} has {len(groups)} different values, which leaves none for {name}"
            raise DataError(f"data.{self.setting}: {text}; choose another share: data.val_fraction=0.3")
        if holdout.limit is not None and holdout.limit < len(splits["train"]):
            splits["train"] = hold_out(splits["train"], holdout.limit, holdout.split_seed, "limit", classes)[
                1
            ]
        return splits

    @staticmethod
    def _latest(times: Tensor, shares: dict[str, float], holdout: Holdout) -> dict[str, Tensor]:
        if holdout.fold is not None:
            text = "takes a part by chance, and data.time the latest; choose one of them"
            raise ConfigError.of("data.fold", text, "data.fold=null")
        rest = torch.arange(len(times))
        splits = {"test": rest[:0], "val": rest[:0]}
        for name, share in shares.items():
            number = max(round(share * len(times)), 1)
            first = times[rest].sort().values[-min(number, len(rest)) :][:1]
            # Those of the same time stay together, on the side that comes nearer to the number.
            with_first, later = times[rest] >= first, times[rest] > first
            is_held = later if 2 * number < with_first.sum() + later.sum() and later.any() else with_first
            rest, splits[name] = rest[~is_held], rest[is_held]
        return {"train": rest, **splits}

    def described(self, info: DataInfo, splits: dict[str, Tensor]) -> DataInfo:
        """`info` with a note on the splits, and with these columns in its fingerprint.

        Raises DataError for a split whose samples all weigh 0.
        """
        splits = {name: splits[name] for name in ("train", "val", "test") if len(splits.get(name, ()))}
        for name, part in splits.items():
            if self.weights is not None and not bool(self.weights[part].any()):
                raise DataError(f"data.weights: all samples of {name} weigh 0")
        if self.values is not None:
            info = replace(info, notes=(*info.notes, self._note(self.values, splits)))
        columns = [column for column in (self.values, self.weights) if column is not None]
        first = torch.tensor(list(info.fingerprint.encode()))
        return replace(info, fingerprint=fingerprint([first, *columns])) if columns else info

    def _note(self, values: Tensor, splits: dict[str, Tensor]) -> str:
        if self.setting == "group":
            counts = (f"{len(values[part].unique())} in {name}" for name, part in splits.items())
            return f"no {self.name} is in two splits: {', '.join(counts)}"
        ends = {
            name: (part[values[part].argmin()], part[values[part].argmax()]) for name, part in splits.items()
        }
        texts = (f"{name} {self.texts[first]} to {self.texts[last]}" for name, (first, last) in ends.items())
        return f"split by {self.name}: {', '.join(texts)}"


def column_of(dataset: Dataset[Any], name: Key) -> Sequence[Any]:
    """An entry of every sample: as an attribute of the data set lists it, else read one by one."""
    source: Any = source_of(dataset)
    size, listed = size_of(dataset), getattr(source, str(name), ())
    if hasattr(listed, "__len__") and len(listed) == size:
        return list(listed)
    samples = Seeded(source, 0)
    return [entry(unpacked(samples[index]), name, f"sample {index}") for index in range(size)]


def _complete(column: Column, setting: str, name: Key) -> list[Any]:
    values = [value.item() if hasattr(value, "item") else value for value in column(name)]
    for index, value in enumerate(values):
        if value is None or value == "" or value != value:
            raise DataError(f"data.{setting}: sample {index} has no {name}")
    return values


def _moments(texts: Sequence[str], name: Key) -> list[float]:
    for read in (float, _seconds):
        with suppress(ValueError):
            return [read(text) for text in texts]
    forms = "numbers, or dates such as 2026-12-31 or 2026-12-31 08:30"
    raise DataError(f"data.time: {name} must hold {forms}, got {texts[0]!r}")


def _seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _weights(values: Sequence[Any], name: Key) -> list[float]:
    weights = []
    for index, value in enumerate(values):
        with suppress(TypeError, ValueError):
            weights.append(float(value))
        if len(weights) == index or not 0 <= weights[-1] < math.inf:
            text = f"sample {index} must have a number of at least 0 as {name}, got {value!r}"
            raise DataError(f"data.weights: {text}")
    return weights
