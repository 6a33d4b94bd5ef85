"""Read csv and parquet tables as columns of text, and find what kind each column is."""

from __future__ import annotations

import csv
import gc
import math
import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainrun.tables.notation import (
    PLAIN,
    Notation,
    NumberReading,
    Style,
    UnclearNotationError,
    find_notation,
    unit_of,
)
from trainrun.tables.source import TableSource, examine
from trainrun.vocabulary.errors import ConfigError, DataError

if TYPE_CHECKING:
    from _csv import Reader

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "space": " "}
BOOLEANS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0, "t": 1.0, "f": 0.0, "y": 1.0, "n": 0.0}
_DATE = re.compile(r"\d{1,4}([/.-])\d{1,2}\1\d{1,4}([ T].*)?")
# Different whole numbers that are still classes, as the ten digits are; more are rather counts or ages.
_FEW = 10
_PLACES = 5  # rows of one fault that are named
_SAMPLED = 20  # rows by which the delimiter is chosen: enough to meet a quoted one, no second of reading
_BLOCK = 100  # rows turned into columns at a time: few enough to stay in the processor's cache


@dataclass(frozen=True)
class Format:
    """How a csv file is written. `separator`: a name in DELIMITERS, the character itself, or auto."""

    separator: str
    encoding: str  # a name that Python knows, or auto
    header: bool  # the first line names the columns


@dataclass(frozen=True)
class _Csv:
    """A csv file as rows of texts."""

    source: TableSource
    delimiter: str
    starts_with_sep: bool  # its first line is Excel's `sep=;`
    header: bool

    def rows(self, lines: Iterable[str]) -> Reader:
        """The rows below that of Excel; spaces may stand several together."""
        lines = (" ".join(line.split()) for line in lines) if self.delimiter == " " else lines
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
        if self.starts_with_sep:
            next(reader)
        return reader

    def notes(self, header: Sequence[str]) -> tuple[str, ...]:
        """What is unusual about the file."""
        notes = list(self.source.notes)
        if self.delimiter == " ":
            notes.append("its values are separated by spaces")
        if not self.header:
            names = f"{header[0]} to {header[-1]}"
            notes.append(f"data.header=false: its first line is a row, the columns are {names}")
        return tuple(notes)


@dataclass(frozen=True)
class Table:
    """Rows by named columns; every value a text without spaces around it.

    `numbers` has the columns that hold nothing else, NaN where one is missing: made with the texts,
    while those are in the processor's cache, in half the time that it takes afterwards.
    """

    path: Path
    columns: dict[str, list[str]]
    numbers: dict[str, array[float]]
    layout: _Csv | None  # None: parquet, which has rows and no lines
    typed: Collection[str]  # columns that the file itself stores as numbers
    notes: tuple[str, ...]  # what is unusual about the file
    rows: Sequence[int] | None  # of the file, where some are left out

    def place(self, rows: Sequence[int], column: str) -> str:
        """`houses.csv:17, 23: column price` of ascending rows; finds lines by reading the file again."""
        shown, separator = list(rows[:_PLACES]), " row "
        shown = [self.rows[row] for row in shown] if self.rows else shown
        if self.layout:
            separator = ":"
            with self.layout.source.text() as stream:
                reader = self.layout.rows(stream)
                lines = (reader.line_num for row in reader if row)
                if self.layout.header:
                    next(lines)
                read = islice(enumerate(lines), shown[0], shown[-1] + 1)
                shown = [line for row, line in read if row in shown]
        more = f" and {len(rows) - _PLACES:,} more" if len(rows) > _PLACES else ""
        return f"{self.path}{separator}{', '.join(map(str, shown))}{more}: column {column}"

    def without(self, rows: Sequence[int]) -> Table:
        """The same table with some rows left out."""
        gone = set(rows)
        rows = [row for row in range(len(next(iter(self.columns.values())))) if row not in gone]
        columns = {name: [texts[row] for row in rows] for name, texts in self.columns.items()}
        numbers = {name: array("d", [values[row] for row in rows]) for name, values in self.numbers.items()}
        return replace(self, columns=columns, numbers=numbers, rows=rows)


def read(path: str, format: Format, missing: Collection[str], only: str | None = None) -> Table:
    """Read a parquet or csv file, whichever its bytes say; `only` one of the columns.

    `missing` are texts that stand for no value. Raises DataError naming the file and the line at fault.
    """
    file = Path(path).expanduser()
    was_on = gc.isenabled()
    gc.disable()  # it would look through millions of texts again and again, which takes longer than reading
    try:
        source = examine(file, format.encoding)
        if source.is_parquet or file.suffix in (".parquet", ".pq"):
            return _parquet(source, missing, only)
        try:
            return _csv(source, format, missing, only)
        except UnicodeDecodeError as error:
            return _csv(source.as_legacy(error), format, missing, only)
    except OSError as error:
        raise DataError(f"data.path: cannot read {file}: {error.strerror or error}") from None
    finally:
        if was_on:
            gc.enable()


