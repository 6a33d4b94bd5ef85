"""Tables of one's own: types found, gaps and categories handled, mistakes named by line and column."""

from __future__ import annotations

import csv
import shlex
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from sklearn import datasets

from trainrun.config.paths import CONF
from trainrun.data.sklearn import table as shipped
from trainrun.data.table import TableData, table
from trainrun.vocabulary.errors import ConfigError, DataError

ROWS = [
    [f"h{n}", f"2024-01-{n % 28 + 1:02d}", "const", ("oslo", "rome")[n % 2], n, n * 0.5] for n in range(40)
]
HEADER = ["id", "sold", "country", "city", "area", "price"]


def write(folder: Path, header: list[str], rows: list[list[Any]]) -> str:
    with (folder / "t.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return str(folder / "t.csv")


def load(path: str, target: str = "price", **changed: Any) -> TableData:
    node = yaml.safe_load((CONF / "data" / "csv.yaml").read_text())["data"]
    values = {key: value for key, value in node.items() if key not in ("_target_", "num_workers", "balanced")}
    return table(**(values | {"path": path, "target": target} | changed))


def test_types_are_found_and_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    data = load(write(tmp_path, HEADER, ROWS), categorical=[], max_categories=30)
    assert [feature.name for feature in data.features] == ["city", "area"]
    assert [name for feature in data.features for name in feature.inputs] == [
        "city=oslo",
        "city=rome",
        "area",
    ]
    assert data.info.input_shape == (3,)
    notes = "\n".join(data.info.notes)
    for text in (
        "price is learned as a value",
        "id (40 different texts)",
        "sold (dates)",
        "country (always the same)",
        "1 of numbers: area",
    ):
        assert text in notes


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "diabetes"])
def test_a_csv_of_a_known_table_is_that_table(tmp_path: Path, name: str) -> None:
    loaded = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    header = [f"x{n}" for n in range(loaded.data.shape[1])]
    rows = [[*map(repr, map(float, row)), y] for row, y in zip(loaded.data, loaded.target, strict=True)]
    data = load(write(tmp_path, [*header, "y"], rows), "y")
    expected = shipped(name, 0.15, 0.15, 0, None, 5, None, 64)  # type: ignore[arg-type]
    assert (data.info.kind, data.info.num_targets) == (expected.info.kind, expected.info.num_targets)
    assert torch.equal(data.targets, expected.targets)
    for split in ("train", "val", "test"):
        assert torch.equal(data.splits[split], expected.splits[split])
        pairs = zip(data.eval_batches(split), expected.eval_batches(split), strict=False)
        for mine, theirs in pairs:
            n = min(len(mine), len(theirs))
            torch.testing.assert_close(mine.inputs[:n], theirs.inputs[:n], atol=2e-5, rtol=1e-4)


def test_what_was_fitted_is_restored_and_not_fitted_again(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER, ROWS)
    first, second = load(path, split_seed=0), load(path, split_seed=1)
    assert not torch.equal(first.inputs, second.inputs)
    second.restore(first.fitted())
    assert torch.equal(first.inputs, second.inputs)


def test_numbers_that_are_names_are_categories_when_told(tmp_path: Path) -> None:
    rows = [[n % 3, n * 0.5] for n in range(30)]
    data = load(write(tmp_path, ["zone", "price"], rows), categorical=["zone"])
    assert [name for feature in data.features for name in feature.inputs] == ["zone=0", "zone=1", "zone=2"]
    np.testing.assert_array_equal(data.inputs.argmax(1), [n % 3 for n in range(30)])


def test_classes_of_numbers_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    rows = [[n * 0.1, (10, 9, "9.0")[n % 3]] for n in range(30)]
    data = load(write(tmp_path, ["x", "y"], rows), "y")
    assert [float(name) for name in data.info.class_names] == [9, 10]
    assert data.targets.tolist() == [(1, 0, 0)[n % 3] for n in range(30)]


def test_a_target_is_learned_as_told(tmp_path: Path) -> None:
    rows = [[n * 0.1, n % 4] for n in range(40)]
    path = write(tmp_path, ["x", "y"], rows)
    assert load(path, "y").info.kind == "classes"
    as_values = load(path, "y", kind="values")
    assert (as_values.info.kind, as_values.targets.shape) == ("values", (40, 1))


def german(value: float) -> str:
    return f"{value:,.2f}".replace(",", "_").replace(".", ",").replace("_", ".")


