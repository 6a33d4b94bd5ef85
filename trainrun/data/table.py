"""A csv or parquet table: infer column types, fill gaps, one-hot categories, standardise numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from trainrun.config.suggest import override
from trainrun.data import encoding
from trainrun.data.encoding import Column, Feature, encode, fit
from trainrun.data.extra_columns import ExtraColumns
from trainrun.data.faults import first_few
from trainrun.data.resident import Holdout, InMemoryData, described
from trainrun.protocols import Batch, DataInfo, Position, Samples
from trainrun.tables import tables
from trainrun.tables.names import Key
from trainrun.tables.notation import (
    PLAIN,
    Notation,
    Style,
    UnclearNotationError,
    grouped,
    is_grouped,
    unit_of,
)
from trainrun.tables.tables import Format, Table
from trainrun.vocabulary.errors import ConfigError, DataError
from trainrun.vocabulary.ranges import Count, Natural, Split

_listed = partial(first_few, most=6)  # in a note: one line of a terminal
_FEW_ROWS = 10  # below this the message blames the number of rows, not the target
_FEW_IDS = 20  # rows; among fewer, whole numbers all differ by chance too often to be called an id
_LOOKED_AT = 1000  # rows that are searched for a leading 0: a column of postcodes shows one far sooner


@dataclass(frozen=True)
class Layout:
    """How to read another table of the same kind."""

    target: str
    format: Format
    missing: Collection[str]
    notation: Notation  # of the target


class TableData(InMemoryData):
    """A table in memory; its columns stay as read, so that a checkpoint's features can encode them again."""

    columns: Sequence[Column]
    features: Sequence[Feature]
    layout: Layout

    def fitted(self) -> dict[str, Any]:
        own = {"features": encoding.to_plain(self.features), "target_notation": asdict(self.layout.notation)}
        return super().fitted() | own

    def restore(self, fitted: Mapping[str, Any]) -> None:
        super().restore(fitted)
        self.features = encoding.from_plain(fitted["features"])
        self.layout = replace(self.layout, notation=encoding.notation_of(fitted.get("target_notation")))
        self.inputs = encode(self.columns, self.features).to(self.storage)

    def read(self, file: Path) -> Samples:
        """Another table with the same columns; the target may be missing, further columns are ignored."""
        read = tables.read(str(file), self.layout.format, self.layout.missing)
        columns = encoding.columns_like(self.features, read, self.layout.missing)
        inputs = encode(columns, self.features)
        targets = encoding.targets_like(self.info, self.layout.target, read, self.layout.notation)
        parts = torch.arange(len(inputs)).split(self.eval_batch_size)
        batches = (
            Batch(inputs[part].to(self.device), None if targets is None else targets[part], part, Position())
            for part in parts
        )
        return Samples(batches, notes=[*read.notes, *encoding.unknown(columns, self.features)])


