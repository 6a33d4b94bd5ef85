"""Files of arrays: every entry by name, shape and type; splits by their names; rows from disk."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from trainrun.tables.arrays import entries_of, read, read_more, target_kind
from trainrun.vocabulary.errors import ConfigError, DataError

X, Y = np.arange(24.0).reshape(6, 4), np.arange(6) % 3


def saved(folder: Path, name: str, arrays: dict) -> str:
    """A file of arrays in the format that its name says."""
    file = folder / name
    if file.suffix == ".npz":
        (np.savez_compressed if "packed" in name else np.savez)(file, **arrays)
    elif file.suffix == ".h5":
        h5py = pytest.importorskip("h5py", reason="HDF5 is read by h5py, which is not installed")
        with h5py.File(file, "w") as hdf5:
            for key, values in arrays.items():
                hdf5[key] = values
    else:
        torch.save({key: torch.tensor(values) for key, values in arrays.items()}, file)
    return str(file)


@pytest.mark.parametrize("name", ["a.npz", "packed.npz", "a.h5", "a.pt"])
def test_every_entry_is_known_before_it_is_read(tmp_path: Path, name: str) -> None:
    entries = entries_of(Path(saved(tmp_path, name, {"x": X, "deep": X.reshape(2, 3, 4), "y": Y})))
    assert {key: entry.shape for key, entry in entries.items()} == {"x": (6, 4), "deep": (2, 3, 4), "y": (6,)}
    assert entries["x"].dtype == X.dtype
    assert (np.asarray(entries["x"].rows()) == X).all()
    assert (np.asarray(entries["y"].rows()[2:4]) == Y[2:4]).all()
    assert entries["x"].is_packed == (name == "packed.npz")


def test_what_is_not_compressed_stays_on_disk(tmp_path: Path) -> None:
    columns = np.asfortranarray(X)
    file = Path(saved(tmp_path, "a.npz", {"x": X, "columns": columns}))
    np.save(tmp_path / "x.npy", X)
    for entry in (*entries_of(file).values(), entries_of(tmp_path / "x.npy")["x"]):
        assert isinstance(entry.rows(), np.memmap)
        assert (entry.rows() == X).all()
    with zipfile.ZipFile(file, "a") as archive:  # a name of another length, beside what is no array
        archive.writestr("notes.txt", "none")
        archive.write(tmp_path / "x.npy", "a_much_longer_name.npy")
    assert (entries_of(file)["a_much_longer_name"].rows() == X).all()
    assert "notes" not in entries_of(file)


SPLITS = {
    "keras": {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y},
    "medmnist": {"train_images": X, "train_labels": Y, "val_images": X, "val_labels": Y},
    "capital": {"XTrain": X, "YTrain": Y, "XValid": X, "YValid": Y},
    "unsplit train": {"x": X, "y": Y, "x_test": X, "y_test": Y},
}


@pytest.mark.parametrize("names", SPLITS)
def test_splits_are_known_by_their_names(tmp_path: Path, names: str) -> None:
    chosen = read(saved(tmp_path, "a.npz", SPLITS[names]), None, None)
    assert list(chosen.inputs) == list(chosen.targets)
    assert list(chosen.inputs) in (["train", "test"], ["train", "val"])
    assert all(entry.shape == (6, 4) for entry in chosen.inputs.values())
    assert chosen.left_out == ()


def test_a_folder_is_as_a_file_of_its_files(tmp_path: Path) -> None:
    for split in ("train", "test"):
        np.savez(tmp_path / f"{split}.npz", x=X, y=Y)
    assert list(read(str(tmp_path), None, None).inputs) == ["train", "test"]
    (tmp_path / "apart").mkdir()
    for name, values in SPLITS["keras"].items():
        np.save(tmp_path / "apart" / f"{name}.npy", values)
    assert read(str(tmp_path / "apart"), None, None).names == ("x", "y")


@pytest.mark.parametrize(
    ("arrays", "given", "names", "left_out"),
    [
        ({"x": X, "y": Y, "id": Y}, (None, None), ("x", "y"), ("id",)),
        ({"signal": X, "grade": Y}, (None, "grade"), ("signal", "grade"), ()),
        ({"x": X, "image": X, "y": Y}, ("image", None), ("image", "y"), ("x",)),
        ({"arr_0": X, "arr_1": Y}, (None, None), ("arr_0", "arr_1"), ()),
        ({"x": X, "test_score": Y}, (None, "test_score"), ("x", "test_score"), ()),
        ({"x_train": X, "y_train": Y, "x_test": X}, ("x_train", "y"), ("x", "y"), ("x_test",)),
    ],
)
def test_names_are_found_or_given(
    tmp_path: Path, arrays: dict, given: tuple, names: tuple[str, str], left_out: tuple[str, ...]
) -> None:
    chosen = read(saved(tmp_path, "a.npz", arrays), *given)
    assert chosen.names == names
    assert chosen.left_out == left_out


def test_the_targets_may_be_a_file_of_their_own(tmp_path: Path) -> None:
    np.save(tmp_path / "x_train.npy", X)
    np.save(tmp_path / "y_train.npy", Y)
    chosen = read(str(tmp_path / "x_train.npy"), None, str(tmp_path / "y_train.npy"))
    assert (chosen.inputs["train"].rows() == X).all()
    assert (chosen.targets["train"].rows() == Y).all()
    assert read(str(tmp_path / "x_train.npy"), None, "y_train.npy").targets["train"].shape == (6,)  # beside


@pytest.mark.parametrize(
    ("arrays", "given", "said"),
    [
        ({"x": X, "y": Y}, ("z", None), "data.inputs: .* has no entry z; it has x, y"),
        ({"x": X, "grade": Y}, (None, None), "data.targets: .* has x, grade; name the targets: .*=grade"),
        ({"x": X, "data": X, "y": Y}, (None, None), "data.inputs: must name one entry beside the target y"),
        (
            {"a": X, "b": X, "y": Y},
            (None, None),
            "data.inputs: must name one entry beside the target y; .* a, b, y",
        ),
        ({"x": X, "y": Y}, ("x", "x"), "data.inputs: must name one entry beside the target x"),
        ({"x": X, "y": Y, "label": Y}, (None, None), "data.targets: y, label may all be the target"),
        ({"x": X, "y": Y[1:]}, (None, None), r"x \(float64 of shape \(6, 4\)\) and .* as many rows"),
        (SPLITS["keras"] | {"x_test": X[:, :2]}, (None, None), "x_test .* must have the type and shape of"),
        (SPLITS["keras"] | {"y_test": Y / 2}, (None, None), "y_test .* must have the type and shape of"),
        (SPLITS["keras"] | {"x_eval": X}, (None, None), "x_eval may be meant for validation or for the test"),
    ],
)
def test_what_is_unclear_or_unequal_is_refused(tmp_path: Path, arrays: dict, given: tuple, said: str) -> None:
    with pytest.raises((ConfigError, DataError), match=said):
        read(saved(tmp_path, "a.npz", arrays), *given)


class Harmful:
    def __reduce__(self) -> tuple:
        return (open, ("/tmp/never", "w"))


def test_what_could_run_code_is_not_read(tmp_path: Path) -> None:
    objects = np.array([Harmful(), 1], dtype=object)
    np.savez(tmp_path / "a.npz", x=objects)
    np.save(tmp_path / "a.npy", objects)
    for name, entry in (("a.npz", "x"), ("a.npy", "a")):
        with pytest.raises(DataError, match=rf"{name}.* holds Python objects, which is not read"):
            entries_of(tmp_path / name)[entry].rows()
    torch.save({"x": Harmful()}, tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"a.pt holds more than tensors, which is not read"):
        entries_of(tmp_path / "a.pt")


def test_damaged_and_other_files_are_named(tmp_path: Path) -> None:
    for name in ("a.npz", "a.npy", "a.pt", "a.txt"):
        (tmp_path / name).write_bytes(b"no array")
        with pytest.raises(DataError, match=rf"data.path: \S+{name} "):
            entries_of(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty is no file of arrays, and no folder of any"):
        entries_of(tmp_path / "empty")
    with pytest.raises(DataError, match=r"there is no file \S+none.npz"):
        entries_of(tmp_path / "none.npz")
    np.save(tmp_path / "cut.npy", X)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cut.npy .* cannot be read"):
        entries_of(tmp_path / "cut.npy")["cut"].rows()
    for values in (np.array(["a"]), np.float64(3), np.zeros((0, 2)), np.zeros(3, complex)):
        np.save(tmp_path / "odd.npy", values)
        with pytest.raises(DataError, match=r"odd.npy .* must hold numbers, a row for each sample"):
            entries_of(tmp_path / "odd.npy")["odd"].rows()


def test_hdf5_without_its_reader_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.h5").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ConfigError, match="HDF5 needs h5py: pip install 'trainrun"):
        entries_of(tmp_path / "a.h5")


def test_bfloat16_is_read_as_float32(tmp_path: Path) -> None:
    torch.save(torch.tensor([[1.5], [2.5]], dtype=torch.bfloat16), tmp_path / "a.pt")
    entry = entries_of(tmp_path / "a.pt")["a"]
    assert (entry.dtype, entry.rows().tolist()) == (np.float32, [[1.5], [2.5]])


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"only": X}, ("only", None)),
        ({"x": X, "y": Y}, ("x", "y")),
        ({"x_test": X, "y_test": Y}, ("x_test", "y_test")),
        ({"x": X, "other": Y}, ("x", None)),
    ],
)
def test_another_file_is_read_by_the_same_names(tmp_path: Path, arrays: dict, expected: tuple) -> None:
    entries = read_more(Path(saved(tmp_path, "a.npz", arrays)), "x", "y")
    assert tuple(entry and entry.name for entry in entries) == expected
    for unclear in (SPLITS["keras"], {"a": X, "b": X}):
        with pytest.raises(DataError, match="must hold one array, or one of the name x; it has"):
            read_more(Path(saved(tmp_path, "b.npz", unclear)), "x", "y")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (Y, ("classes", 3)),
        (Y[:, None] > 0, ("classes", 2)),
        (np.eye(3)[Y], ("classes", 3)),
        (np.array([[1, 1], [0, 0]]), ("labels", 0)),
        (np.array([[1.0, 1.0], [0.0, 0.0]]), ("values", 0)),
        (Y / 2, ("values", 0)),
        (X.astype(int), ("values", 0)),
    ],
)
def test_the_kind_of_targets_follows_type_and_shape(
    tmp_path: Path, values: np.ndarray, expected: tuple
) -> None:
    np.save(tmp_path / "y.npy", values)
    assert target_kind(entries_of(tmp_path / "y.npy")["y"]) == expected