def reading_of(
    table: Table, name: str, missing: Collection[str], style: Style
) -> tuple[array[float], NumberReading] | None:
    """The numbers of a column, NaN where one is missing, and how they were read; None for any other column.

    Raises Unclear and ValueError as `find_notation` does.
    """
    plain = table.numbers.get(name)
    is_plain = style.allows_plain or name in table.typed
    if plain is not None and (is_plain or not any("." in text for text in table.columns[name])):
        return plain, NumberReading(PLAIN, frozenset(), {})
    texts = [text for text in dict.fromkeys(table.columns[name]) if text not in missing]
    if kind_of(texts) != "text" or (reading := find_notation(texts, style)) is None:
        return None
    return array("d", [reading.values.get(text, math.nan) for text in table.columns[name]]), reading


def numbers_like(texts: Sequence[str], notation: Notation, missing: Collection[str]) -> array[float] | None:
    """The numbers of a column in this notation, NaN where one is missing; None where a text is none."""
    try:
        values = {text: notation.number(text) for text in dict.fromkeys(texts) if text not in missing}
    except ValueError:
        return numbers(texts, missing) if notation == PLAIN else None
    return array("d", [values.get(text, math.nan) for text in texts])


def numbers(column: Iterable[str], missing: Collection[str]) -> array[float] | None:
    """A column of numbers, NaN where one is missing; None for any other."""
    try:
        return array("d", [math.nan if text in missing else float(text) for text in column])
    except ValueError:
        return None


def kind_of(texts: Iterable[str]) -> str:
    """The kind of different texts that are no numbers: "boolean", "date", "text", or "empty" without any."""
    distinct = set(texts)
    if not distinct:
        return "empty"
    if len(distinct) <= 2 and {text.lower() for text in distinct} <= BOOLEANS.keys():
        return "boolean"
    return "date" if all(map(_DATE.fullmatch, distinct)) else "text"


def target_kind(table: Table, name: str, missing: Collection[str], style: Style) -> tuple[str, int, str]:
    """("classes" or "values", how many different ones, why) of a column to predict.

    Texts and booleans are classes, and so are up to 10 different whole numbers.
    """
    distinct = set(table.columns[name]).difference(missing)
    values: Iterable[float] | None
    try:
        reading = reading_of(table, name, missing, style)
        values = reading[0] if reading else ()
    except UnclearNotationError:
        values = None
    except ValueError as error:
        values = numbers(distinct.difference(error.args), ())
    if values is None:  # whoever reads them will name those that are no numbers
        return "values", len(distinct), f"it holds {len(distinct):,} different numbers"
    if different := {value for value in set(values) if not math.isnan(value)}:
        if len(different) <= _FEW and all(value.is_integer() for value in different):
            return "classes", len(different), f"it holds {len(different)} different whole numbers"
        return "values", len(different), f"it holds {len(different):,} different numbers"
    kind = kind_of(distinct)
    if kind == "date" or (len(distinct) > _FEW and unit_of(distinct)):
        return "values", len(distinct), "it holds dates" if kind == "date" else "it holds numbers with a unit"
    noun = "texts" if kind == "text" else "values"
    return "classes", len(distinct), f"it holds {len(distinct)} different {noun}"


def _csv(source: TableSource, format: Format, missing: Collection[str], only: str | None) -> Table:
    with source.text() as stream:
        begin = list(islice(stream, _SAMPLED))
        layout = _layout(source, format, begin)
        reader = layout.rows(chain(begin, stream))
        try:
            first = [name.strip() for name in next(reader, [])]
            header = first if layout.header else [f"c{column}" for column in range(1, len(first) + 1)]
            _check_header(source.path, header)
            names = [only] if only is not None and only in header else header
            columns: dict[str, list[str]] = {name: [] for name in names}
            values = {name: array("d") for name in names}
            table = Table(source.path, columns, values, layout, (), layout.notes(header), None)
            rows: Iterator[list[str]] = filter(None, reader if layout.header else chain([first], reader))
            _fill(table, header, rows, missing)
        except csv.Error as error:
            raise DataError(f"data.path: {source.path}:{reader.line_num}: {error}") from None
    if not any(table.columns.values()):
        raise DataError(f"data.path: {source.path} has no row below its first line")
    return table


def _layout(source: TableSource, format: Format, lines: Sequence[str]) -> _Csv:
    """How the rows are separated: as the settings or Excel's own line say, else by the first rows."""
    named = re.fullmatch(r"sep=(.)", lines[0].strip("\r\n") if lines else "")
    delimiter = DELIMITERS.get(format.separator, format.separator)
    if delimiter == "auto":
        delimiter = named[1] if named else _delimiter(lines)
    return _Csv(source, delimiter, bool(named), format.header)


