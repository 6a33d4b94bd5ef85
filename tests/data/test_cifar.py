"""CIFAR's binary files: read record by record, unpacked and fetched only when asked, damage named."""

from __future__ import annotations

import hashlib
import io
import tarfile
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainrun.data import cifar as module
from trainrun.data.cifar import SOURCES, cifar
from trainrun.data.resident import InMemoryData
from trainrun.vocabulary.errors import DataError

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (120, 3, 32, 32)).astype(np.uint8)
NAMES = ["cifar10", "cifar100"]


def records(name: str) -> dict[str, bytes]:
    """File -> its bytes: 20 pictures each, of class n modulo the number of classes."""
    source, contents = SOURCES[name], {}
    for number, file in enumerate(source.files):
        numbers = range(20 * number, 20 * number + 20)
        before = [bytes([7] * (source.label_bytes - 1) + [n % source.num_classes]) for n in numbers]
        contents[file] = b"".join(b + PIXELS[n].tobytes() for b, n in zip(before, numbers, strict=True))
    contents[source.names] = "\n".join(f"kind{n}" for n in range(source.num_classes)).encode()
    return contents


def archive(name: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for file, body in records(name).items():
            entry = tarfile.TarInfo(f"{SOURCES[name].folder}/{file}")
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
    return stream.getvalue()


def write(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file, body in records(name).items():
        (folder / file).write_bytes(body)
    return folder


def load(root: Path, name: str = "cifar10", download: bool = False) -> InMemoryData:
    return cifar(name, str(root), download, 0.1, 0, None, 5, None, "train", 16)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_pictures_and_classes_are_those_of_the_files(tmp_path: Path, name: str) -> None:
    write(tmp_path / SOURCES[name].folder, name)
    data = load(tmp_path, name)
    count = 20 * len(SOURCES[name].files)
    np.testing.assert_array_equal(data.inputs, PIXELS[:count])
    assert data.targets.tolist() == [n % SOURCES[name].num_classes for n in range(count)]
    assert data.splits["test"].tolist() == list(range(count - 20, count))
    assert data.info.class_names[1] == "kind1"


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_is_fetched_when_asked_and_checked(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = archive(name)
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(body))
    with pytest.raises(DataError, match=r"data\.download=true"):
        load(tmp_path, name)
    with pytest.raises(DataError, match="does not have the published MD5"):
        load(tmp_path, name, download=True)
    assert not list(tmp_path.iterdir())
    source = replace(SOURCES[name], md5=hashlib.md5(body).hexdigest())
    monkeypatch.setitem(module.SOURCES, name, source)
    np.testing.assert_array_equal(load(tmp_path, name, download=True).inputs[:20], PIXELS[:20])
    assert load(tmp_path, name).info.name == name  # from what was unpacked


def test_damage_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, "cifar10")
    file = folder / "data_batch_2.bin"
    whole = file.read_bytes()
    for body, message in ((whole[:-1], "multiple of 3073 bytes"), (b"\x0a" + whole[1:], "the label 10")):
        file.write_bytes(body)
        with pytest.raises(DataError, match=rf"data_batch_2\.bin .*{message}"):
            load(tmp_path)


def test_a_damaged_archive_and_pickles_are_told(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match="holds pickles and is not read"):
        load(tmp_path)
    (tmp_path / SOURCES["cifar10"].archive).write_bytes(archive("cifar10")[:3000])
    with pytest.raises(DataError, match="cannot unpack"):
        load(tmp_path)
