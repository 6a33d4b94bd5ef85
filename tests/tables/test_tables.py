"""Files as columns of text: read as the csv module says, kinds told, damage named with its line."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from trainrun.tables.notation import Style
from trainrun.tables.tables import Format, kind_of, numbers, read, target_kind
from trainrun.vocabulary.errors import ConfigError, DataError

AUTO = Format("auto", "auto", True)


def write(folder: Path, text: str | bytes, name: str = "t.csv") -> str:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(file)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"], ids=["comma", "semicolon", "tab", "bar"])
def test_columns_are_found_whatever_stands_between_them(tmp_path: Path, delimiter: str) -> None:
    lines = [["a", "b c"], ["1", " x "], ["", '"two\nlines"'], ["3", '"say ""hi"""']]
    table = read(write(tmp_path, "\n".join(delimiter.join(line) for line in lines)), AUTO, [])
    assert table.columns == {"a": ["1", "", "3"], "b c": ["x", "two\nlines", 'say "hi"']}


def test_a_byte_order_mark_and_blank_lines_are_no_data(tmp_path: Path) -> None:
    table = read(write(tmp_path, b"\xef\xbb\xbfa,b\r\n1,2\r\n\r\n3,4\r\n"), AUTO, [])
    assert table.columns == {"a": ["1", "3"], "b": ["2", "4"]}
    assert table.place([1], "b").endswith("t.csv:4: column b")


def test_one_column_alone_is_the_same_column(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n1,2\n3,4\n")
    assert read(path, AUTO, [], only="b").columns == {"b": ["2", "4"]}
    assert read(path, AUTO, [], only="c").columns == read(path, AUTO, []).columns


@pytest.mark.parametrize("rows", [3, 250])
def test_numbers_are_those_of_the_columns_that_hold_nothing_else(tmp_path: Path, rows: int) -> None:
    lines = [f"{n / 7!r},{'NA' if n % 3 else n},{'x' if n == rows - 1 else n},  {n} " for n in range(rows)]
    table = read(write(tmp_path, "\n".join(["a,b,c,d", *lines])), AUTO, ["", "NA"])
    assert list(table.numbers) == ["a", "b", "d"]  # c is none because of its last row
    np.testing.assert_array_equal(table.numbers["a"], [n / 7 for n in range(rows)])
    np.testing.assert_array_equal(table.numbers["b"], [np.nan if n % 3 else n for n in range(rows)])
    np.testing.assert_array_equal(table.numbers["d"], range(rows))
    assert table.columns["b"][:3] == ["0", "NA", "NA"]
    for name, texts in table.columns.items():
        after = numbers(texts, ["", "NA"])
        assert after is None if name == "c" else after is not None
        np.testing.assert_array_equal(table.numbers.get(name, 0), 0 if after is None else after)


SEPARATED = {
    "spaces": "x y\n 1   2 \n\t3 4\n",
    "the line of Excel": "sep=;\nx;y\n1;2\n3;4\n",
    "names with commas": "x;y\n1;2\n3;4\n",
}


@pytest.mark.parametrize("name", SEPARATED)
def test_the_separator_is_found(tmp_path: Path, name: str) -> None:
    table = read(write(tmp_path, SEPARATED[name]), AUTO, [])
    assert table.columns == {"x": ["1", "3"], "y": ["2", "4"]}
    line = SEPARATED[name].splitlines().index(next(x for x in SEPARATED[name].splitlines() if "3" in x)) + 1
    assert table.place([1], "y").endswith(f"t.csv:{line}: column y")


def test_rows_of_one_length_decide_between_separators(tmp_path: Path) -> None:
    table = read(write(tmp_path, "area, m2;price\n1,5;2\n3;4\n"), AUTO, [])
    assert table.columns == {"area, m2": ["1,5", "3"], "price": ["2", "4"]}


@pytest.mark.parametrize(("word", "mark"), [("semicolon", ";"), ("tab", "\t"), ("space", " "), ("^", "^")])
def test_the_separator_is_told_in_words(tmp_path: Path, word: str, mark: str) -> None:
    text = f"x,1{mark}y,2\n1{mark}2\n"
    table = read(write(tmp_path, text), Format(word, "auto", True), [])
    assert table.columns == {"x,1": ["1"], "y,2": ["2"]}


def test_columns_without_names_are_numbered(tmp_path: Path) -> None:
    table = read(write(tmp_path, "1,a\n2,b\n"), Format("auto", "auto", False), [])
    assert table.columns == {"c1": ["1", "2"], "c2": ["a", "b"]}
    assert table.place([1], "c1").endswith("t.csv:2: column c1")
    with pytest.raises(
        DataError, match=r"names column '0' twice; it looks like a row of .*data\.header=false"
    ):
        read(write(tmp_path, "0,0,1.5\n1,2,3\n"), AUTO, [])


def test_places_count_lines_of_the_file(tmp_path: Path) -> None:
    table = read(write(tmp_path, 'a,b\n"x\ny",1\n2,3\n'), AUTO, [])
    assert table.place([1], "b").endswith("t.csv:4: column b")


DAMAGED = {
    "": "is empty",
    "a,b\n": "no row below",
    "a,b\n1,2\n3\n": r"t\.csv:3: has 1 values, but the first line names 2",
    "a,b\n1,2\n\n3,4,5\n": r"t\.csv:4: has 3 values",
    "a,a\n1,2\n": r"t\.csv:1: the first line names column 'a' twice",
    "a,\n1,2\n": r"t\.csv:1: the first line gives column 2 no name",
    ",a\n0,1\n": r"gives column 1 no name; .*pandas writes its index like this",
    "a,b\n1,5,2\n3,5,4\n": r"t\.csv:2: has 3 values, .* all rows do: a decimal comma",
    'a,b\n1,"2\n': r"t\.csv:2: unexpected end of data",
}


@pytest.mark.parametrize("case", range(len(DAMAGED)))
def test_damage_is_named(tmp_path: Path, case: int) -> None:
    text, message = list(DAMAGED.items())[case]
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, text.encode("latin-1")), AUTO, [])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*absent\.csv: No such file"):
        read(str(tmp_path / "absent.csv"), AUTO, [])


