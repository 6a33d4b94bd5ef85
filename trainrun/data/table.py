"""A table of one's own, csv or parquet: column types found, gaps filled, categories spread out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from trainrun import tables
from trainrun.data.encoding import Column, Feature, encode, fit, from_plain, to_plain
from trainrun.data.resident import Holdout, Resident, described, split
from trainrun.data.rows import columns_like, refuse_infinite, targets_like, unknown
from trainrun.errors import ConfigError, DataError
from trainrun.protocols import Batch, DataInfo, Position, Samples
from trainrun.ranges import Count, Natural, Split
from trainrun.tables import Table

_SHOWN = 6


@dataclass(frozen=True)
class Layout:
    """What tells how to read a table of the same kind."""

    target: str
    delimiter: str | None
    missing: Collection[str]


class TableData(Resident):
    """A table in memory; its columns stay as they were read, to be encoded as a checkpoint says."""

    def __init__(
        self,
        info: DataInfo,
        inputs: Tensor,
        targets: Tensor,
        splits: Mapping[str, Tensor],
        eval_batch_size: int,
        columns: Sequence[Column],
        features: Sequence[Feature],
        layout: Layout,
    ) -> None:
        super().__init__(info, inputs, targets, splits, torch.zeros(()), torch.ones(()), eval_batch_size)
        self.columns, self.features, self.layout = columns, features, layout

    def fitted(self) -> dict[str, Any]:
        return super().fitted() | {"features": to_plain(self.features)}

    def restore(self, fitted: Mapping[str, Any]) -> None:
        super().restore(fitted)
        self.features = from_plain(fitted["features"])
        self.inputs = encode(self.columns, self.features).to(self.device)

    def read(self, file: Path) -> Samples:
        """Another table with the same columns; that of the targets may be missing, and others are left."""
        read = tables.read(str(file), self.layout.delimiter, self.layout.missing)
        columns = columns_like(self.features, read, self.layout.missing)
        inputs = encode(columns, self.features)
        targets = targets_like(self.info, self.layout.target, read, self.layout.missing)
        parts = torch.arange(len(inputs)).split(self.eval_batch_size)
        batches = (
            Batch(inputs[at].to(self.device), None if targets is None else targets[at], at, Position())
            for at in parts
        )
        return Samples(batches, notes=unknown(columns, self.features))


def table(
    path: str,
    target: str,
    kind: Literal["auto", "classes", "values"],
    delimiter: str | None,
    ignore: list[str],
    categorical: list[str],
    missing: list[str],
    max_categories: Count,
    min_count: Count,
    val_fraction: Split,
    test_fraction: Split,
    split_seed: Natural,
    fold: Natural | None,
    num_folds: Count,
    limit: Count | None,
    eval_batch_size: Count,
) -> TableData:
    """A csv or parquet file, of which one column is predicted from the others.

    Numbers and booleans are standardised, a missing one is filled with the mean; a text is one input
    per category, a missing one is filled with the most frequent; one more input marks what was
    missing. All that is estimated from the training split alone. Dates are left out.
    Raises DataError naming file, line and column.
    """
    gone = frozenset(missing)
    read = tables.read(path, delimiter, gone)
    for key, wanted in (("target", [target]), ("ignore", ignore), ("categorical", categorical)):
        for name in wanted:
            if name not in read.columns:
                raise ConfigError.one(f"data.{key}", f"{read.path} has no column {name}; {_near(name, read)}")
    found, _, why = tables.target_kind(read.columns[target], gone)
    kind = found if kind == "auto" else kind  # type: ignore[assignment]
    targets, names = _targets(read, target, kind, gone)
    left_out: dict[str, str] = {target: ""} | dict.fromkeys(ignore, "as told")
    columns = [
        column
        for name in read.columns
        if name not in left_out
        and (column := _column(read, name, name in categorical, gone, max_categories, left_out))
    ]
    holdout = Holdout(val_fraction, test_fraction, split_seed, limit, fold, num_folds)
    splits = split(len(targets), holdout, targets if kind == "classes" else None)
    features = [fit(column, splits["train"].numpy(), min_count) for column in columns]
    if not any(one.inputs for one in features):
        raise DataError(f"data.path: {read.path} has no column to predict {target} from{_told(left_out)}")
    inputs = encode(columns, features)
    notes = _notes(target, names, why, columns, features, left_out)
    count = len(names) or 1
    info = DataInfo(read.path.name, (inputs.shape[1],), kind, count, {}, names, notes=notes)
    info = described(info, inputs, targets, splits)
    layout = Layout(target, delimiter, missing)
    return TableData(info, inputs, targets, splits, eval_batch_size, columns, features, layout)


def _column(
    read: Table,
    name: str,
    is_category: bool,
    missing: Collection[str],
    max_categories: int,
    left_out: dict[str, str],
) -> Column | None:
    """A column as numbers or categories; None for one that is left out, with the reason in `left_out`."""
    texts = read.columns[name]
    values = None if is_category else read.numbers.get(name)
    if values is not None:
        array = np.array(values)
        refuse_infinite(read, name, array)
        if np.isnan(array).all():
            left_out[name] = "no value"
        elif (array == array[0]).all():
            left_out[name] = "always the same"
        return None if name in left_out else Column(name, array)
    found = set(texts).difference(missing)
    kind = "text" if is_category else _kind(read, name, found)
    if kind == "boolean" and len(found) == 2:
        return Column(name, np.array([tables.BOOLEANS.get(text.lower(), np.nan) for text in texts]))
    if kind == "date":
        left_out[name] = "dates"
    elif len(found) > max_categories:
        left_out[name] = f"{len(found):,} different texts"
    elif len(found) == 1 and texts.count(texts[0]) == len(texts):
        left_out[name] = "always the same"
    if name in left_out:
        return None
    categories = tuple(sorted(found))
    place = {text: at for at, text in enumerate(categories)}
    return Column(name, np.fromiter(map(place.get, texts, repeat(-1)), np.int64, len(texts)), categories)


def _targets(read: Table, name: str, kind: str, missing: Collection[str]) -> tuple[Tensor, tuple[str, ...]]:
    """((N,) classes or (N, 1) values, class names). Raises DataError for a row without one."""
    texts = read.columns[name]
    if rows := [row for row, text in enumerate(texts) if text in missing]:
        them = "the row" if len(rows) == 1 else f"these {len(rows):,} rows"
        raise DataError(f"data.target: {read.place(rows, name)} has no value; take {them} out")
    values = read.numbers.get(name)
    if kind == "values":
        if values is None:
            rows = [row for row, text in enumerate(texts) if not tables.is_number(text)]
            raise DataError(f"data.target: {read.place(rows, name)} is not a number, got {texts[rows[0]]!r}")
        array = np.array(values)
        refuse_infinite(read, name, array)
        return torch.from_numpy(array).float()[:, None], ()
    found = list(dict.fromkeys(texts if values is None else values))
    if len(found) > len(texts) // 2:
        text = f"{read.path} has {len(found):,} different {name} in {len(texts):,} rows, too many for classes"
        raise DataError(f"data.target: {text}, such as {texts[0]!r}")
    if len(found) < 2:
        raise DataError(
            f"data.target: {read.path} has one {name} in all rows, {texts[0]!r}: nothing to learn"
        )
    place = {one: at for at, one in enumerate(sorted(found))}  # type: ignore[type-var]
    named = dict(zip(texts if values is None else values, texts, strict=True))
    targets = torch.tensor([place[one] for one in (texts if values is None else values)])
    return targets, tuple(named[one] for one in place)


def _kind(read: Table, name: str, found: set[str]) -> str:
    try:
        return tables.kind_of(found)
    except ValueError as error:
        odd = set(error.args)
        rows = [row for row, text in enumerate(read.columns[name]) if text in odd]
        got = read.columns[name][rows[0]]
        text = f"{read.place(rows, name)} is not a number as nearly all of it, got {got!r}"
        mend = f"mend it, or 'data.ignore=[{name}]', or 'data.categorical=[{name}]'"
        raise DataError(f"data.path: {text}; {mend}") from None


def _notes(
    target: str,
    names: tuple[str, ...],
    why: str,
    columns: Sequence[Column],
    features: Sequence[Feature],
    left_out: Mapping[str, str],
) -> tuple[str, ...]:
    """What was made of the table, for people."""
    learned = f"one of {len(names)} classes ({_listed(names)})" if names else "a value"
    notes = [f"{target} is learned as {learned}: {why}"]
    numbers = [column.name for column in columns if not column.categories]
    spread = [
        f"{column.name} ({len(feature.kept)} of {len(column.categories)})"
        if len(feature.kept) < len(column.categories)
        else f"{column.name} ({len(column.categories)})"
        for column, feature in zip(columns, features, strict=True)
        if column.categories
    ]
    by = "standardised by mean and std of the training split"
    parts = [f"{len(numbers)} of numbers, {by}: {_listed(numbers)}"] if numbers else []
    parts += [f"{len(spread)} of categories: {_listed(spread)}"] if spread else []
    count = sum(len(one.inputs) for one in features)
    notes.append(f"{count} inputs from {len(columns)} columns, {'; '.join(parts)}")
    gaps = [f"{column.name} {int(column.missing.sum())}" for column in columns if column.missing.any()]
    if gaps:
        notes.append(f"missing, filled by the training split's mean or most frequent: {_listed(gaps)}")
    if told := _told(left_out):
        notes.append(told.removeprefix("; "))
    return tuple(notes)


def _told(left_out: Mapping[str, str]) -> str:
    told = [f"{name} ({why})" for name, why in left_out.items() if why]
    return f"; left out: {_listed(told)}" if told else ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _near(name: str, read: Table) -> str:
    near = get_close_matches(name, read.columns, 1)
    return f"did you mean {near[0]}?" if near else f"there are {_listed(list(read.columns))}"
