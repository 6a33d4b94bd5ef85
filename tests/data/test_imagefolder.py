"""Folders of pictures: what torchvision makes of them, in memory and lazily alike, damage named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainrun.data.dataset import DatasetData
from trainrun.data.imagefolder import decoded, imagefolder
from trainrun.data.resident import InMemoryData
from trainrun.protocols import BatchSpec, Position
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError, DataError

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
    return imagefolder(str(folder), 16, "train", None, memory_mib, **values)


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
    assert isinstance(data, InMemoryData)
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
    in_memory, lazy = load(root, fold=fold), load(root, memory_mib=0, fold=fold)
    assert isinstance(lazy, DatasetData)
    assert lazy.info.sizes == in_memory.info.sizes
    assert "decoded as they are read" in lazy.info.notes[0]
    for split in SPLITS:
        for mine, theirs in zip(in_memory.eval_batches(split), lazy.eval_batches(split), strict=True):
            torch.testing.assert_close(mine.inputs, theirs.inputs, atol=1e-5, rtol=1e-5)
            assert torch.equal(mine.targets, theirs.targets)


@pytest.mark.parametrize("memory_mib", [0, 100], ids=["lazy", "in memory"])
def test_folds_of_pictures_are_a_partition(tmp_path: Path, memory_mib: int) -> None:
    root = photos(tmp_path / "photos")
    folds = [load(root, memory_mib, fold=fold) for fold in range(5)]
    batches = [list(data.eval_batches("test")) for data in folds]
    indices = [torch.cat([batch.indices for batch in part]).tolist() for part in batches]
    assert sorted(index for part in indices for index in part) == list(range(20))
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
    first, second = (
        next(iter(data.train_batches(Position(), BatchSpec(5, 1), 3))) for data in (alone, helped)
    )
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
    with pytest.raises(DataError, match="is not a folder"):
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
            for index, trained_on in zip(batch.indices.tolist(), batch.inputs, strict=True):
                torch.testing.assert_close(inputs[index], trained_on)
    samples = data.read(files[3])
    assert list(samples.names) == [str(files[3])]
    torch.testing.assert_close(next(samples.batches).inputs[0], inputs[3])


def test_a_place_without_pictures_is_refused(tmp_path: Path) -> None:
    data = load(photos(tmp_path / "photos"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        data.read(tmp_path / "empty")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.png cannot be decoded"):
        list(data.read(tmp_path / "broken.png").batches)


def shades(folder: Path, dtype: type, white: float, name: str, count: int = 10) -> Path:
    """Flat pictures, darker cats than dogs, whose shades of grey are told by `shade`."""
    for target, kind in enumerate(("cat", "dog")):
        (folder / kind).mkdir(parents=True)
        for n in range(count):
            values = np.full((20, 20), shade(target, n) * white).astype(dtype)
            Image.fromarray(values).save(folder / kind / f"{n:02d}{name}")
    return folder


def shade(target: int, n: int) -> float:
    """0 is black, 1 is white."""
    return 0.1 + 0.5 * target + 0.031 * n


@pytest.mark.parametrize(
    ("memory_mib", "num_workers"), [(100, 0), (0, 0), (0, 2)], ids=["in memory", "lazy", "with workers"]
)
@pytest.mark.parametrize(
    ("dtype", "white", "name", "said"),
    [
        (np.uint16, 65535, ".png", "20 of 16 bits a pixel"),
        (np.uint16, 65535, ".tif", "20 of 16 bits a pixel"),
        (np.float32, 1, ".tiff", "20 of floats"),
    ],
)
def test_deep_pictures_are_learned_from_by_their_shades(
    tmp_path: Path, memory_mib: int, num_workers: int, dtype: type, white: float, name: str, said: str
) -> None:
    root = shades(tmp_path / "deep", dtype, white, name)
    data = load(root, memory_mib, num_workers=num_workers)
    assert any(said in note for note in data.info.notes)
    levels = np.array([shade(target, n) for target in range(2) for n in range(10)])
    train = data.splits["train"] if memory_mib else data.splits["train"][1]
    mean, std = levels[train.numpy()].mean(), levels[train.numpy()].std()
    for split in SPLITS:
        for batch in data.eval_batches(split):
            expected = torch.from_numpy((levels[batch.indices.numpy()] - mean) / std).float()
            torch.testing.assert_close(batch.inputs.mean((1, 2, 3)), expected, rtol=1e-3, atol=1e-3)
            assert float(batch.inputs.std((1, 2, 3)).max()) < 1e-3
    samples = data.read(root / "dog")
    assert any(said.replace("20", "10", 1) in note for note in samples.notes)
    read = torch.cat([batch.inputs.mean((1, 2, 3)) for batch in samples.batches])
    torch.testing.assert_close(
        read, torch.from_numpy((levels[10:] - mean) / std).float(), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("memory_mib", [100, 0], ids=["in memory", "lazily"])
def test_pictures_of_eight_and_sixteen_bits_and_floats_are_learned_together(
    tmp_path: Path, memory_mib: int
) -> None:
    root = shades(tmp_path / "mixed", np.uint8, 255, ".png")
    for n in (1, 2):
        Image.fromarray(np.full((20, 20), shade(1, n), np.float32)).save(root / f"dog/{n:02d}.tif")
        (root / f"dog/{n:02d}.png").unlink()
    Image.fromarray(np.full((20, 20), round(shade(0, 4) * 65535), np.uint16)).save(root / "cat/04.png")
    data = load(root, memory_mib)
    levels = np.array([shade(target, n) for target in range(2) for n in range(10)])
    train = (data.splits["train"] if memory_mib else data.splits["train"][1]).numpy()
    for batch in data.eval_batches("train"):
        expected = (levels[batch.indices.numpy()] - levels[train].mean()) / levels[train].std()
        torch.testing.assert_close(
            batch.inputs.mean((1, 2, 3)).double(), torch.tensor(expected), rtol=0, atol=0.02
        )
    assert {f"{n} of" for n in (1, 2)} < {" ".join(note.split()[:2]) for note in data.info.notes}


@pytest.mark.parametrize("memory_mib", [100, 0], ids=["in memory", "lazily"])
def test_pictures_of_no_known_range_are_refused_by_name(tmp_path: Path, memory_mib: int) -> None:
    root = shades(tmp_path / "floats", np.float32, 1, ".tif")
    Image.fromarray(np.full((20, 20), 17, np.float32)).save(root / "dog" / "03.tif")
    with pytest.raises(DataError, match=r"dog/03\.tif: float pixels .*mode F.* got 17 to 17"):
        read_all(load, root, memory_mib)
    data = load(shades(tmp_path / "plain", np.uint8, 255, ".png"), memory_mib)
    with pytest.raises(DataError, match=r"dog/03\.tif: float pixels"):
        list(data.read(root / "dog" / "03.tif").batches)


def test_bytes_stay_bytes_in_memory_and_deep_pictures_count_four_times(tmp_path: Path) -> None:
    plain = load(shades(tmp_path / "plain", np.uint8, 255, ".png", 1000), memory_mib=2)
    assert plain.inputs.dtype == torch.uint8  # 1.5 MiB
    deep = shades(tmp_path / "deep", np.uint16, 65535, ".png", 1000)
    assert isinstance(load(deep, memory_mib=2), DatasetData)
    assert load(deep, memory_mib=6).inputs.dtype == torch.float32


@pytest.mark.parametrize("memory_mib", [100, 0], ids=["in memory", "lazily"])
def test_splits_of_other_spellings_and_endings_are_used(tmp_path: Path, memory_mib: int) -> None:
    for name, count in (("Training", 6), ("validation", 3), ("TEST", 4)):
        photos(tmp_path / "photos" / name, count=count)
    renamed = tmp_path / "photos/Training/cat/00.png"
    Image.open(renamed).save(renamed.with_name("00.jfif"), format="JPEG")
    renamed.unlink()
    (tmp_path / "photos" / "readme.md").touch()
    data = load(tmp_path / "photos", memory_mib)
    assert data.info.sizes == {"train": 12, "val": 6, "test": 8}
    assert data.info.notes[1:] == (
        "folders of the splits: train is Training, val is validation, test is TEST",
        "not used: readme.md",
    )


@pytest.mark.parametrize("memory_mib", [100, 0], ids=["in memory", "lazily"])
def test_a_flat_test_folder_leaves_the_test_split_to_train(tmp_path: Path, memory_mib: int) -> None:
    photos(tmp_path / "photos" / "train")
    photos(tmp_path / "photos", ("test",))
    data = load(tmp_path / "photos", memory_mib)
    assert data.info.sizes == {"train": 12, "val": 4, "test": 4}
    assert "test has no class folders, so its 10 pictures are not used" in data.info.notes[1]


def test_what_a_folder_holds_beside_pictures_is_told_when_it_is_predicted(tmp_path: Path) -> None:
    data = load(photos(tmp_path / "photos"))
    (tmp_path / "photos" / "cat" / "about.txt").touch()
    assert data.read(tmp_path / "photos" / "cat").notes == ("not used: about.txt",)


def test_a_lazily_read_folder_is_known_by_every_byte(tmp_path: Path) -> None:
    def identity(root: Path) -> dict[str, Any]:
        return load(root, memory_mib=0).info.identity

    root = photos(tmp_path / "photos")
    before = identity(root)
    copied = Path(shutil.copytree(root, tmp_path / "elsewhere" / "photos"))
    for file in copied.rglob("*.png"):
        os.utime(file, (1, 1))
    assert identity(copied) == before
    middle = copied / "cat" / "04.png"
    pixels = np.array(Image.open(middle))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(middle)
    assert identity(copied) != before
    assert (
        identity(copied)["fingerprint"] == before["fingerprint"]
    )  # what older runs have stored, from three samples


def test_data_in_memory_are_known_as_before(tmp_path: Path) -> None:
    assert load(photos(tmp_path / "photos")).info.identity.keys() == {"name", "fingerprint", "sizes"}
