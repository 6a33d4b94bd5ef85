"""Folders of pictures: what torchvision makes of them, in memory and lazily alike, damage named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainrun.data.dataset import DatasetData
from trainrun.data.imagefolder import decoded, imagefolder
from trainrun.data.resident import Resident
from trainrun.errors import ConfigError, DataError
from trainrun.protocols import Cut, Position
from trainrun.vision import import_torchvision

SPLITS = ("train", "val", "test")
SIZES = [(40, 30), (30, 41), (17, 17), (64, 20), (20, 33)]
SHARES = {
    "val_fraction": 0.2,
    "test_fraction": 0.2,
    "split_seed": 0,
    "fold": None,
    "num_folds": 5,
    "limit": None,
}


def photos(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 10) -> Path:
    random = np.random.default_rng(len(folder.name))
    for name in classes:
        (folder / name).mkdir(parents=True)
        for n in range(count):
            width, height = SIZES[n % len(SIZES)]
            pixels = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{n:02d}.png")
    return folder


def load(folder: Path, memory_mib: int = 100, **changed: Any) -> Any:
    values = SHARES | {"eval_batch_size": 4, "num_workers": 0} | changed
    return imagefolder(str(folder), 16, memory_mib, **values)


def read_all(load: Callable[[Path, int], Any], folder: Path, memory_mib: int) -> None:
    data = load(folder, memory_mib)
    for split in data.splits:
        list(data.eval_batches(split))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_picture_is_resized_and_cut_as_torchvision_does(tmp_path: Path, size: tuple[int, int]) -> None:
    transforms = import_torchvision("torchvision.transforms")
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    whole = [transforms.Resize(16), transforms.CenterCrop(16), transforms.PILToTensor()]
    expected = transforms.Compose(whole)(Image.open(tmp_path / "a.png"))
    assert torch.equal(decoded(tmp_path / "a.png", 16), expected)


def test_classes_and_splits_are_those_of_the_folders(tmp_path: Path) -> None:
    data = load(photos(tmp_path / "photos"))
    assert isinstance(data, Resident)
    assert data.info.class_names == ("cat", "dog")
    assert data.info.sizes == {"train": 12, "val": 4, "test": 4}
    assert data.targets.tolist() == [0] * 10 + [1] * 10
    assert "20 pictures of 2 classes" in data.info.notes[0]


def test_pictures_are_standardised_by_the_training_split(tmp_path: Path) -> None:
    data = load(photos(tmp_path / "photos"))
    inputs = torch.cat([batch.inputs for batch in data.eval_batches("train")])
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(inputs.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)


FOLDERS = {"one": (), "one, folded": (), "train and test, folded": ("train", "test"), "three": SPLITS}


@pytest.mark.parametrize("case", FOLDERS)
def test_lazy_pictures_are_those_in_memory(tmp_path: Path, case: str) -> None:
    for name in FOLDERS[case]:
        photos(tmp_path / "photos" / name)
    root = tmp_path / "photos" if FOLDERS[case] else photos(tmp_path / "photos")
    fold = 1 if "folded" in case else None
    kept, lazy = load(root, fold=fold), load(root, memory_mib=0, fold=fold)
    assert isinstance(lazy, DatasetData)
    assert lazy.info.sizes == kept.info.sizes
    assert "decoded as they are read" in lazy.info.notes[0]
    for split in SPLITS:
        for mine, theirs in zip(kept.eval_batches(split), lazy.eval_batches(split), strict=True):
            torch.testing.assert_close(mine.inputs, theirs.inputs, atol=1e-5, rtol=1e-5)
            assert torch.equal(mine.targets, theirs.targets)


@pytest.mark.parametrize("memory_mib", [0, 100], ids=["lazy", "in memory"])
def test_folds_of_pictures_are_a_partition(tmp_path: Path, memory_mib: int) -> None:
    root = photos(tmp_path / "photos")
    folds = [load(root, memory_mib, fold=fold) for fold in range(5)]
    batches = [list(data.eval_batches("test")) for data in folds]
    found = [torch.cat([batch.indices for batch in part]).tolist() for part in batches]
    assert sorted(index for part in found for index in part) == list(range(20))
    for part in batches:
        assert torch.cat([batch.targets for batch in part]).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("memory_mib", [0, 100], ids=["lazy", "in memory"])
def test_nothing_is_folded_where_the_folders_say_it_all(tmp_path: Path, memory_mib: int) -> None:
    for name in SPLITS:
        photos(tmp_path / "photos" / name, count=1)
    with pytest.raises(ConfigError, match=r"data\.fold: .* has folders for validation and test"):
        load(tmp_path / "photos", memory_mib, fold=0)


def test_workers_do_not_change_what_is_read(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    alone, helped = (load(root, memory_mib=0, num_workers=n) for n in (0, 2))
    first, second = (next(iter(one.train_batches(Position(), Cut(5, 1), 3))) for one in (alone, helped))
    assert torch.equal(first.inputs, second.inputs)


@pytest.mark.parametrize("memory_mib", [0, 100], ids=["lazy", "in memory"])
def test_black_and_white_are_those_of_picture_files(tmp_path: Path, memory_mib: int) -> None:
    data = load(photos(tmp_path / "photos"), memory_mib)
    pictures = [decoded(file, 16).double() for file in sorted((tmp_path / "photos").rglob("*.png"))]
    (train,) = (part if memory_mib else part[1] for name, part in data.splits.items() if name == "train")
    values = torch.stack(pictures)[train].transpose(0, 1).flatten(1)
    mean, std = values.mean(1)[:, None, None], values.std(1, correction=0)[:, None, None]
    torch.testing.assert_close(data.info.pixels.black.double(), (0 - mean) / std, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(data.info.pixels.white.double(), (255 - mean) / std, rtol=1e-4, atol=1e-5)


def test_estimates_are_stored_and_restored(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    first, second = load(root, memory_mib=0), load(root, memory_mib=0, split_seed=5)
    second.restore(first.fitted())
    assert torch.equal(first.splits["train"][0][3][0], second.splits["train"][0][3][0])


@pytest.mark.parametrize("memory_mib", [0, 100], ids=["lazy", "in memory"])
def test_a_corrupt_picture_is_named(tmp_path: Path, memory_mib: int) -> None:
    root = photos(tmp_path / "photos")
    bad = root / "dog" / "03.png"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(DataError, match=r"dog/03\.png cannot be decoded"):
        read_all(load, root, memory_mib)


def test_all_corrupt_pictures_are_named_at_once(tmp_path: Path) -> None:
    files = sorted(photos(tmp_path / "photos").rglob("*.png"))
    for file in files[1:3]:
        file.write_bytes(b"no picture")
    with pytest.raises(DataError) as raised:
        load(tmp_path / "photos")
    lines = str(raised.value).splitlines()
    assert len(lines) == 2
    assert all(f"{file} cannot be decoded" in line for file, line in zip(files[1:3], lines, strict=True))
    for file in files[:15]:
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"\nand 5 more$"):
        load(tmp_path / "photos")


def test_folders_that_hold_no_classes_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        load(tmp_path / "absent")
    with pytest.raises(DataError, match="two or more classes, got none"):
        load(tmp_path)
    root = photos(tmp_path / "photos")
    (root / "eel").mkdir()
    with pytest.raises(DataError, match="eel holds no picture"):
        load(root)


def test_a_class_that_is_not_trained_on_is_told(tmp_path: Path) -> None:
    photos(tmp_path / "photos" / "train")
    photos(tmp_path / "photos" / "test", ("cat", "eel"))
    with pytest.raises(DataError, match="eel is a class that"):
        load(tmp_path / "photos")


@pytest.mark.parametrize("memory_mib", [100, 0], ids=["in memory", "lazily"])
def test_further_pictures_are_read_as_those_trained_on(tmp_path: Path, memory_mib: int) -> None:
    data = load(photos(tmp_path / "photos"), memory_mib)
    files = sorted((tmp_path / "photos").rglob("*.png"))
    samples = data.read(tmp_path / "photos")
    batches = list(samples.batches)
    assert list(samples.names) == [str(file) for file in files]
    inputs = torch.cat([batch.inputs for batch in batches])
    for split in data.splits:
        for batch in data.eval_batches(split):  # of the same pictures, the classes one after the other
            for index, known in zip(batch.indices.tolist(), batch.inputs, strict=True):
                torch.testing.assert_close(inputs[index], known)
    one = data.read(files[3])
    assert list(one.names) == [str(files[3])]
    torch.testing.assert_close(next(one.batches).inputs[0], inputs[3])


def test_a_place_without_pictures_is_refused(tmp_path: Path) -> None:
    data = load(photos(tmp_path / "photos"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        data.read(tmp_path / "empty")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.png cannot be decoded"):
        list(data.read(tmp_path / "broken.png").batches)