@pytest.mark.parametrize("target", ["price", "area"])
def test_a_table_in_another_notation_is_the_same_table(tmp_path: Path, target: str) -> None:
    rows = [(1000.5 + 37.25 * n, -n / 4, n % 7 / 4, ("oslo", "rome")[n % 2]) for n in range(1, 61)]
    header = ["price", "area", "share", "city"]
    plain = load(write(tmp_path, header, [list(row) for row in rows]), target)
    for name, written in {
        "german": [(f"{german(a)} €", german(b), f"{german(c)} %", d) for a, b, c, d in rows],
        "english": [(f"${a:,.2f}", f"({-b:,.3f})", f"{c:.2f}%", d) for a, b, c, d in rows],
        "swiss": [(f"CHF {a:,.2f}".replace(",", "\u2019"), f"\u2212{-b}", c, d) for a, b, c, d in rows],
    }.items():
        other = load(write(tmp_path, header, [list(row) for row in written]), target)
        assert other.info.fingerprint == plain.info.fingerprint, name
        assert any(note.startswith("read with") for note in other.info.notes)
    assert not any(note.startswith("read with") for note in plain.info.notes)


def test_the_plan_says_how_numbers_were_read(tmp_path: Path) -> None:
    rows = [[f"{n},5", german(1000 + n * 1.25), f"{n}%", f"0{n}"] for n in range(40)]
    notes = load(write(tmp_path, ["area", "price", "share", "zip"], rows)).info.notes
    assert "read with decimal comma, point between thousands: price" in notes
    assert "read with decimal comma: area" in notes
    assert "read with % (12% is 12): share" in notes
    assert any(note.startswith("numbers that begin with 0: zip; if they are names") for note in notes)


def test_numbers_left_in_categories_are_as_written(tmp_path: Path) -> None:
    rows = [[f"1,{200 + n % 2}", n * 0.5] for n in range(40)]
    path = write(tmp_path, ["code", "price"], rows)
    with pytest.raises(DataError, match=r"t\.csv:2: column code can be read in two ways.*'data\.categorical"):
        load(path)
    data = load(path, categorical=["code"])
    assert [name for feature in data.features for name in feature.inputs] == ["code=1,200", "code=1,201"]


def test_a_target_with_two_readings_is_refused_and_a_setting_decides(tmp_path: Path) -> None:
    path = write(tmp_path, ["x", "y"], [[n, f"{n + 1},{n + 100}"] for n in range(40)])
    with pytest.raises(
        DataError, match=r"data\.target: .*'1,100' is 1\.1 .*decimal=comma.* or 1100 .*=point"
    ):
        load(path, "y")
    assert load(path, "y", decimal="comma").targets[0].item() == pytest.approx(1.1)
    assert load(path, "y", decimal="point").targets[0].item() == 1100


def test_a_point_beside_decimal_commas_may_be_one_of_thousands(tmp_path: Path) -> None:
    rows = [[f"{n},5", f"{n + 1}.{n + 100}"] for n in range(40)]
    path = write(tmp_path, ["x", "y"], rows)
    with pytest.raises(
        DataError, match=r"t\.csv:2: column y .*'1\.100' is 1\.1 .* or 1100 .*x has a decimal comma"
    ):
        load(path, "y")
    assert load(path, "y", decimal="comma").targets[0].item() == 1100
    assert load(path, "y", thousands="none").targets[0].item() == pytest.approx(1.1)
    assert load(write(tmp_path, ["x", "y"], [["7.5", row[1]] for row in rows] + [["8", "1.5"]]), "y")
    alone = load(write(tmp_path, ["x", "y"], [[n, row[1]] for n, row in enumerate(rows)]), "y")
    assert alone.targets[0].item() == pytest.approx(1.1)  # as ever