KINDS = {
    "boolean": ["Yes", "no"],
    "date": ["2024-01-31", "2024-02-01 10:00"],
    "text": ["north", "1"],
    "empty": [],
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str) -> None:
    assert kind_of(KINDS[kind]) == kind


def test_missing_numbers_are_nan() -> None:
    values = numbers(["1", "NA", "2.5"], {"NA"})
    np.testing.assert_array_equal(values, [1, np.nan, 2.5])
    assert numbers(["1", "NA"], ()) is None


TARGETS = {
    "texts": (["no", "yes", "no", "x"], ("classes", 3)),
    "booleans": (["True", "False"], ("classes", 2)),
    "whole numbers and a dash": ([*map(str, range(10)), "-"], ("classes", 10)),
    "whole numbers and a word": ([*map(str, range(10)), "x"], ("classes", 10)),
    "few whole numbers": (["3", "4.0", "4", "5"], ("classes", 3)),
    "many whole numbers": ([str(n) for n in range(11)], ("values", 11)),
    "fractions": (["0.5", "1"], ("values", 2)),
    "fractions with a decimal comma": (["0,5", "1", "1,0"], ("values", 2)),
    "few whole numbers with thousands": (["1 000", "1000", "2 000"], ("classes", 2)),
    "many with currency": ([f"${n},000.50" for n in range(1, 12)], ("values", 11)),
    "two readings": (["1,234", "2,345"], ("values", 2)),
    "dates": (["2024-01-31", "2024-02-01"], ("values", 2)),
    "words for yes and no": (["ja", "nein"], ("classes", 2)),
    "grades": (["1-", "2+", "3"], ("classes", 3)),
    "labels with a sign": (["A+", "A-"], ("classes", 2)),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_targets_kind_follows_from_its_values(name: str, tmp_path: Path) -> None:
    column, expected = TARGETS[name]
    table = read(write(tmp_path, "\n".join(["y;x", *(f"{text};0" for text in column)])), AUTO, [""])
    assert target_kind(table, "y", {""}, Style("auto", "auto"))[:2] == expected


def test_parquet_is_read_as_the_same_texts(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet is read by pyarrow, which is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"a": [1.5, None], "b": ["x", None], "c": [True, False]})
    parquet.write_table(table, tmp_path / "t.parquet")
    loaded = read(str(tmp_path / "t.parquet"), AUTO, [])
    assert loaded.columns == {"a": ["1.5", ""], "b": ["x", ""], "c": ["True", "False"]}
    assert loaded.place([1], "b").endswith("t.parquet row 1: column b")


def test_parquet_without_its_reader_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'trainrun\[tables\]'"):
        read(write(tmp_path, b"PAR1", "t.parquet"), AUTO, [])