def _delimiter(lines: Sequence[str]) -> str:
    """The most frequent of the first line, unless rows of one length need another."""
    first, *_ = lines or [""]
    marks = [mark for mark in DELIMITERS.values() if mark != " "]
    candidates = sorted(marks, key=first.count, reverse=True)
    used = [delimiter for delimiter in candidates if delimiter in first]
    if not used and " " in first.strip():
        return " " if len({len(line.split()) for line in lines if line.strip()}) == 1 else ","
    return next((delimiter for delimiter in used if _is_even(lines, delimiter)), candidates[0])


def _is_even(lines: Sequence[str], delimiter: str) -> bool:
    """Whether all rows have as many values, and more than one. The last may be cut."""
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter, strict=False) if row]
    except csv.Error:
        return False
    lengths = set(map(len, rows[:-1] if len(lines) == _SAMPLED else rows))
    return len(lengths) == 1 and lengths != {1}


def _fill(table: Table, header: Sequence[str], rows: Iterator[list[str]], missing: Collection[str]) -> None:
    """Add the values of all rows to the table's columns. Raises DataError for one of another length."""
    count, readable = 0, dict.fromkeys(missing, "nan").get
    places = [header.index(name) for name in table.columns]
    while block := list(islice(rows, _BLOCK)):
        if set(map(len, block)) != {len(header)}:
            index, odd = next((index, row) for index, row in enumerate(block) if len(row) != len(header))
            place = table.place([count + index], header[0]).rpartition(":")[0]
            text = f"has {len(odd)} values, but the first line names {len(header)} columns"
            if len(set(map(len, block))) == 1:
                text += "; all rows do: a decimal comma, or a comma in a text, needs quotes or data.separator"
            raise DataError(f"data.path: {place}: {text}")
        whole = len(places) == len(header)
        columns = zip(*block, strict=True) if whole else ([row[place] for row in block] for place in places)
        for name, texts in zip(table.columns, columns, strict=True):
            values = list(map(str.strip, texts))
            table.columns[name].extend(values)
            if name in table.numbers:
                try:
                    table.numbers[name].extend(map(float, map(readable, values, values)))
                except ValueError:
                    del table.numbers[name]
        count += len(block)


def _parquet(source: TableSource, missing: Collection[str], only: str | None) -> Table:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        text = "parquet needs pyarrow: pip install 'trainrun[tables]'"
        raise ConfigError.of("data.path", text) from None
    file = source.path
    try:
        with source.binary() as stream:
            loaded = parquet.read_table(stream)
    except pyarrow.ArrowException as error:
        raise DataError(f"data.path: {file} is not parquet that can be read: {error}") from None
    _check_header(file, loaded.column_names)
    if not len(loaded):
        raise DataError(f"data.path: {file} has no rows")
    names = [only] if only and only in loaded.column_names else loaded.column_names
    texts = {name: _texts(loaded[name], pyarrow) for name in names}
    numeric = {name: values for name in names if (values := numbers(texts[name], missing)) is not None}
    types = pyarrow.types
    tests = (types.is_integer, types.is_floating, types.is_decimal)
    typed = [name for name in names if any(test(loaded[name].type) for test in tests)]
    return Table(file, texts, numeric, None, typed, source.notes, None)


def _texts(column: Any, pyarrow: Any) -> list[str]:
    """A column of parquet as texts; Python's own dates hold no nanoseconds."""
    if pyarrow.types.is_duration(column.type):
        column = column.cast(pyarrow.int64())
    elif pyarrow.types.is_temporal(column.type):
        column = column.cast(pyarrow.string())
    return ["" if value is None else str(value).strip() for value in column.to_pylist()]


def _check_header(file: Path, names: Sequence[str]) -> None:
    if not any(names):
        raise DataError(f"data.path: {file} is empty; its first line should name the columns")
    for index, name in enumerate(names):
        if not name or name in names[:index]:
            text = f"names column {name!r} twice" if name else f"gives column {index + 1} no name"
            raise DataError(f"data.path: {file}:1: the first line {text}; {_remedy(names)}")


def are_values(names: Collection[str]) -> bool:
    """Whether column names look like values: half of them or more are numbers."""
    style = Style("auto", "none")
    return 2 * sum(bool(numbers([name], ()) or find_notation({name}, style)) for name in names) >= len(names)


def _remedy(names: Sequence[str]) -> str:
    if are_values([name for name in names if name]):
        return "it looks like a row of values; if no line names the columns, set data.header=false"
    what = "; pandas writes its index like this unless index=False" if not names[0] else ""
    what = "; each line may end with a separator" if not names[-1] else what
    return f"give each column a name of its own{what}"
