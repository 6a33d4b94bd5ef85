"""Arrays in files of others: read as they were written, and refused in words where they do not fit."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from trainrun.data.files import read_batches, read_inputs
from trainrun.vocabulary.errors import DataError

CPU = torch.device("cpu")
PICTURES = np.random.default_rng(0).integers(0, 256, (7, 1, 5, 4), dtype=np.uint8)


def npz(path: Path, **arrays: np.ndarray) -> None:
    np.savez_compressed(path, **arrays)


def idx(path: Path, array: np.ndarray) -> None:
    body = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)


WAYS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "npy": ("x.npy", lambda path: np.save(path, PICTURES)),
    "without the channel": ("x.npy", lambda path: np.save(path, PICTURES[:, 0])),
    "npz": ("x.npz", lambda path: npz(path, anything=PICTURES)),
    "npz of several": ("x.npz", lambda path: npz(path, inputs=PICTURES, targets=np.zeros(7))),
    "idx": ("t10k-images-idx3-ubyte", lambda path: idx(path, PICTURES[:, 0])),
    "packed idx": ("images-ubyte.gz", lambda path: idx(path, PICTURES[:, 0])),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_was_written_is_read(way: str, tmp_path: Path) -> None:
    name, write = WAYS[way]
    write(tmp_path / name)
    inputs = read_inputs(tmp_path / name, (1, 5, 4))
    assert inputs.dtype == np.uint8
    assert np.array_equal(inputs, PICTURES)


@pytest.mark.parametrize("shape", [(3,), (1, 5, 4)], ids=["table", "picture"])
def test_a_single_sample_is_one_of_many(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones(shape))
    assert read_inputs(tmp_path / "x.npy", shape).shape == (1, *shape)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_batches_are_all_samples_in_order(size: int, tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(7, 3))
    np.save(tmp_path / "x.npy", values)
    batches = list(read_batches(tmp_path / "x.npy", (3,), size, CPU))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    inputs = torch.cat([batch.inputs for batch in batches])
    assert inputs.dtype == torch.float32
    assert np.array_equal(inputs, values.astype(np.float32))
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(7))
    assert all(batch.targets is None for batch in batches)


def test_whole_numbers_stay_what_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(6).reshape(2, 3))
    (batch,) = read_batches(tmp_path / "x.npy", (3,), 8, CPU)
    assert batch.inputs.dtype == torch.int64


def test_a_sample_that_is_not_finite_is_named(tmp_path: Path) -> None:
    values = np.zeros((7, 3))
    values[5, 1] = np.inf
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(DataError, match=r"x.npy: sample 5 has an input that is not a finite number"):
        list(read_batches(tmp_path / "x.npy", (3,), 2, CPU))


REFUSED: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "another shape": (
        "x.npy",
        lambda path: np.save(path, np.zeros((7, 4))),
        r"samples as in training, \(N, 3\), got an array of \(7, 4\)",
    ),
    "texts": ("x.npy", lambda path: np.save(path, np.array(["a", "b"])), "holds <U1, not numbers"),
    "objects": (
        "x.npy",
        lambda path: np.save(path, np.array([{}], object)),
        "cannot be read: .*Python objects",
    ),
    "nothing": ("x.npy", lambda path: path.write_bytes(b""), "cannot be read"),
    "half": ("x.npz", lambda path: path.write_bytes(b"PK\3\4zz"), "cannot be read"),
    "names": (
        "x.npz",
        lambda path: npz(path, a=np.zeros(3), b=np.zeros(3)),
        "must hold one array, or one named inputs, got a, b",
    ),
    "no kind": ("x.txt", lambda path: path.write_text("1 2 3"), "must be .npy, .npz or an IDX file"),
    "no file": ("gone.npy", lambda path: None, "cannot be read: .*No such file"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_in_words(what: str, tmp_path: Path) -> None:
    name, write, message = REFUSED[what]
    write(tmp_path / name)
    with pytest.raises(DataError, match=message):
        read_inputs(tmp_path / name, (3,))