def table(
    path: str,
    target: str,
    kind: Literal["auto", "classes", "values"],
    separator: str,
    encoding: str,
    header: bool,
    decimal: Literal["auto", "point", "comma", "plain"],
    thousands: Literal["auto", "point", "comma", "space", "apostrophe", "none"],
    ignore: list[str],
    categorical: list[str],
    missing: list[str],
    missing_target: Literal["refuse", "drop"],
    max_categories: Count,
    min_count: Count,
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
) -> TableData:
    """A csv or parquet file, of which one column is predicted from the others.

    Numbers in any notation and booleans are standardised; a missing one becomes the mean. A text becomes
    one input per category; a missing one becomes the most frequent. One more input marks what was missing.
    Estimates are of the training split. Dates are left out. Raises DataError naming file, line and column.
    """
    gone, format, style = frozenset(missing), Format(separator, encoding, header), Style(decimal, thousands)
    read = tables.read(path, format, gone)
    beside = {key: [name] for key, name in (("group", group), ("time", time), ("weights", weights)) if name}
    _refuse_unknown(read, {"target": [target], "ignore": ignore, "categorical": categorical, **beside})
    read, dropped = _with_targets(read, target, gone, style, missing_target)
    target_kind, _, why = tables.target_kind(read, target, gone, style)
    kind = target_kind if kind == "auto" else kind  # type: ignore[assignment]
    targets, class_names, notation = _targets(read, target, kind, gone, style)
    left_out = {name: f"data.{key}" for key, [name] in beside.items() if name not in categorical}
    left_out |= {target: ""} | dict.fromkeys(ignore, "data.ignore")
    names = [name for name in read.columns if name not in left_out]
    made = {n: _column(read, n, n in categorical, gone, style, max_categories) for n in names}
    left_out |= {name: column for name, column in made.items() if isinstance(column, str)}
    columns = [column for column in made.values() if isinstance(column, Column)]
    notations = {column.name: column.notation for column in columns if not column.categories}
    written = _written(read, target, {target: notation} | notations, style)
    holdout = Holdout(val_fraction, test_fraction, split_seed, limit, fold, num_folds)
    extra = ExtraColumns(group, time, weights, partial(_texts, read, gone))
    splits = extra.split(torch.arange(len(targets)), holdout, targets if kind == "classes" else None)
    features = [fit(column, splits["train"].numpy(), min_count) for column in columns]
    if not any(feature.inputs for feature in features):
        text = f"has no column to predict {target} from{_left_out_text(left_out)}"
        raise DataError(f"data.path: {read.path} {text}")
    inputs = encode(columns, features)
    notes = (*read.notes, *dropped, *_notes(target, class_names, why, columns, features, left_out), *written)
    count = len(class_names) or 1
    by = "mean and std of each column over the training split" if notations else ""
    info = DataInfo(read.path.name, (inputs.shape[1],), kind, count, {}, class_names, notes=notes)
    info = extra.described(described(replace(info, input_scaling=by), inputs, targets, splits), splits)
    data = TableData(info, inputs, targets, splits, torch.zeros(()), torch.ones(()), eval_batch_size)
    data.columns, data.features, data.weights = columns, features, extra.weights
    data.layout = Layout(target, format, missing, notation)
    return data


def _refuse_unknown(read: Table, named: Mapping[str, Sequence[str]]) -> None:
    """Raise ConfigError for a column of a setting that the table has not."""
    for key, names in named.items():
        for name in names:
            if name not in read.columns:
                raise ConfigError.of(f"data.{key}", f"{read.path} has no column {name}; {_near(name, read)}")


def _texts(read: Table, missing: Collection[str], name: Key) -> list[str]:
    return ["" if text in missing else text for text in read.columns[str(name)]]


def _with_targets(
    read: Table, name: str, missing: Collection[str], style: Style, missing_target: str
) -> tuple[Table, tuple[str, ...]]:
    """The rows that have a target, and a note on the others.

    Raises DataError where rows without one may not be left out, or where too few rows remain.
    """
    gone = set(missing)
    with suppress(ValueError):  # raised again where the numbers are read
        if reading := tables.reading_of(read, name, missing, style):
            gone |= reading[1].gaps
    count = len(read.columns[name])
    rows = [row for row, text in enumerate(read.columns[name]) if text in gone]
    if len(rows) == count:
        raise DataError(f"data.target: {read.path} has no value of {name} in any row")
    if rows and missing_target == "refuse":
        them = "the row" if len(rows) == 1 else f"these {len(rows):,} rows"
        text = f"{read.place(rows, name)} has no value; take {them} out, or data.missing_target=drop"
        raise DataError(f"data.target: {text}")
    if count - len(rows) < 2:
        text = "has a single row" if not rows else f"has a single row with a value of {name}"
        raise DataError(f"data.path: {read.path} {text}: nothing can be learned from it")
    notes = (f"{len(rows):,} of {count:,} rows are left out because they have no {name}",) if rows else ()
    return (read.without(rows) if rows else read), notes


def _column(
    read: Table, name: str, is_category: bool, missing: Collection[str], style: Style, max_categories: int
) -> Column | str:
    """A column as numbers or categories, or why it is left out."""
    texts = read.columns[name]
    is_text = is_category or name not in read.numbers
    if is_text and texts[0] not in missing and texts.count(texts[0]) == len(texts):
        return "always the same"
    numbers = None if is_category else _numbers(read, name, missing, style)
    if numbers is not None:
        array, notation = numbers
        if np.isnan(array).all():
            return "no value"
        return "always the same" if (array == array[0]).all() else Column(name, array, (), notation)
    values = set(texts).difference(missing)
    kind = "text" if is_category else tables.kind_of(values)
    if kind == "boolean" and len(values) == 2:
        return Column(name, np.array([tables.BOOLEANS.get(text.lower(), np.nan) for text in texts]))
    if kind == "date":
        return "dates"
    if len(values) > max_categories:
        return f"{len(values):,} different texts"
    return encoding.categories_of(name, texts, missing)


