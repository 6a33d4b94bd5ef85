"""SVHN's .mat files: axes and the digit zero put right, damage named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from trainrun.data.resident import InMemoryData
from trainrun.data.svhn import svhn
from trainrun.vocabulary.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3)).astype(np.uint8)
LABELS = np.arange(50) % 10 + 1  # 10 is a zero


def write(folder: Path, labels: np.ndarray = LABELS) -> Path:
    for name, part in (("train", slice(0, 30)), ("test", slice(30, 50))):
        content = {"X": PIXELS[part].transpose(1, 2, 3, 0), "y": labels[part, None].astype(np.uint8)}
        savemat(folder / f"{name}_32x32.mat", content)
    return folder


def load(root: Path) -> InMemoryData:
    return svhn(str(root), False, 0.1, 0, None, 5, None, "train", 16)


def test_pictures_and_digits_are_those_of_the_files(tmp_path: Path) -> None:
    data = load(write(tmp_path))
    np.testing.assert_array_equal(data.inputs, PIXELS.transpose(0, 3, 1, 2))
    assert data.targets.tolist() == [int(label) % 10 for label in LABELS]
    assert data.splits["test"].tolist() == list(range(30, 50))


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lacks train_32x32\.mat.*data\.download=true"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"train_32x32\.mat has the labels 2 to 11"):
        load(write(tmp_path, LABELS + 1))
    file = write(tmp_path) / "test_32x32.mat"
    whole = file.read_bytes()
    for body in (b"", b"<html>", whole[: len(whole) // 2]):
        file.write_bytes(body)
        with pytest.raises(DataError, match=r"test_32x32\.mat is not SVHN"):
            load(tmp_path)
