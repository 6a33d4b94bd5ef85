"""scikit-learn's data sets: sizes and content as published."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import datasets

from trainrun.data.resident import InMemoryData
from trainrun.data.sklearn import digits, table

SHARES = {
    "val_fraction": 0.15,
    "test_fraction": 0.15,
    "split_seed": 0,
    "fold": None,
    "num_folds": 5,
    "limit": None,
    "eval_batch_size": 1024,
}

# Sizes as the UCI repository and Efron et al. (2004) give them.
PUBLISHED = {
    "digits": (1797, (1, 8, 8), "classes", 10),
    "breast_cancer": (569, (30,), "classes", 2),
    "wine": (178, (13,), "classes", 3),
    "iris": (150, (4,), "classes", 3),
    "diabetes": (442, (10,), "values", 1),
}


def load(name: str) -> InMemoryData:
    return digits(**SHARES) if name == "digits" else table(name, **SHARES)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PUBLISHED)
def test_info_is_as_published(name: str) -> None:
    info = load(name).info
    size, shape, kind, num_targets = PUBLISHED[name]
    assert sum(n for n in info.sizes.values() if n) == size
    assert (info.name, info.input_shape, info.kind, info.num_targets) == (name, shape, kind, num_targets)
    assert len(info.class_names) == (num_targets if kind == "classes" else 0)
    assert info.sizes["val"] == info.sizes["test"] == round(0.15 * size)
    assert len(info.fingerprint) == 16


@pytest.mark.parametrize("name", PUBLISHED)
def test_samples_are_scikit_learns(name: str) -> None:
    loaded = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    data = load(name)
    flat = data.inputs.flatten(1).double()
    np.testing.assert_allclose(flat, loaded.data, rtol=1e-6)
    if name == "diabetes":
        np.testing.assert_array_equal(data.targets[:, 0], loaded.target)
    else:
        assert data.targets.tolist() == loaded.target.tolist()


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "diabetes"])
def test_class_shares_of_held_out_splits_are_those_of_the_whole(name: str) -> None:
    data = load(name)
    whole = torch.bincount(data.targets)
    for split in ("val", "test"):
        part = data.splits[split]
        expected = whole * len(part) / len(data.targets)
        counts = torch.bincount(data.targets[part], minlength=len(whole))
        # test is cut from the whole and val from what remains: one rounding each
        assert ((counts - expected).abs() < (1 if split == "test" else 2)).all()


def test_iris_classes_are_fishers() -> None:
    assert load("iris").info.class_names == ("setosa", "versicolor", "virginica")