def _targets(
    read: Table, name: str, kind: str, missing: Collection[str], style: Style
) -> tuple[Tensor, tuple[str, ...], Notation]:
    """((N,) classes or (N, 1) values, class names, the notation of numbers)."""
    texts = read.columns[name]
    if kind == "values":
        numbers = _numbers(read, name, missing, style, is_target=True)
        if numbers is None:
            text = f"{read.place([0], name)} is not a number, got {texts[0]!r}"
            what = "dates" if tables.kind_of(texts) == "date" else "texts"
            unit = unit_of(set(texts))
            text += f"; take {unit!r} out of it" if unit else "; make it a number"
            raise DataError(f"data.target: {text}, or learn its {what} as classes: data.kind=classes")
        return torch.from_numpy(numbers[0]).float()[:, None], (), numbers[1]
    values, notation = None, PLAIN
    with suppress(ValueError):  # class names that are not numbers in one notation
        if reading := tables.reading_of(read, name, missing, style):
            values, notation = reading[0], reading[1].notation
    keys = texts if values is None else values
    different = list(dict.fromkeys(keys))
    if len(different) > len(texts) // 2:
        text = f"{read.path} has {len(different):,} different {name} in {len(texts):,} rows"
        few = "; there are too few rows to learn from" if len(texts) < _FEW_ROWS else ""
        raise DataError(f"data.target: {text}, too many for classes, such as {texts[0]!r}{few}")
    if len(different) < 2:
        text = f"has one {name} in all rows, {texts[0]!r}: nothing to learn"
        raise DataError(f"data.target: {read.path} {text}")
    place = {label: number for number, label in enumerate(sorted(different))}  # type: ignore[type-var]
    named = dict(zip(keys, texts, strict=True))
    return torch.tensor([place[label] for label in keys]), tuple(named[label] for label in place), notation


def _numbers(
    read: Table, name: str, missing: Collection[str], style: Style, is_target: bool = False
) -> tuple[np.ndarray, Notation] | None:
    """A column's numbers and their notation; None where it holds no numbers.

    Raises DataError naming a text among numbers, 10 % at most, an infinite one, and where two notations fit.
    """
    key = "data.target" if is_target else "data.path"
    columns = [override("data.ignore", [name]), override("data.categorical", [name])]
    others = ["data.kind=classes"] if is_target else columns
    try:
        reading = tables.reading_of(read, name, missing, style)
    except UnclearNotationError as error:
        place = read.place([read.columns[name].index(error.text)], name)
        raise DataError(f"{key}: {place} {error}, or {' or '.join(others)}") from None
    except ValueError as error:
        odd = set(error.args)
        rows = [row for row, text in enumerate(read.columns[name]) if text in odd]
        got = read.columns[name][rows[0]]
        most = "" if is_target else " as nearly all of it"
        text = f"{read.place(rows, name)} is not a number{most}, got {got!r}"
        raise DataError(f"{key}: {text}; fix it, or {', or '.join(others)}") from None
    if reading is None:
        return None
    array = np.array(reading[0])
    encoding.refuse_infinite(read, name, array)
    return array, reading[1].notation


def _pointed(read: Table, notations: Mapping[str, Notation]) -> dict[str, int]:
    """Columns in which every point may separate thousands, as in 1.234, each with a row that has one."""
    pointed = {}
    for name, notation in notations.items():
        if notation == PLAIN and name in read.numbers and name not in read.typed:
            rows = (row for row, text in enumerate(read.columns[name]) if "." in text)
            first = next(rows, None)
            if first is not None and all(is_grouped(read.columns[name][row]) for row in chain([first], rows)):
                pointed[name] = first
    return pointed