def test_rows_without_a_target_are_dropped_when_told(tmp_path: Path) -> None:
    rows = [[n, n * 0.5 if n % 4 else ("", "NA", "-")[n // 4 % 3]] for n in range(60)]
    path = write(tmp_path, ["x", "y"], rows)
    with pytest.raises(DataError, match=r"t\.csv:2, 6, 10.* has no value; .* or data\.missing_target=drop"):
        load(path, "y")
    data = load(path, "y", missing_target="drop")
    assert "15 of 60 rows are left out because they have no y" in data.info.notes
    complete = [row for row in rows if row[0] % 4]
    assert data.targets[:, 0].tolist() == [row[1] for row in complete]
    assert data.info.fingerprint == load(write(tmp_path, ["x", "y"], complete), "y").info.fingerprint


def test_places_are_those_of_the_file_where_rows_were_dropped(tmp_path: Path) -> None:
    rows = [[n, "" if n < 5 else n * 0.5] for n in range(60)]
    rows[10][0] = "12 m"
    with pytest.raises(DataError, match=r"t\.csv:12: column x is not a number"):
        load(write(tmp_path, ["x", "y"], rows), "y", missing_target="drop")


@pytest.mark.parametrize(("num_texts", "is_mistake"), [(9, True), (10, True), (11, False)])
def test_up_to_a_tenth_of_texts_among_numbers_are_mistakes_and_more_are_categories(
    tmp_path: Path, num_texts: int, is_mistake: bool
) -> None:
    """90 % of numbers are enough for a column of numbers; one text more and all of it is texts."""
    rows = [[f"size {n}" if n < num_texts else n, n * 0.5] for n in range(100)]
    path = write(tmp_path, ["x", "y"], rows)
    if is_mistake:
        with pytest.raises(
            DataError, match=r"t\.csv:2, 3, 4.*: column x is not a number as nearly all of it"
        ):
            load(path, "y", max_categories=200)
    else:
        data = load(path, "y", max_categories=200, min_count=1)
        assert len(data.columns[0].categories) == 100


def test_a_dash_among_numbers_is_missing(tmp_path: Path) -> None:
    data = load(write(tmp_path, ["x", "y"], [[n if n % 5 else "-", n * 0.5] for n in range(60)]), "y")
    assert [name for feature in data.features for name in feature.inputs] == ["x", "x is missing"]
    assert any(note.startswith("missing, filled") and "x 12" in note for note in data.info.notes)


def test_a_table_without_a_line_of_names(tmp_path: Path) -> None:
    rows = [[n * 0.1, f"1,{n:02}", ("a", "b")[n % 2], n] for n in range(40)]
    path = write(tmp_path, [str(value) for value in rows[0]], rows[1:])
    with pytest.raises(
        ConfigError, match=r"no column medv; .*row of values \(0\.0, 1,00, a, 0\); .*header=false"
    ):
        load(path, "medv")
    data = load(path, "c4", header=False)
    assert data.targets[:, 0].tolist() == list(range(40))
    with pytest.raises(ConfigError, match=r"with data\.header=false they are c1 to c4"):
        load(path, "medv", header=False)


def test_dates_are_no_classes_unless_told(tmp_path: Path) -> None:
    path = write(tmp_path, ["x", "y"], [[n, f"2024-01-0{n % 3 + 1}"] for n in range(40)])
    with pytest.raises(DataError, match=r"'2024-01-01'; .*learn its dates as classes: data\.kind=classes"):
        load(path, "y")
    assert load(path, "y", kind="classes").info.num_targets == 3


def test_numbers_with_a_unit_are_no_classes_unless_told(tmp_path: Path) -> None:
    path = write(tmp_path, ["x", "y"], [[n, f"{n % 13},5 km"] for n in range(40)])
    with pytest.raises(
        DataError, match=r"is not a number, got '0,5 km'; take 'km' out of it, or learn .*kind="
    ):
        load(path, "y")
    assert load(path, "y", kind="classes").info.num_targets == 13


def test_points_that_may_stand_between_thousands_are_said(tmp_path: Path) -> None:
    data = load(write(tmp_path, ["x", "y"], [[f"{n + 1}.{n + 100}", n * 0.5] for n in range(40)]), "y")
    assert "x: 1.100 is read as 1.1; if it is thousands, data.decimal=comma" in data.info.notes


def test_brackets_are_said_to_be_negative(tmp_path: Path) -> None:
    data = load(write(tmp_path, ["x", "y"], [[f"({n + 1})", n * 0.5] for n in range(40)]), "y")
    assert "(5) is read as -5: x" in data.info.notes
    assert data.columns[0].values.tolist() == [-n - 1 for n in range(40)]


def test_what_is_advised_can_be_pasted_whatever_the_column_is_called(tmp_path: Path) -> None:
    name = "size (m2), it's"
    path = write(tmp_path, [name, "price"], [[f"1,{200 + n}", n * 0.5] for n in range(40)])
    with pytest.raises(DataError) as caught:
        load(path)
    words = shlex.split(str(caught.value).partition("or ")[2].partition("or ")[2])
    assert [word.partition("=")[0] for word in words if "=" in word] == ["data.ignore", "data.categorical"]
    for word in (word for word in words if "=" in word):
        assert OverridesParser.create().parse_override(word).value() == [name]


def test_a_constant_is_left_out_whatever_it_may_be(tmp_path: Path) -> None:
    data = load(write(tmp_path, ["c", "x", "y"], [["1,500", n, n * 0.5] for n in range(40)]), "y")
    assert [feature.name for feature in data.features] == ["x"]


def test_parquet_of_every_kind_of_column(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet is read by pyarrow, which is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    n = range(40)
    columns = {
        "amount": pyarrow.array([Decimal(i) / 4 for i in n], pyarrow.decimal128(10, 2)),
        "kind": pyarrow.array(["ab"[i % 2] for i in n]).dictionary_encode(),
        "day": pyarrow.array(list(n), pyarrow.date32()),
        "at": pyarrow.array([i * 10**9 + 1 for i in n], pyarrow.timestamp("ns")),
        "took": pyarrow.array([i * 3 for i in n], pyarrow.duration("ns")),
        "ok": pyarrow.array([i % 3 == 0 for i in n]),
        "euros": pyarrow.array([german(1000 + i / 4) for i in n]),
        "ratio": pyarrow.array([1 + (i + 100) / 1000 for i in n]),
        "y": pyarrow.array([i / 8 for i in n]),
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    for decimal in ("auto", "comma"):  # numbers that are stored as numbers have no notation
        data = load(str(tmp_path / "t.parquet"), "y", decimal=decimal)
        names = ["amount", "kind", "took", "ok", "euros", "ratio"]
        assert [column.name for column in data.features] == names
        values = {column.name: column.values for column in data.columns}
        np.testing.assert_allclose(values["euros"], [1000 + i / 4 for i in n], atol=0.006)
        np.testing.assert_allclose(values["amount"], [i / 4 for i in n])
        np.testing.assert_allclose(values["ratio"], [1 + (i + 100) / 1000 for i in n])
        assert any("day (dates), at (dates)" in note for note in data.info.notes)


def changed(row: int, column: int, value: str) -> list[list[Any]]:
    rows = [list(original) for original in ROWS]
    rows[row][column] = value
    return rows


MISTAKES: dict[str, tuple[list[list[Any]], dict[str, Any], str]] = {
    "text among numbers": (changed(3, 4, "12 m"), {}, r"t\.csv:5: column area is not a number .* '12 m'"),
    "text among targets": (changed(7, 5, "dear"), {}, r"t\.csv:9: column price is not a number, got 'dear'"),
    "infinite": (changed(0, 4, "inf"), {}, r"t\.csv:2: column area is not a finite number"),
    "no target": (changed(2, 5, ""), {}, r"t\.csv:4: column price has no value"),
    "no targets": (
        [[*row[:5], "" if number % 5 == 2 else row[5]] for number, row in enumerate(ROWS)],
        {},
        r"t\.csv:4, 9, 14, 19, 24 and 3 more: column price has no value; take these 8 rows out",
    ),
    "a single row": (ROWS[:1], {}, r"t\.csv has a single row: nothing can be learned"),
    "a single row with a target": (
        [ROWS[0], [*ROWS[1][:5], ""]],
        {"missing_target": "drop"},
        "has a single row with a value of price",
    ),
    "no target at all": (
        [[*row[:5], ""] for row in ROWS],
        {"missing_target": "drop"},
        "has no value of price in any row",
    ),
    "two notations": (
        [[*row[:4], f"{row[4]}.5" if row[4] % 2 else f"{row[4]},5", row[5]] for row in ROWS],
        {},
        r"t\.csv:\d: column area mixes notations, such as '[01].5' and '[01].5'; .*'data\.categorical=",
    ),
    "too many classes": (ROWS, {"target": "id"}, "40 different id in 40 rows"),
    "one class": (ROWS, {"target": "country"}, "one country in all rows"),
    "nothing to predict from": (
        ROWS,
        {"ignore": ["city", "area"], "max_categories": 30},
        "no column to predict",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named_by_line_and_column(tmp_path: Path, name: str) -> None:
    rows, settings, message = MISTAKES[name]
    with pytest.raises(DataError, match=message):
        load(write(tmp_path, HEADER, rows), **settings)


@pytest.mark.parametrize("key", ["target", "ignore", "categorical"])
def test_a_column_that_is_not_there_is_met_with_the_nearest(tmp_path: Path, key: str) -> None:
    wrong = {"target": "pricee", "ignore": ["pricee"], "categorical": ["pricee"]}[key]
    with pytest.raises(ConfigError, match=f"data.{key}.*no column pricee; did you mean price"):
        load(write(tmp_path, HEADER, ROWS), **{key: wrong})


@pytest.mark.parametrize(
    ("name", "numbers", "is_told"),
    [
        ("row", list(range(100, 140)), True),  # whatever it is called
        ("customer_id", [37 * n % 1009 for n in range(1, 41)], True),
        ("userId", [37 * n % 1009 for n in range(1, 41)], True),
        ("salary", [37 * n % 1009 for n in range(1, 41)], False),  # numbers that happen to differ
        ("humid", [37 * n % 1009 for n in range(1, 41)], False),
        ("id", [n // 2 for n in range(40)], False),  # of groups
        ("id", [n + 0.5 for n in range(40)], False),
    ],
)
def test_a_rows_id_that_is_learned_from_is_told(
    tmp_path: Path, name: str, numbers: list[Any], is_told: bool
) -> None:
    rows = [[number, n % 7, n * 0.5] for n, number in enumerate(numbers)]
    notes = load(write(tmp_path, [name, "size", "price"], rows)).info.notes
    assert any(f"to leave it out: 'data.ignore=[{name}]'" in note for note in notes) is is_told
