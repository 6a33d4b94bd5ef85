"""Tables of one's own: types found, gaps and categories handled, mistakes named by line and column."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn import datasets

from trainrun.config.paths import CONF
from trainrun.data.sklearn import table as shipped
from trainrun.data.table import TableData, table
from trainrun.errors import ConfigError, DataError

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
    assert [one.name for one in data.features] == ["city", "area"]
    assert [name for one in data.features for name in one.inputs] == ["city=oslo", "city=rome", "area"]
    assert data.info.input_shape == (3,)
    told = "\n".join(data.info.notes)
    for text in (
        "price is learned as a value",
        "id (40 different texts)",
        "sold (dates)",
        "country (always the same)",
        "1 of numbers, standardised by mean and std of the training split: area",
    ):
        assert text in told


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "diabetes"])
def test_a_csv_of_a_known_table_is_that_table(tmp_path: Path, name: str) -> None:
    loaded = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    header = [f"x{n}" for n in range(loaded.data.shape[1])]
    rows = [[*map(repr, map(float, row)), y] for row, y in zip(loaded.data, loaded.target, strict=True)]
    data = load(write(tmp_path, [*header, "y"], rows), "y")
    known = shipped(name, 0.15, 0.15, 0, None, 5, None, 64)  # type: ignore[arg-type]
    assert (data.info.kind, data.info.num_targets) == (known.info.kind, known.info.num_targets)
    assert torch.equal(data.targets, known.targets)
    for split in ("train", "val", "test"):
        assert torch.equal(data.splits[split], known.splits[split])
        pairs = zip(data.eval_batches(split), known.eval_batches(split), strict=False)
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
    assert [name for one in data.features for name in one.inputs] == ["zone=0", "zone=1", "zone=2"]
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
    told = load(path, "y", kind="values")
    assert (told.info.kind, told.targets.shape) == ("values", (40, 1))


def changed(row: int, column: int, value: str) -> list[list[Any]]:
    rows = [list(one) for one in ROWS]
    rows[row][column] = value
    return rows


MISTAKES: dict[str, tuple[list[list[Any]], dict[str, Any], str]] = {
    "text among numbers": (changed(3, 4, "12 m"), {}, r"t\.csv:5: column area is not a number .* '12 m'"),
    "text among targets": (changed(7, 5, "dear"), {}, r"t\.csv:9: column price is not a number, got 'dear'"),
    "infinite": (changed(0, 4, "inf"), {}, r"t\.csv:2: column area is not a finite number"),
    "no target": (changed(2, 5, ""), {}, r"t\.csv:4: column price has no value"),
    "no targets": (
        [[*row[:5], "" if at % 5 == 2 else row[5]] for at, row in enumerate(ROWS)],
        {},
        r"t\.csv:4, 9, 14, 19, 24 and 3 more: column price has no value; take these 8 rows out",
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
