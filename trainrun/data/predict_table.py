"""Rows of another table to predict, read as the training table was."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from trainrun.data.encoding import Column, Feature
from trainrun.data.faults import first_few
from trainrun.protocols import DataInfo
from trainrun.tables import tables
from trainrun.tables.notation import GAPS, PLAIN, Notation
from trainrun.tables.tables import Table
from trainrun.vocabulary.errors import DataError

_SHOWN = 5  # names in a message: one line of a terminal


def columns_like(features: Sequence[Feature], read: Table, missing: Collection[str]) -> list[Column]:
    """The columns that `features` were learned from, by name and in their order; others are ignored.

    Raises DataError for a missing column, and for a text where a number is expected.
    """
    if gone := [feature.name for feature in features if feature.name not in read.columns]:
        raise DataError(f"{read.path} has no column {', '.join(gone)}, which the run was trained on")
    return [
        _numbers(read, feature, missing)
        if feature.common is None
        else _categories(read, feature.name, missing)
        for feature in features
    ]


def unknown(columns: Sequence[Column], features: Sequence[Feature]) -> list[str]:
    """Notes on values unlike those of training: other categories, and gaps where it had none."""
    notes = []
    for column, feature in zip(columns, features, strict=True):
        strange = [category for category in column.categories if category not in feature.categories]
        if feature.common is not None and strange:
            text = "was not trained on, so all inputs of the column are 0 there"
            notes.append(f"{feature.name}: {first_few(strange, _SHOWN)} {text}")
        if column.missing.any() and not feature.marks_missing:
            rows = column.missing.nonzero()[0].tolist()
            filled = f"the mean, {feature.mean:.4g}" if feature.common is None else feature.common
            text = f"has no value in sample {first_few(rows, _SHOWN)}, and had one in all of training"
            notes.append(f"{feature.name}: {text}; read as {filled}")
    return notes


def targets_like(info: DataInfo, name: str, read: Table, notation: Notation) -> Tensor | None:
    """(N,) classes or (N, 1) values; None unless every row has one that the run can use."""
    texts = read.columns.get(name)
    if texts is None:
        return None
    values = _values(texts, notation, ())
    if info.kind == "values":
        return None if values is None else torch.tensor(values)[:, None].float()
    place: dict[object, int] = {label: number for number, label in enumerate(info.class_names)}
    if not place.keys() >= set(texts) and values is not None:  # 1 and 1.0 are one class
        names = _values(info.class_names, notation, ())
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
        text = f"{read.place(rows, name)} is not a finite number, got {values[rows[0]]}"
        raise DataError(f"data.path: {text}")


def _numbers(read: Table, feature: Feature, missing: Collection[str]) -> Column:
    name = feature.name
    texts, plain = read.columns[name], read.numbers.get(name)
    values: Sequence[float] | None = plain if feature.notation == PLAIN else None
    if values is None and all(text in missing or text.lower() in tables.BOOLEANS for text in texts):
        values = [tables.BOOLEANS.get(text.lower(), np.nan) for text in texts]
    if values is None:
        gaps = {*missing, *(text for text in set(texts) if text.lower() in GAPS)}
        values = _values(texts, feature.notation, gaps)
    if values is None:
        rows = [
            row
            for row, text in enumerate(texts)
            if text not in gaps and _values([text], feature.notation, ()) is None
        ]
        written = "" if feature.notation == PLAIN else f" written as in training ({feature.notation})"
        raise DataError(f"{read.place(rows, name)} is not a number{written}, got {texts[rows[0]]!r}")
    array = np.array(values)
    refuse_infinite(read, name, array)
    return Column(name, array, (), feature.notation)


def _values(texts: Sequence[str], notation: Notation, missing: Collection[str]) -> Sequence[float] | None:
    """The numbers of a column; None where one of its texts is none in this notation."""
    try:
        return tables.read_like(texts, notation, missing)
    except ValueError:
        return tables.numbers(texts, missing) if notation == PLAIN else None


def _categories(read: Table, name: str, missing: Collection[str]) -> Column:
    texts = read.columns[name]
    categories = tuple(sorted(set(texts).difference(missing)))
    place = {text: number for number, text in enumerate(categories)}
    return Column(name, np.array([place.get(text, -1) for text in texts]), categories)