def _written(read: Table, target: str, notations: Mapping[str, Notation], style: Style) -> tuple[str, ...]:
    """Notes on columns whose numbers are not in plain notation, or may be read in two ways.

    Raises DataError for a column of 1.234 beside others with a decimal comma: it may be 1234.
    """
    notes = [f"read with {words}: {_listed(names)}" for words, names in grouped(notations).items()]
    wrapped = [
        name
        for name in notations
        if name not in read.numbers and any(text.endswith(")") for text in read.columns[name])
    ]
    notes += [f"(5) is read as -5: {_listed(wrapped)}"] if wrapped else []
    commas = [name for name, notation in notations.items() if notation.decimal == "comma"]
    for name, row in (_pointed(read, notations) if style == Style("auto", "auto") else {}).items():
        text = read.columns[name][row]
        if commas:
            two = f"{float(text):.15g} (data.thousands=none) or {text.replace('.', '')} (data.decimal=comma)"
            where = f"{read.place([row], name)} can be read in two ways: {text!r} is {two}"
            raise DataError(f"data.path: {where}; {commas[0]} has a decimal comma")
        notes.append(f"{name}: {text} is read as {float(text):.15g}; if it is thousands, data.decimal=comma")
    led = [
        name
        for name in notations
        if name in read.numbers
        and name != target
        and any(text[:1] == "0" and text[1:2].isdigit() for text in read.columns[name][:_LOOKED_AT])
    ]
    if led:
        fix = override("data.categorical", led)
        notes.append(f"numbers that begin with 0: {_listed(led)}; if they are names, as of postcodes: {fix}")
    return tuple(notes)


def _notes(
    target: str,
    names: tuple[str, ...],
    why: str,
    columns: Sequence[Column],
    features: Sequence[Feature],
    left_out: Mapping[str, str],
) -> tuple[str, ...]:
    """Notes on how the table is read."""
    learned = f"one of {len(names)} classes ({_listed(names)})" if names else "a value"
    notes = [f"{target} is learned as {learned}: {why}"]
    numbers = [column.name for column in columns if not column.categories]
    spread = []
    for column, feature in zip(columns, features, strict=True):
        own, count = len(feature.categories), len(column.categories)
        if count:
            spread.append(f"{column.name} ({own} of {count})" if own < count else f"{column.name} ({count})")
    parts = [f"{len(numbers)} of numbers: {_listed(numbers)}"] if numbers else []
    parts += [f"{len(spread)} of categories: {_listed(spread)}"] if spread else []
    inputs = _count(sum(len(feature.inputs) for feature in features), "input")
    notes.append(f"{inputs} from {_count(len(columns), 'column')}, {'; '.join(parts)}")
    if ids := [column.name for column in columns if _is_id(column)]:
        text = f"{_listed(ids)}: another whole number in every row, as a row's number or id, and learned from"
        notes.append(f"{text}; to leave it out: {override('data.ignore', ids)}")
    gaps = [f"{column.name} {int(column.missing.sum())}" for column in columns if column.missing.any()]
    if gaps:
        notes.append(f"missing, filled by the training split's mean or most frequent: {_listed(gaps)}")
    if line := _left_out_text(left_out):
        notes.append(line.removeprefix("; "))
    return tuple(notes)


def _is_id(column: Column) -> bool:
    """Whether a column of numbers counts the rows, or is named an id and never repeats a whole number."""
    values = column.values
    if column.categories or len(values) < _FEW_IDS or column.missing.any() or (values % 1).any():
        return False
    ordered = np.sort(values)
    steps = np.diff(ordered)
    is_named = re.search(r"(^|[^a-z])id([^a-z]|$)", column.name.lower()) or column.name.endswith("Id")
    return bool((steps == 1).all() or (is_named and (steps > 0).all()))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _left_out_text(left_out: Mapping[str, str]) -> str:
    reasons = [f"{name} ({why})" for name, why in left_out.items() if why]
    return f"; left out: {_listed(reasons)}" if reasons else ""


def _near(name: str, read: Table) -> str:
    names = list(read.columns)
    if read.layout and not read.layout.header:
        return f"with data.header=false they are {names[0]} to {names[-1]}"
    if read.layout and tables.are_values(names):
        text = f"its first line looks like a row of values ({_listed(names)})"
        return f"{text}; if no line names the columns, data.header=false names them c1 to c{len(names)}"
    near = get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else f"there are {_listed(names)}"
