"""Columns as numbers: what scikit-learn makes of them, fitted on the training samples alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from trainrun.data.encoding import Column, Feature, encode, fit, from_plain, to_plain

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
