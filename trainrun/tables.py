"""Tables as columns of text, and what kind each column is; csv needs nothing but Python, parquet pyarrow."""

from __future__ import annotations

import csv
import gc
import math
import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from trainrun.errors import ConfigError, DataError

_DELIMITERS = ",;\t|"
BOOLEANS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0, "t": 1.0, "f": 0.0, "y": 1.0, "n": 0.0}
_DATE = re.compile(r"\d{1,4}([/.-])\d{1,2}\1\d{1,4}([ T].*)?")
_FEW = 10  # different whole numbers that are still classes
_PLACES = 5  # rows of one fault that are named
_MOST = 0.9  # of a column's different texts are numbers: the rest are mistakes
_BLOCK = 100  # rows turned into columns at a time: few enough to stay in the processor's cache


@dataclass(frozen=True)
class Table:
    """Rows by named columns; every value a text without spaces around it.

    `numbers` has the columns that hold nothing else, NaN where a value is missing: made with the
    texts, while those are in the processor's cache, in half the time that it takes afterwards.
    """

    path: Path
    columns: dict[str, list[str]]
    numbers: dict[str, array[float]]
    delimiter: str | None  # None: parquet, which has rows and no lines

    def place(self, rows: Sequence[int], column: str) -> str:
        """`houses.csv:17, 23: column price` of ascending rows; finds lines by reading the file again."""
        shown, separator = list(rows[:_PLACES]), " row "
        if self.delimiter:
            separator = ":"
            with self.path.open(encoding="utf-8-sig", newline="") as stream:
                reader = csv.reader(stream, delimiter=self.delimiter, strict=True)
                lines = (reader.line_num for row in reader if row)
                next(lines)  # that of the names
                read = islice(enumerate(lines), rows[0], shown[-1] + 1)
                shown = [line for row, line in read if row in shown]
        more = f" and {len(rows) - _PLACES:,} more" if len(rows) > _PLACES else ""
        return f"{self.path}{separator}{', '.join(map(str, shown))}{more}: column {column}"


