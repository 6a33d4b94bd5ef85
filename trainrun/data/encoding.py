"""Encode columns as model inputs: fill gaps, one-hot categories, by what the training split holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainrun.tables.notation import PLAIN, Notation


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
        names = (
            (self.name,)
            if self.common is None
            else tuple(f"{self.name}={category}" for category in self.categories)
        )
        return names + ((f"{self.name} is missing",) if self.marks_missing else ())


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
            feature["name"],
            feature["mean"],
            feature["std"],
            feature["common"],
            tuple(feature["kept"]),
            feature["marks_missing"],
            notation_of(feature.get("notation")),
        )
        for feature in stored
    ]


def notation_of(stored: Mapping[str, str] | None) -> Notation:
    """A notation from what `asdict` stored; plain where nothing is stored."""
    return Notation(**stored) if stored else PLAIN
