"""IDX files: wherever they lie, read exactly, and every kind of damage named."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import urllib.request
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainrun.data import idx as module
from trainrun.data.files import read_idx
from trainrun.data.idx import idx
from trainrun.data.published import PUBLISHED
from trainrun.data.resident import InMemoryData
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import DataError

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
RANDOM = np.random.default_rng(0)
ARRAYS = {
    FILES[0]: RANDOM.integers(0, 256, (30, 5, 4)).astype(np.uint8),
    FILES[1]: (np.arange(30) % 10).astype(np.uint8),
    FILES[2]: RANDOM.integers(0, 256, (10, 5, 4)).astype(np.uint8),
    FILES[3]: np.arange(10).astype(np.uint8),
}


def encoded(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(folder: Path, gzipped: bool = False, **changed: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ARRAYS.items():
        body = encoded(changed.get(name.split("-idx")[0].replace("-", "_"), array))
        path = folder / (f"{name}.gz" if gzipped else name)
        path.write_bytes(gzip.compress(body) if gzipped else body)
    return folder


def load(root: Path | None, name: str = "mnist", download: bool = False) -> InMemoryData:
    return idx(name, str(root) if root else None, download, 0.1, 0, None, 5, None, "train", 16)  # type: ignore[arg-type]


@pytest.fixture
def nothing_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder without data, on a system without a data package."""
    monkeypatch.setattr(module, "_SYSTEM", tmp_path / "absent")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize("layout", ["", "mnist", "MNIST/raw", "raw"])
def test_files_are_read_exactly_in_every_layout(tmp_path: Path, layout: str, gzipped: bool) -> None:
    write(tmp_path / layout, gzipped)
    data = load(tmp_path)
    assert np.array_equal(data.inputs[:, 0], np.concatenate([ARRAYS[FILES[0]], ARRAYS[FILES[2]]]))
    assert data.targets.tolist() == [*(i % 10 for i in range(30)), *range(10)]
    assert data.info.sizes == {"train": 27, "val": 3, "test": 10}
    assert data.splits["test"].tolist() == list(range(30, 40))
    assert data.info.input_shape == (1, 5, 4) and data.info.class_names == tuple("0123456789")


@pytest.mark.usefixtures("nothing_at_hand")
def test_without_a_root_the_data_folder_here_is_searched(tmp_path: Path) -> None:
    write(tmp_path / "data" / "mnist")
    assert load(None).info.sizes["test"] == 10


def test_without_a_root_the_systems_folder_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "system" / "mnist", gzipped=True)
    monkeypatch.setattr(module, "_SYSTEM", tmp_path / "system")
    monkeypatch.chdir(tmp_path)
    assert load(None).info.sizes["test"] == 10
    with pytest.raises(DataError, match="no mnist files below elsewhere"):
        load(Path("elsewhere"))


def test_a_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "sets")
    assert load(Path("~/sets")).info.sizes["test"] == 10


GOOD = encoded(ARRAYS[FILES[0]])
DAMAGE = {
    "empty": (b"", "begins with nothing"),
    "not idx": (b"<html>Not Found</html>", "is not an IDX file"),
    "floats": (b"\0\0\x0d" + GOOD[3:], "is not an IDX file of bytes"),
    "cut in the header": (GOOD[:10], "ends within its header"),
    "cut in the pixels": (GOOD[:-1], f"should have {len(GOOD)} bytes .* got {len(GOOD) - 1}"),
    "too long": (GOOD + b"\0", f"got {len(GOOD) + 1}"),
    "labels for pictures": (encoded(ARRAYS[FILES[1]]), "should hold an array of 3 axes"),
    "no pictures": (encoded(np.zeros((0, 5, 4), np.uint8)), "got shape"),
    "size that overflows": (struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 4), "should have"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_to_a_plain_file_names_it_and_what_is_wrong(tmp_path: Path, kind: str) -> None:
    body, text = DAMAGE[kind]
    write(tmp_path)
    (tmp_path / FILES[0]).write_bytes(body)
    with pytest.raises(DataError, match=rf"data\.root: .*{FILES[0]} .*{text}"):
        load(tmp_path)


PACKED = gzip.compress(GOOD, mtime=0)
PACKED_DAMAGE = {
    "cut in the pixels": PACKED[:-9],
    "cut in the header": PACKED[:15],
    "empty": b"",
    "not packed": GOOD,
    "wrong checksum": PACKED[:-6] + bytes([PACKED[-6] ^ 0xFF]) + PACKED[-5:],
    "overwritten": PACKED[:40] + b"\xff" * 40 + PACKED[80:],
}


@pytest.mark.parametrize("kind", PACKED_DAMAGE)
def test_damage_to_a_gzipped_file_names_it(tmp_path: Path, kind: str) -> None:
    write(tmp_path, gzipped=True)
    (tmp_path / f"{FILES[0]}.gz").write_bytes(PACKED_DAMAGE[kind])
    with pytest.raises(DataError, match=rf"data\.root: .*{FILES[0]}\.gz"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"train_labels": np.arange(29).astype(np.uint8) % 10}, f"30 pictures, .*{FILES[1]} has 29 labels"),
        ({"train_labels": np.full(30, 10, np.uint8)}, f"{FILES[1]} has the label 10, there are 10 classes"),
        ({"t10k_labels": np.full(10, 255, np.uint8)}, f"{FILES[3]} has the label 255"),
        ({"t10k_labels": np.zeros((10, 1), np.uint8)}, f"{FILES[3]} should hold an array of 1 axes"),
        ({"t10k_images": np.zeros((10, 4, 4), np.uint8)}, rf"{FILES[2]} has pictures of \(4, 4\)"),
    ],
)
def test_files_that_do_not_fit_each_other_are_named(
    tmp_path: Path, changed: dict[str, np.ndarray], text: str
) -> None:
    with pytest.raises(DataError, match=text):
        load(write(tmp_path, **changed))


