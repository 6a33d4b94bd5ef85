"""Encode columns of tables as model inputs, by what the training split holds; rows to predict alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainrun.data.faults import first_few
from trainrun.protocols import DataInfo
from trainrun.tables import tables
from trainrun.tables.notation import GAPS, PLAIN, Notation
from trainrun.tables.tables import Table
from trainrun.vocabulary.errors import DataError


@dataclass(frozen=True)
class Column:
    """N values: numbers with NaN where one is missing, or indices into `categories` with -1 there."""

    name: str
    values: np.ndarray  # (N,) float64 or int64
    categories: tuple[str, ...] = ()
    notation: Notation = PLAIN  # of a file's texts, where they are numbers

    @property
    def missing(self) -> np.ndarray:
        """(N,) bool."""
        gone: np.ndarray = self.values < 0 if self.categories else np.isnan(self.values)
        return gone


@dataclass(frozen=True)
class Feature:
    """What was learned of a column: a number x becomes (x - mean) / std, a category one input.

    `common` is the category that replaces a missing one; it is None for a column of numbers, which
    another file writes in the same `notation`.
    With `marks_missing` one more input is 1 where the value is missing.
    """

    name: str
    mean: float
    std: float
    common: str | None
    categories: tuple[str, ...]  # frequent enough for an input of their own
    marks_missing: bool
    notation: Notation = PLAIN

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs, in order."""
        names = [self.name] if self.common is None else [f"{self.name}={name}" for name in self.categories]
        return (*names, *([f"{self.name} is missing"] if self.marks_missing else []))


def fit(column: Column, train: np.ndarray, min_count: int) -> Feature:
    """Learn mean and std, or categories and the most frequent one, from the samples `train` alone.

    The mean replaces a missing number; the std is that after filling. A category of fewer than
    `min_count` samples gets no input. A column that never varies has std 1, one without values mean 0.
    """
    values, gone = column.values[train], column.missing[train]
    present, is_gappy = values[~gone], bool(gone.any())
    if column.categories:
        counts = np.bincount(present, minlength=len(column.categories))
        frequent = [name for name, count in zip(column.categories, counts, strict=True) if count >= min_count]
        common = column.categories[int(counts.argmax())]
        return Feature(column.name, 0.0, 1.0, common, tuple(frequent), is_gappy, column.notation)
    mean = float(present.mean()) if len(present) else 0.0
    std = float(np.where(gone, mean, values).std())
    return Feature(column.name, mean, std or 1.0, None, (), is_gappy, column.notation)


def encode(columns: Sequence[Column], features: Sequence[Feature]) -> Tensor:
    """(N, inputs) float32. A category without an input of its own is 0 in all inputs of its column."""
    parts: list[np.ndarray] = []
    for column, feature in zip(columns, features, strict=True):
        gone = column.missing
        if feature.common is None:
            filled = np.where(gone, feature.mean, column.values)
            parts.append(((filled - feature.mean) / feature.std)[:, None])
        else:
            place = {name: number for number, name in enumerate(feature.categories)}
            # Code -1, a missing value, is the last place of this list.
            codes = [place.get(name, len(place)) for name in (*column.categories, feature.common)]
            one_hot = np.eye(len(place) + 1, len(place), dtype=np.float32)
            parts.append(one_hot[np.array(codes)[column.values]])
        if feature.marks_missing:
            parts.append(gone[:, None])
    return torch.from_numpy(np.concatenate([part.astype(np.float32) for part in parts], axis=1))


def to_plain(features: Sequence[Feature]) -> list[dict[str, Any]]:
    """As a checkpoint stores them, where `categories` are called "kept"."""
    plain = [asdict(feature) for feature in features]
    return [feature | {"kept": list(feature.pop("categories"))} for feature in plain]


def from_plain(stored: Sequence[Mapping[str, Any]]) -> list[Feature]:
    """As they were before `to_plain`; runs stored by older versions have no notation."""
    return [
        Feature(
            **{key: feature[key] for key in ("name", "mean", "std", "common", "marks_missing")},
            categories=tuple(feature["kept"]),
            notation=notation_of(feature.get("notation")),
        )
        for feature in stored
    ]


