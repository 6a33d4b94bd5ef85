"""Arrays as data: layouts, splits, scaling and batches, in memory and on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trainrun.data.arrays import ArrayData, arrays, layout_of
from trainrun.protocols import BatchSpec, Position
from trainrun.vocabulary.errors import ConfigError, DataError

RANDOM = np.random.default_rng(0)
SETTINGS = {"inputs": None, "targets": None, "memory_mib": 2048, "val_fraction": 0.2, "test_fraction": 0.2}
SETTINGS |= {"split_seed": 0, "fold": None, "num_folds": 5, "limit": None, "eval_batch_size": 7}
SETTINGS |= {"group": None, "time": None, "weights": None}


def loaded(folder: Path, entries: dict, target_kind: str | None = None, **changes) -> ArrayData:
    np.savez(folder / "x.npz", **entries)
    return arrays(str(folder / "x.npz"), **(SETTINGS | changes), target_kind=target_kind)


@pytest.mark.parametrize(
    ("row", "dtype", "shape", "text"),
    [
        ((), "f4", (1,), "numbers"),
        ((20,), "u1", (20,), "vectors"),
        ((28, 28), "u1", (1, 28, 28), "grey pictures"),
        ((28, 28), "f4", (28, 28), "sequences"),
        ((28, 28, 3), "u1", (3, 28, 28), "channels put first"),
        ((28, 28, 1), "f4", (1, 28, 28), "channels put first"),
        ((3, 28, 28), "u1", (3, 28, 28), "channels first"),
        ((3, 32, 3), "u1", (3, 32, 3), "channels first"),
        ((10, 64, 64), "f4", (10, 64, 64), "channels first"),
        ((1, 8, 8, 8), "f4", (1, 8, 8, 8), "channels first"),
    ],
)
def test_what_a_row_is_taken_for(row: tuple, dtype: str, shape: tuple, text: str) -> None:
    layout = layout_of(row, np.dtype(dtype))
    assert layout.shape == shape
    assert text in layout.text
    assert layout(torch.zeros(2, *row)).shape == (2, *shape)


def test_channels_are_moved_and_not_reshaped() -> None:
    rows = torch.arange(2 * 5 * 6 * 3).reshape(2, 5, 6, 3)
    assert torch.equal(layout_of((5, 6, 3), np.dtype("u1"))(rows)[1, 2], rows[1, :, :, 2])


@pytest.mark.parametrize("memory_mib", [2048, 0])
@pytest.mark.parametrize("form", ["npz", "h5"])
def test_batches_are_the_rows_of_the_file_standardised(tmp_path: Path, memory_mib: int, form: str) -> None:
    x, y = RANDOM.normal(3, 2, size=(50, 9, 4)), np.arange(50) % 5
    np.savez(tmp_path / "x.npz", x=x, y=y)
    if form == "h5":
        h5py = pytest.importorskip("h5py", reason="HDF5 is read by h5py, which is not installed")
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file.create_dataset("x", data=x, chunks=(4, 9, 4), compression="gzip")
            file["y"] = y
    data = arrays(str(tmp_path / f"x.{form}"), **(SETTINGS | {"memory_mib": memory_mib}), target_kind=None)
    train = x[data.splits["train"].numpy()]
    expected = (x - train.mean((0, 1))) / train.std((0, 1))  # by feature, over samples and steps
    batches = data.train_batches(Position(), BatchSpec(8, 1), seed=1)
    for batch in (*(next(batches) for _ in range(10)), *data.eval_batches("test"), *data.eval_batches("val")):
        assert batch.inputs.dtype == torch.float32
        np.testing.assert_allclose(batch.inputs, expected[batch.indices], atol=1e-5)
        assert batch.targets.tolist() == y[batch.indices].tolist()
    assert data.info.class_counts == (6,) * 5
    assert bool(data.info.files) == (memory_mib == 0)
    assert any("stay on disk" in note for note in data.info.notes) == (memory_mib == 0)


def test_rows_may_repeat_and_be_none_on_disk(tmp_path: Path) -> None:
    x = RANDOM.normal(size=(40, 3))
    data = loaded(tmp_path, {"x": x, "y": np.arange(40) % 8 == 0}, memory_mib=0)
    assert torch.equal(
        data.inputs.index_select(0, torch.tensor([5, 3, 5])), torch.tensor(x[[5, 3, 5]]).float()
    )
    assert data.inputs.index_select(0, torch.tensor([], dtype=torch.int64)).shape == (0, 3)
    data.balance()
    batch = next(data.train_batches(Position(), BatchSpec(24, 1), seed=0))
    assert batch.targets.sum() == 12


def test_splits_of_the_file_are_used_and_missing_ones_held_out(tmp_path: Path) -> None:
    x, y = np.arange(90, dtype=np.float32).reshape(30, 3), np.arange(30.0)
    entries = {"x_train": x[:20], "y_train": y[:20], "x_test": x[20:], "y_test": y[20:]}
    data = loaded(tmp_path, entries)
    assert data.info.sizes == {"train": 16, "val": 4, "test": 10}
    assert torch.cat([batch.targets for batch in data.eval_batches("test")])[:, 0].tolist() == y[20:].tolist()
    assert not set(data.splits["val"].tolist()) & set(data.splits["train"].tolist())
    assert loaded(tmp_path, entries, fold=1).info.sizes == {"train": 16, "val": 4, "test": 10}
    assert loaded(tmp_path, entries, limit=5).info.sizes["train"] == 5
    entries |= {"x_val": x[:3], "y_val": y[:3]}
    with pytest.raises(ConfigError, match="splits of their own"):
        loaded(tmp_path, entries, fold=1)


@pytest.mark.parametrize(
    ("targets", "kind", "expected"),
    [
        (np.arange(20) % 4, None, ("classes", 4)),
        (np.arange(20) % 2 * 2 - 1, "classes", ("classes", 2)),
        (np.eye(4, dtype=int)[np.arange(20) % 4], "classes", ("classes", 4)),
        ((np.arange(20) % 4).astype(">u2"), "classes", ("classes", 4)),
        (np.arange(20).astype(np.uint64), "values", ("values", 1)),
        (np.arange(40).reshape(20, 2) % 2, None, ("labels", 2)),
        (np.arange(40).reshape(20, 2) / 2, None, ("values", 2)),
    ],
)
def test_targets_are_read_as_of_any_data_set(
    tmp_path: Path, targets: np.ndarray, kind: str | None, expected: tuple
) -> None:
    data = loaded(tmp_path, {"x": RANDOM.normal(size=(20, 2)), "y": targets}, kind)
    assert (data.info.kind, data.info.num_targets) == expected
    if expected == ("values", 1):
        assert data.targets[:, 0].tolist() == targets.tolist()


def test_pictures_know_black_and_white(tmp_path: Path) -> None:
    y = np.arange(20) % 2
    data = loaded(tmp_path, {"x": RANDOM.integers(0, 200, (20, 6, 6), dtype=np.uint8), "y": y})
    low, high = ((torch.tensor(end) - data.shift) * data.scale for end in (0.0, 255.0))
    assert torch.equal(data.info.pixels.black, low[0]) and torch.equal(data.info.pixels.white, high[0])
    assert loaded(tmp_path, {"x": RANDOM.random((20, 6, 6, 3)), "y": y}).info.input_shape == (3, 6, 6)
    assert loaded(tmp_path, {"x": RANDOM.random((20, 6)), "y": y}).info.pixels is None


def test_what_is_stored_is_restored(tmp_path: Path) -> None:
    x = RANDOM.normal(size=(40, 3))
    data = loaded(tmp_path, {"x": x, "y": x.sum(1)})
    other = loaded(tmp_path, {"x": x * 9, "y": x.sum(1) * 9}, memory_mib=0)
    other.restore(data.fitted())
    assert torch.equal(other.scale, data.scale)
    assert torch.equal(other.info.target_scaling.mean, data.info.target_scaling.mean)


def test_other_files_are_read_as_in_training(tmp_path: Path) -> None:
    pictures, y = RANDOM.integers(0, 256, (30, 5, 6, 3), dtype=np.uint8), np.arange(30) % 3
    data = loaded(tmp_path, {"x": pictures, "y": y}, memory_mib=0)
    np.savez(tmp_path / "new.npz", x=pictures, y=y)
    batches = list(data.read(tmp_path / "new.npz").batches)
    assert torch.cat([batch.targets for batch in batches]).tolist() == y.tolist()
    stored = torch.from_numpy(pictures[:7]).permute(0, 3, 1, 2)
    assert torch.equal(batches[0].inputs, data.standardized(stored))
    np.save(tmp_path / "new.npy", pictures / 255)
    with pytest.raises(DataError, match=r"new.npy \(float64 .* must hold samples of the shape and type of"):
        data.read(tmp_path / "new.npy")
    np.savez(tmp_path / "new.npz", x=pictures, y=y + 1)
    with pytest.raises(DataError, match=r"new.npz y .* has the target 3, not a class from 0 to 2"):
        data.read(tmp_path / "new.npz")


@pytest.mark.parametrize("memory_mib", [2048, 0])
def test_a_value_that_is_not_finite_is_named_by_its_row(tmp_path: Path, memory_mib: int) -> None:
    x = RANDOM.normal(size=(30, 2))
    x[17, 1] = np.nan
    with pytest.raises(DataError, match=r"row 17 of \S+x.npz x \(float64 of shape \(30, 2\)\) has a value"):
        list(loaded(tmp_path, {"x": x, "y": np.arange(30) % 2}, memory_mib=memory_mib).eval_batches("train"))
    y = np.where(np.arange(30) == 4, np.inf, 1.0)
    with pytest.raises(DataError, match=r"row 4 of \S+x.npz y"):
        loaded(tmp_path, {"x": x, "y": y})


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "packed.npz", x=np.zeros((300, 1000)), y=np.arange(300) % 2)
    with pytest.raises(ConfigError, match=r"memory_mib: is 1, .* is compressed and would take 2 MiB"):
        arrays(str(tmp_path / "packed.npz"), **(SETTINGS | {"memory_mib": 1}), target_kind=None)
    with pytest.raises(ConfigError, match="learns tokens"):
        loaded(tmp_path, {"x": np.zeros((9, 2), int), "y": np.zeros((9, 2), int)}, "tokens")
    with pytest.raises(ConfigError, match="task: learns classes, counted from 0"):
        loaded(tmp_path, {"x": np.zeros((9, 2)), "y": np.arange(9) * 1000})