def read(path: str, delimiter: str | None, missing: Collection[str], only: str | None = None) -> Table:
    """A parquet file by its suffix, else a csv file whose first line names the columns; `only` one of them.
    `missing` are the texts that stand for no value.

    Raises DataError naming the file, and the line where one is at fault.
    """
    file = Path(path).expanduser()
    if file.exists() and not file.is_file():
        raise DataError(f"data.path: {file} is a folder, a pipe or a device, not a file")
    was_on = gc.isenabled()
    gc.disable()  # it would look through millions of texts again and again, which takes longer than reading
    try:
        if file.suffix in (".parquet", ".pq"):
            return _parquet(file, missing, only)
        return _csv(file, delimiter, missing, only)
    except UnicodeDecodeError as error:
        raise DataError(
            f"data.path: {file} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from None
    except OSError as error:
        raise DataError(f"data.path: cannot read {file}: {error.strerror or error}") from None
    finally:
        if was_on:
            gc.enable()


def numbers(column: Iterable[str], missing: Collection[str]) -> array[float] | None:
    """A column of numbers, NaN where one is missing; None for any other."""
    try:
        return array("d", [math.nan if text in missing else float(text) for text in column])
    except ValueError:
        return None


def is_number(text: str) -> bool:
    """Whether a text is one number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def kind_of(texts: Iterable[str]) -> str:
    """What different texts are together: "number", "boolean", "date", "text", or "empty" without any.

    Raises ValueError with the odd ones where nearly all are numbers.
    """
    found = set(texts)
    if not found:
        return "empty"
    if len(found) <= 2 and {text.lower() for text in found} <= BOOLEANS.keys():
        return "boolean"
    if numbers(found, ()) is not None:
        return "number"
    odd = [text for text in found if not is_number(text)]
    if all(map(_DATE.fullmatch, found)):
        return "date"
    if len(found) - len(odd) >= _MOST * len(found):
        raise ValueError(*odd)
    return "text"


def target_kind(column: Sequence[str], missing: Collection[str]) -> tuple[str, int, str]:
    """("classes" or "values", how many different ones, why) of a column to predict.

    Texts and booleans are classes, and so are up to 10 different whole numbers.
    """
    found = set(column).difference(missing)
    try:
        kind = kind_of(found)
    except ValueError:
        kind = "number"  # whoever reads its values will name those that are none
    if kind != "number":
        return (
            "classes",
            len(found),
            f"it holds {len(found)} different {'texts' if kind == 'text' else 'values'}",
        )
    values = set(numbers(found, ()) or map(float, filter(is_number, found)))
    if len(values) <= _FEW and all(value.is_integer() for value in values):
        return "classes", len(values), f"it holds {len(values)} different whole numbers"
    return "values", len(values), f"it holds {len(values):,} different numbers"


def _csv(file: Path, delimiter: str | None, missing: Collection[str], only: str | None) -> Table:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        first = stream.readline()
        stream.seek(0)
        delimiter = delimiter or max(_DELIMITERS, key=first.count)
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            _check_header(file, header)
            names = [only] if only in header else header
            table = Table(file, {name: [] for name in names}, {name: array("d") for name in names}, delimiter)
            _fill(table, header, filter(None, reader), missing)
        except csv.Error as error:
            raise DataError(f"data.path: {file}:{reader.line_num}: {error}") from None
    if not any(table.columns.values()):
        raise DataError(f"data.path: {file} has no row below its first line")
    return table


def _fill(table: Table, header: Sequence[str], rows: Iterator[list[str]], missing: Collection[str]) -> None:
    """Add the values of all rows to the table's columns. Raises DataError for one of another length."""
    count, readable = 0, dict.fromkeys(missing, "nan").get
    places = [header.index(name) for name in table.columns]
    while block := list(islice(rows, _BLOCK)):
        if set(map(len, block)) != {len(header)}:
            at = next(at for at, row in enumerate(block) if len(row) != len(header))
            text = f"has {len(block[at])} values, and the first line names {len(header)} columns"
            raise DataError(f"data.path: {table.place([count + at], header[0]).rpartition(':')[0]}: {text}")
        whole = len(places) == len(header)
        columns = zip(*block, strict=True) if whole else ([row[at] for row in block] for at in places)
        for name, texts in zip(table.columns, columns, strict=True):
            values = list(map(str.strip, texts))
            table.columns[name].extend(values)
            if name in table.numbers:
                try:
                    table.numbers[name].extend(map(float, map(readable, values, values)))
                except ValueError:
                    del table.numbers[name]
        count += len(block)


def _parquet(file: Path, missing: Collection[str], only: str | None) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        text = "parquet needs pyarrow: pip install 'trainrun[tables]'"
        raise ConfigError.one("data.path", text) from None
    try:
        with file.open("rb") as stream:
            loaded = parquet.read_table(stream)
    except ArrowException as error:
        raise DataError(f"data.path: {file} is not parquet that can be read: {error}") from None
    _check_header(file, loaded.column_names)
    if not len(loaded):
        raise DataError(f"data.path: {file} has no rows")
    names = [only] if only and only in loaded.column_names else loaded.column_names
    texts = {
        name: ["" if value is None else str(value).strip() for value in loaded[name].to_pylist()]
        for name in names
    }
    found = {name: values for name in names if (values := numbers(texts[name], missing)) is not None}
    return Table(file, texts, found, None)


def _check_header(file: Path, names: Sequence[str]) -> None:
    if not any(names):
        raise DataError(f"data.path: {file} is empty; its first line should name the columns")
    for at, name in enumerate(names):
        if not name or name in names[:at]:
            text = f"names column {name!r} twice" if name else f"gives column {at + 1} no name"
            raise DataError(f"data.path: {file}:1: the first line {text}")