@pytest.mark.parametrize("missing", FILES)
def test_a_missing_file_is_named_with_its_folder(tmp_path: Path, missing: str) -> None:
    write(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(DataError, match=rf"{tmp_path} lacks {missing}$"):
        load(tmp_path)


@pytest.mark.usefixtures("nothing_at_hand")
def test_a_missing_data_set_says_where_it_was_sought_how_to_get_it_and_what_is_at_hand() -> None:
    with pytest.raises(DataError) as caught:
        load(None)
    for part in ("mnist", "data.root=", "data.download=true", "digits", "synthetic"):
        assert part in str(caught.value)


def published(monkeypatch: pytest.MonkeyPatch, tamper: bool = False) -> list[str]:
    """A server with gzipped files whose MD5 are known; returns the addresses asked for."""
    bodies = {f"https://example.invalid/{name}.gz": gzip.compress(encoded(a)) for name, a in ARRAYS.items()}
    md5 = [(url.rpartition("/")[2], hashlib.md5(body).hexdigest()) for url, body in bodies.items()]
    theirs = import_torchvision("torchvision.datasets").MNIST
    monkeypatch.setattr(theirs, "mirrors", ["https://example.invalid/"])
    monkeypatch.setattr(theirs, "resources", md5)
    asked: list[str] = []

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(bodies[url] + (b"!" if tamper else b""))

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def test_a_download_happens_only_when_asked_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = published(monkeypatch)
    with pytest.raises(DataError):
        load(tmp_path)
    assert asked == []
    assert load(tmp_path, download=True).info.sizes["test"] == 10
    assert len(asked) == 4
    assert sorted(p.name for p in (tmp_path / "MNIST" / "raw").iterdir()) == sorted(f"{f}.gz" for f in FILES)
    load(tmp_path, download=True)
    load(tmp_path)
    assert len(asked) == 4


def test_a_download_with_another_md5_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(monkeypatch, tamper=True)
    with pytest.raises(DataError, match=rf"data\.download: {FILES[0]}\.gz of mnist"):
        load(tmp_path, download=True)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "error", [OSError("no route to host"), TimeoutError("timed out"), IncompleteRead(b"")], ids=type
)
def test_a_failed_download_is_a_data_error_naming_what_is_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def urlopen(url: str, timeout: float) -> Any:
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(DataError, match=r"data\.download: cannot fetch mnist: .*; digits, .* need no files"):
        load(tmp_path, download=True)


def test_a_folder_that_cannot_be_written_is_a_data_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(monkeypatch)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"data\.root: cannot write"):
        load(tmp_path / "file", download=True)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_torchvision_publishes_the_four_files_in_their_order(name: str) -> None:
    theirs = getattr(import_torchvision("torchvision.datasets"), module._TORCHVISION[name])
    assert [file for file, _ in theirs.resources] == [f"{file}.gz" for file in FILES]
    assert theirs.mirrors[0].startswith("http") and theirs.mirrors[0].endswith("/")
    assert [label.partition(" - ")[0] for label in theirs.classes] == list(module._CLASSES[name])


def test_an_array_survives_the_format(tmp_path: Path) -> None:
    array = RANDOM.integers(0, 256, (2, 3, 4, 5)).astype(np.uint8)
    (tmp_path / "x").write_bytes(encoded(array))
    assert np.array_equal(read_idx(tmp_path / "x"), array)


def test_fashion_mnist_is_the_published_one() -> None:
    if not (module._system("fashion_mnist") / f"{FILES[0]}.gz").is_file():
        pytest.skip("Fashion-MNIST is not installed (Debian: apt-get install dataset-fashion-mnist)")
    data = idx("fashion_mnist", None, False, 0.0, 0, None, 5, None, "train", 10_000)
    assert data.info.sizes == {"train": 60_000, "val": 0, "test": 10_000}
    assert data.info.input_shape == (1, 28, 28)
    assert data.info.class_counts == (6000,) * 10
    assert torch.bincount(data.targets[data.splits["test"]]).tolist() == [1000] * 10
    (mean,), (std,) = PUBLISHED["fashion_mnist"]
    assert float(data.shift) / 255 == pytest.approx(mean, abs=5e-5)
    assert 1 / float(data.scale) / 255 == pytest.approx(std, abs=5e-5)


def test_a_missing_data_set_names_another_whose_files_lie_here(tmp_path: Path, nothing_at_hand: None) -> None:
    with pytest.raises(DataError) as none:
        load(None)
    assert "fashion_mnist" not in str(none.value)
    write(tmp_path / "absent" / "fashion-mnist", gzipped=True)
    with pytest.raises(DataError, match=r"the files of fashion_mnist are here: data=fashion_mnist$"):
        load(None)
