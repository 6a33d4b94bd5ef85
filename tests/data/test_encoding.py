"""Columns as numbers: what scikit-learn makes of them, fitted on training samples alone; new rows too."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from trainrun.config.paths import CONF
from trainrun.data.encoding import Column, Feature, encode, fit, from_plain, to_plain
from trainrun.data.table import TableData, table
from trainrun.vocabulary.errors import DataError

RANDOM = np.random.default_rng(0)
TRAIN = np.sort(RANDOM.permutation(200)[:120])
GAPPY = np.where(RANDOM.random(200) < 0.2, np.nan, RANDOM.normal(1e6, 3, 200))
CODES = RANDOM.integers(-1, 4, 200)
NAMES = ("bern", "lima", "oslo", "rome")


def test_a_number_is_filled_and_standardised_as_scikit_learn_does() -> None:
    column = Column("x", GAPPY)
    feature = fit(column, TRAIN, 1)
    imputer = SimpleImputer(add_indicator=True).fit(GAPPY[TRAIN, None])
    filled = imputer.transform(GAPPY[:, None])
    scaler = StandardScaler().fit(filled[TRAIN, :1])
    expected = np.hstack([scaler.transform(filled[:, :1]), filled[:, 1:]])
    np.testing.assert_allclose(encode([column], [feature]), expected, atol=1e-6)
    assert feature.inputs == ("x", "x is missing")


def test_a_category_is_spread_out_as_scikit_learn_does() -> None:
    column = Column("city", CODES, NAMES)
    feature = fit(column, TRAIN, 1)
    texts = np.array([*NAMES, None], dtype=object)[CODES][:, None]
    imputer = SimpleImputer(strategy="most_frequent", missing_values=None, add_indicator=True)
    filled = imputer.fit(texts[TRAIN]).transform(texts)
    hot = OneHotEncoder(sparse_output=False).fit_transform(filled[:, :1])
    expected = np.hstack([hot, filled[:, 1:].astype(float)])
    np.testing.assert_array_equal(encode([column], [feature]), expected)
    assert feature.inputs[0] == "city=bern"
    assert feature.inputs[-1] == "city is missing"


def test_rare_and_unseen_categories_are_zero_everywhere() -> None:
    column = Column("c", np.array([0, 0, 0, 1, 2]), ("often", "rare", "unseen"))
    feature = fit(column, np.arange(4), 2)
    assert feature.categories == ("often",)
    assert encode([column], [feature]).tolist() == [[1], [1], [1], [0], [0]]


def test_only_the_training_samples_decide() -> None:
    elsewhere = np.setdiff1d(np.arange(200), TRAIN)
    changed = GAPPY.copy()
    changed[elsewhere] = 7
    assert fit(Column("x", GAPPY), TRAIN, 1) == fit(Column("x", changed), TRAIN, 1)


@pytest.mark.parametrize("values", [[np.nan, np.nan, 3.0], [2.0, 2.0, 3.0]], ids=["none", "constant"])
def test_nothing_to_estimate_from_divides_by_one(values: list[float]) -> None:
    column = Column("x", np.array(values))
    feature = fit(column, np.arange(2), 1)
    assert feature.std == 1
    assert encode([column], [feature])[:2, 0].tolist() == [0, 0]


def test_what_was_learned_survives_as_plain_values() -> None:
    features = [Feature("x", 1.0, 2.0, None, (), True), Feature("c", 0.0, 1.0, "a", ("a", "b"), False)]
    assert from_plain(json.loads(json.dumps(to_plain(features)))) == features


HEADER = ["city", "area", "heated", "kind"]
ROWS = [[("oslo", "rome")[n % 2], n, ("yes", "no")[n // 3 % 2], n % 3] for n in range(60)]


def written(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


@pytest.fixture
def data(tmp_path: Path) -> TableData:
    return load(written(tmp_path / "train.csv", HEADER, ROWS), "kind")


def load(path: Path, target: str) -> TableData:
    node = yaml.safe_load((CONF / "data" / "csv.yaml").read_text())["data"]
    values = {key: value for key, value in node.items() if key not in ("_target_", "num_workers", "balanced")}
    return table(**(values | {"path": str(path), "target": target, "eval_batch_size": 7}))


def read(data: TableData, path: Path) -> tuple[torch.Tensor, torch.Tensor | None]:
    batches = list(data.read(path).batches)
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(sum(map(len, batches))))
    inputs = torch.cat([batch.inputs for batch in batches])
    return inputs, None if batches[0].targets is None else torch.cat([batch.targets for batch in batches])


def test_the_table_itself_becomes_what_was_trained_on(data: TableData, tmp_path: Path) -> None:
    inputs, targets = read(data, tmp_path / "train.csv")
    assert torch.equal(inputs, data.inputs)
    assert targets is not None and torch.equal(targets, data.targets)


def test_columns_go_by_name_and_others_are_left(data: TableData, tmp_path: Path) -> None:
    rows = [["x", *row[::-1][1:]] for row in ROWS[:20]]  # no target, another order, a stranger
    inputs, targets = read(data, written(tmp_path / "new.csv", ["note", *HEADER[::-1][1:]], rows))
    assert torch.equal(inputs, data.inputs[:20])
    assert targets is None


def test_gaps_and_new_categories_are_what_the_training_split_says(data: TableData, tmp_path: Path) -> None:
    new = written(tmp_path / "new.csv", HEADER, [["paris", "", "no", 1], ["rome", "9e3", "yes", "1.0"]])
    inputs, targets = read(data, new)
    train = [ROWS[i] for i in data.splits["train"].tolist()]
    areas = np.array([row[1] for row in train], float)
    heated = np.array([row[2] == "yes" for row in train], float)
    expected = [
        [0, 0, 0, (0 - heated.mean()) / heated.std()],  # no such city; a gap is the mean
        [0, 1, (9e3 - areas.mean()) / areas.std(), (1 - heated.mean()) / heated.std()],
    ]
    np.testing.assert_allclose(inputs.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert targets is not None and targets.tolist() == [1, 1]
    category, gap = data.read(new).notes
    assert category == "city: paris was not trained on, so all inputs of the column are 0 there"
    assert gap.startswith(
        "area: has no value in sample 0, and had one in all of training; read as the mean, "
    )
    assert not data.read(tmp_path / "train.csv").notes


def test_what_a_checkpoint_stored_is_used(data: TableData, tmp_path: Path) -> None:
    others = load(
        written(tmp_path / "other.csv", HEADER, [[*row[:1], row[1] * 2, *row[2:]] for row in ROWS]), "kind"
    )
    before, _ = read(data, tmp_path / "other.csv")
    data.restore(others.fitted())
    inputs, _ = read(data, tmp_path / "other.csv")
    assert torch.equal(inputs, others.inputs)
    assert not torch.allclose(inputs, before)


def test_a_target_that_is_unknown_or_missing_in_a_row_is_none(data: TableData, tmp_path: Path) -> None:
    for odd in ("7", "", "blue"):
        assert (
            read(data, written(tmp_path / "new.csv", HEADER, [*ROWS[:3], ["oslo", 1, "no", odd]]))[1] is None
        )


def test_values_to_predict(tmp_path: Path) -> None:
    data = load(written(tmp_path / "train.csv", HEADER, ROWS), "area")
    _, targets = read(data, written(tmp_path / "new.csv", HEADER, [["rome", "12.5", "no", 1]]))
    assert targets is not None and targets.tolist() == [[12.5]]


GERMAN = [[f"{n},5", f"{1 + n}.{200 + n},25 €", ("a", "b")[n % 2]] for n in range(60)]


def test_another_file_is_read_in_the_notation_of_training(tmp_path: Path) -> None:
    data = load(written(tmp_path / "train.csv", ["area", "price", "kind"], GERMAN), "price")
    new = written(
        tmp_path / "new.csv", ["area", "price", "kind"], [["7,125", "1.234 €", "a"], ["-", "5", "b"]]
    )
    inputs, targets = read(data, new)
    areas = np.array([n + 0.5 for n in data.splits["train"].tolist()])
    expected = [(7.125 - areas.mean()) / areas.std(), 0]  # alone 7,125 might be 7125; a dash is a gap
    np.testing.assert_allclose(inputs[:, 0].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert targets is not None and targets.tolist() == [[1234], [5]]  # alone 1.234 might be 1.234
    for odd in ("7.5", "$7", "7%"):
        with pytest.raises(
            DataError, match=r"area is not a number written as in training .decimal comma., got"
        ):
            read(data, written(tmp_path / "new.csv", ["area", "kind"], [["1,5", "a"], [odd, "b"]]))


def test_plain_columns_stay_plain_whatever_another_file_holds(data: TableData, tmp_path: Path) -> None:
    rows = [["oslo", "1.234", "yes", 0], ["rome", "2.500", "no", 1]]
    before, _ = read(data, written(tmp_path / "new.csv", HEADER, rows))
    after, _ = read(
        data, written(tmp_path / "new.csv", HEADER, [[*rows[0][:1], "1.2340", *rows[0][2:]], rows[1]])
    )
    assert torch.equal(before, after)
    with pytest.raises(DataError, match="area is not a number, got '1,5'"):
        read(data, written(tmp_path / "new.csv", HEADER, [["oslo", "1,5", "yes", 0]]))


def test_the_stored_notation_is_used_and_that_of_older_runs_is_plain(tmp_path: Path) -> None:
    data = load(written(tmp_path / "train.csv", ["area", "price", "kind"], GERMAN), "price")
    stored = data.fitted()
    plain = load(
        written(
            tmp_path / "plain.csv", ["area", "price", "kind"], [[n, n * 1.5, "ab"[n % 2]] for n in range(60)]
        ),
        "price",
    )
    new = written(tmp_path / "new.csv", ["area", "price", "kind"], [["7,5", "1.234", "a"]])
    plain.restore(stored)
    inputs, targets = read(plain, new)
    assert targets is not None and targets.tolist() == [[1234]]
    assert torch.equal(inputs, read(data, new)[0])
    older = {key: value for key, value in stored.items() if key != "target_notation"}
    older["features"] = [
        {k: v for k, v in feature.items() if k != "notation"} for feature in stored["features"]
    ]
    plain.restore(older)
    with pytest.raises(DataError, match="area is not a number, got '7,5'"):
        read(plain, new)


def test_what_is_unusual_about_another_file_is_said(data: TableData, tmp_path: Path) -> None:
    text = written(tmp_path / "new.csv", HEADER, ROWS).read_text()
    (tmp_path / "new.csv.gz").write_bytes(gzip.compress(text.replace("oslo", "Þórshöfn").encode("latin-1")))
    first, second, *_ = data.read(tmp_path / "new.csv.gz").notes
    assert first == "unpacked from gzip" and second.startswith("read as latin-1")


REFUSED = {
    "columns": (["city", "kind"], [["rome", 1]], "has no column area, heated, which the run was trained on"),
    "a number": (
        HEADER,
        [*ROWS[:3], ["rome", "big", "no", 1]],
        r"new.csv:5: column area is not a number, got 'big'",
    ),
    "infinite": (HEADER, [["rome", "1e39", "no", 1]], r"new.csv:2: column area is not a finite number"),
    "rows": (HEADER, [], "has no row"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_encoded_is_named(what: str, data: TableData, tmp_path: Path) -> None:
    header, rows, message = REFUSED[what]
    with pytest.raises(DataError, match=message):
        read(data, written(tmp_path / "new.csv", header, rows))