def notation_of(stored: Mapping[str, str] | None) -> Notation:
    """A notation from what `asdict` stored; plain where nothing is stored."""
    return Notation(**stored) if stored else PLAIN


def categories_of(name: str, texts: Sequence[str], missing: Collection[str]) -> Column:
    """A column of texts as indices into its different texts."""
    categories = tuple(sorted(set(texts).difference(missing)))
    place = {text: number for number, text in enumerate(categories)}
    return Column(name, np.fromiter(map(place.get, texts, repeat(-1)), np.int64, len(texts)), categories)


def columns_like(features: Sequence[Feature], read: Table, missing: Collection[str]) -> list[Column]:
    """The columns that `features` were learned from, by name and in their order; others are ignored.

    Raises DataError for a missing column, and for a text where a number is expected.
    """
    if gone := [feature.name for feature in features if feature.name not in read.columns]:
        raise DataError(f"{read.path} has no column {', '.join(gone)}, which the run was trained on")
    return [
        _numbers(read, feature, missing)
        if feature.common is None
        else categories_of(feature.name, read.columns[feature.name], missing)
        for feature in features
    ]


def unknown(columns: Sequence[Column], features: Sequence[Feature]) -> list[str]:
    """Notes on values unlike those of training: other categories, and gaps where it had none."""
    notes = []
    for column, feature in zip(columns, features, strict=True):
        strange = [category for category in column.categories if category not in feature.categories]
        if feature.common is not None and strange:
            text = "was not trained on, so all inputs of the column are 0 there"
            notes.append(f"{feature.name}: {first_few(strange)} {text}")
        if column.missing.any() and not feature.marks_missing:
            rows = column.missing.nonzero()[0].tolist()
            filled = f"the mean, {feature.mean:.4g}" if feature.common is None else feature.common
            text = f"has no value in sample {first_few(rows)}, and had one in all of training"
            notes.append(f"{feature.name}: {text}; read as {filled}")
    return notes


def targets_like(info: DataInfo, name: str, read: Table, notation: Notation) -> Tensor | None:
    """(N,) classes or (N, 1) values; None unless every row has one that the run can use."""
    texts = read.columns.get(name)
    if texts is None:
        return None
    values = tables.numbers_like(texts, notation, ())
    if info.kind == "values":
        return None if values is None else torch.tensor(values)[:, None].float()
    place: dict[object, int] = {label: number for number, label in enumerate(info.class_names)}
    if not place.keys() >= set(texts) and values is not None:  # 1 and 1.0 are one class
        names = tables.numbers_like(info.class_names, notation, ())
        place = {value: number for number, value in enumerate(names or ())}
        numbers = [place.get(value) for value in values]
    else:
        numbers = [place.get(text) for text in texts]
    return None if None in numbers else torch.tensor(numbers)


def refuse_infinite(read: Table, name: str, values: np.ndarray) -> None:
    """Raise DataError naming the row of a number that is infinite, or would be in float32."""
    infinite = np.isinf(values) | (np.abs(values) > torch.finfo(torch.float32).max)
    if infinite.any():
        rows = infinite.nonzero()[0].tolist()
        place = read.place(rows, name)
        raise DataError(f"data.path: {place} is not a finite number, got {values[rows[0]]}")


def _numbers(read: Table, feature: Feature, missing: Collection[str]) -> Column:
    name = feature.name
    texts, plain = read.columns[name], read.numbers.get(name)
    values: Sequence[float] | None = plain if feature.notation == PLAIN else None
    if values is None and all(text in missing or text.lower() in tables.BOOLEANS for text in texts):
        values = [tables.BOOLEANS.get(text.lower(), np.nan) for text in texts]
    if values is None:
        gaps = {*missing, *(text for text in set(texts) if text.lower() in GAPS)}
        values = tables.numbers_like(texts, feature.notation, gaps)
    if values is None:
        bad = {text for text in {*texts} - gaps if tables.numbers_like([text], feature.notation, ()) is None}
        rows = [row for row, text in enumerate(texts) if text in bad]
        written = "" if feature.notation == PLAIN else f" written as in training ({feature.notation})"
        raise DataError(f"{read.place(rows, name)} is not a number{written}, got {texts[rows[0]]!r}")
    array = np.array(values)
    refuse_infinite(read, name, array)
    return Column(name, array, (), feature.notation)
