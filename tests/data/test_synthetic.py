"""Made-up data: shaped as asked, seeded, and learnable."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression

from trainrun.data.resident import InMemoryData
from trainrun.data.synthetic import images, table
from trainrun.vocabulary.errors import ConfigError

SHARES: dict[str, Any] = {
    "val_fraction": 0.2,
    "test_fraction": 0.2,
    "fold": None,
    "num_folds": 5,
    "limit": None,
    "eval_batch_size": 64,
}


def pictures(seed: int = 0, shape: tuple[int, ...] = (3, 16, 16)) -> InMemoryData:
    wanted = {"num_samples": 300, "shape": list(shape), "num_classes": 5, "noise": 1.0}
    return images(**wanted, split_seed=seed, **SHARES)  # type: ignore[arg-type]


def rows(kind: str, noise: float = 0.1, outputs: int = 3) -> InMemoryData:
    wanted = {"num_samples": 400, "num_features": 6, "num_outputs": outputs, "kind": kind, "noise": noise}
    return table(**wanted, split_seed=0, **SHARES)  # type: ignore[arg-type]


def whole(data: InMemoryData, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(data.eval_batches(split))
    return torch.cat([b.inputs.flatten(1) for b in batches]), torch.cat([b.targets for b in batches])


def test_pictures_are_as_asked_balanced_and_seeded() -> None:
    data = pictures()
    assert data.info.input_shape == (3, 16, 16) and data.info.num_targets == 5
    assert torch.bincount(data.targets).tolist() == [60] * 5
    assert data.info.fingerprint == pictures().info.fingerprint != pictures(seed=1).info.fingerprint


def test_pictures_can_be_told_apart() -> None:
    data = pictures()
    model = LogisticRegression(max_iter=50).fit(*whole(data, "train"))
    assert model.score(*whole(data, "test")) > 0.9  # chance is 0.2


def test_values_are_linear_up_to_the_noise() -> None:
    data = rows("values", noise=0.1)
    model = LinearRegression().fit(*whole(data, "train"))
    inputs, targets = whole(data, "test")
    error = torch.tensor(model.predict(inputs)) - targets
    assert 0.07 < float(error.square().mean().sqrt()) < 0.14


@pytest.mark.parametrize(
    ("kind", "dtype", "ndim"), [("classes", torch.int64, 1), ("labels", torch.float32, 2)]
)
def test_kinds_of_target(kind: str, dtype: torch.dtype, ndim: int) -> None:
    data = rows(kind)
    assert data.info.kind == kind and data.info.num_targets == 3
    assert data.targets.dtype == dtype and data.targets.ndim == ndim
    assert sorted(data.targets.unique().tolist()) == ([0, 1, 2] if kind == "classes" else [0.0, 1.0])


def test_a_shape_that_is_no_picture_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"data\.shape: must be \[channels, height, width\]"):
        pictures(shape=(16, 16))
