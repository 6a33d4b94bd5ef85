"""A folder of pictures, one folder per class: decoded beforehand where they fit in memory, else when read."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainrun.data import scaling
from trainrun.data.dataset import DatasetData, from_dataset
from trainrun.data.resident import Holdout, Resident, split, standardized
from trainrun.errors import ConfigError, DataError
from trainrun.protocols import Batch, DataInfo, PixelRange, Position, Samples
from trainrun.ranges import Count, Natural, Split

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_SPLITS = ("train", "val", "test")
_SHOWN = 10  # pictures at fault that are named
_ESTIMATED_FROM = 512  # pictures, where not all are decoded


class Pictures(Dataset[tuple[Tensor, int]]):
    """Files with their classes; a sample is (3, size, size) float32, standardised, and the class."""

    def __init__(
        self, files: Sequence[Path], targets: Sequence[int], classes: Sequence[str], size: int
    ) -> None:
        self.files, self.targets, self.classes, self.size = files, list(targets), list(classes), size
        self.shift, self.scale = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = decoded(self.files[index], self.size).float()
        return (picture - self.shift) * self.scale, self.targets[index]


class Decoded(Resident):
    """Pictures decoded beforehand."""

    def read(self, file: Path) -> Samples:
        """A picture, or all of a folder and of those below it."""
        found = _others(file, self.info.input_shape[1], self.eval_batch_size)
        moved = (replace(batch, inputs=batch.inputs.to(self.device)) for batch in found.batches)
        return replace(found, batches=map(self.scaled, moved))


class Lazy(DatasetData):
    """Pictures decoded by loader processes; all splits share the estimates of the training split."""

    def to(self, device: torch.device) -> None:
        super().to(device)
        self._scale_pixels()

    def fitted(self) -> dict[str, Any]:
        first = self._pictures()[0]
        return {"shift": first.shift, "scale": first.scale}

    def restore(self, fitted: Mapping[str, Any]) -> None:
        for one in self._pictures():
            one.shift, one.scale = fitted["shift"], fitted["scale"]
        self._scale_pixels()

    def _scale_pixels(self) -> None:
        """Black and white, 0 and 255 in a file, as the model sees them."""
        first, pixels = self._pictures()[0], self.info.pixels
        assert pixels is not None  # of pictures they are known
        pixels.black, pixels.white = (((end - first.shift) * first.scale).to(self.device) for end in (0, 255))

    def read(self, file: Path) -> Samples:
        """A picture, or all of a folder and of those below it."""
        found, first = _others(file, self.info.input_shape[1], self.eval_batch_size), self._pictures()[0]
        scaled = (
            replace(batch, inputs=((batch.inputs - first.shift) * first.scale).to(self.device))
            for batch in found.batches
        )
        return replace(found, batches=scaled)

    def _pictures(self) -> list[Pictures]:
        return [dataset for dataset, _ in self.splits.values() if isinstance(dataset, Pictures)]


def imagefolder(
    root: str,
    image_size: Count,
    memory_mib: Natural,
    val_fraction: Split,
    test_fraction: Split,
    split_seed: Natural,
    fold: Natural | None,
    num_folds: Count,
    limit: Count | None,
    eval_batch_size: Count,
    num_workers: Natural,
) -> Resident | DatasetData:
    """Pictures in `root`/CLASS, or in `root`/train/CLASS with val and test beside it where there are such.

    A picture's shorter side is resized to `image_size` and the middle square cut out. All are decoded
    beforehand where they take at most `memory_mib`, else by `num_workers` loader processes.
    Raises DataError naming a picture that cannot be decoded, ConfigError for a fold of data that
    have validation and test pictures.
    """
    folder = Path(root).expanduser()
    found = _found(folder, image_size)
    if fold is not None and len(found) == len(_SPLITS):
        raise ConfigError.one("data.fold", f"{folder} has folders for validation and test", None)
    shares = {"val": val_fraction, "test": test_fraction}
    val_fraction, test_fraction = (0.0 if name in found else share for name, share in shares.items())
    holdout = Holdout(val_fraction, test_fraction, split_seed, limit, fold, num_folds)
    total = sum(map(len, found.values()))
    mib = total * 3 * image_size**2 / 2**20
    text = f"{total:,} pictures of {len(found['train'].classes)} classes, {mib:,.0f} MiB when decoded:"
    if mib <= memory_mib:
        note = f"{text} kept in memory"
        return _in_memory(folder, found, holdout, eval_batch_size, num_workers, note)
    parts = (found["train"], found.get("val"), found.get("test"))
    made = from_dataset(*parts, **vars(holdout), eval_batch_size=eval_batch_size, num_workers=num_workers)
    estimates, told = _estimates(found["train"], made.splits["train"][1])
    note = f"{text} more than data.memory_mib={memory_mib}, so decoded as they are read"
    pixels = PixelRange(torch.zeros(()), torch.ones(()))
    info = replace(made.info, name=folder.name, input_scaling=told, pixels=pixels, notes=(note,))
    data = Lazy(info, made.splits, eval_batch_size, num_workers)
    data.restore(estimates)
    return data


def decoded(file: Path, size: int) -> Tensor:
    """(3, size, size) uint8: the shorter side resized, the middle cut out, turned as its EXIF says.

    Raises DataError naming a file that cannot be decoded whole.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not file.is_file():
        raise DataError(f"data.root: {file} is a pipe or a device, not a file")
    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except UnidentifiedImageError:  # whose text is the file's name again
        raise DataError(f"data.root: {file} cannot be decoded: it is of no known format") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"data.root: {file} cannot be decoded: {error}") from None
    short = min(image.size)
    width, height = (size * side // short for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    image = image.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _found(folder: Path, size: int) -> dict[str, Pictures]:
    """Split -> its pictures; "train" alone where the folder itself holds the classes."""
    if not folder.is_dir():
        raise DataError(f"data.root: {folder} is no folder")
    places = {name: folder / name for name in _SPLITS if (folder / name).is_dir()}
    if "train" not in places:
        places = {"train": folder}
    classes = _folders(places["train"])
    if len(classes) < 2:
        text = (
            f"wants a folder of pictures for each of two or more classes, got {', '.join(classes) or 'none'}"
        )
        raise DataError(f"data.root: {places['train']} {text}")
    found = {}
    for name, place in places.items():
        if odd := [one for one in _folders(place) if one not in classes]:
            raise DataError(f"data.root: {place / odd[0]} is a class that {places['train']} has not")
        files = [(file, at) for at, one in enumerate(classes) for file in _pictures(place / one)]
        found[name] = Pictures([file for file, _ in files], [at for _, at in files], classes, size)
    for at, one in enumerate(classes):
        if at not in found["train"].targets:
            raise DataError(f"data.root: {places['train'] / one} holds no picture ({', '.join(_SUFFIXES)})")
    return found


def _folders(place: Path) -> list[str]:
    return sorted(one.name for one in place.iterdir() if one.is_dir() and not one.name.startswith("."))


def _pictures(place: Path) -> list[Path]:
    return sorted(one for one in place.rglob("*") if one.suffix.lower() in _SUFFIXES and one.name[0] != ".")


def _others(place: Path, size: int, count: int) -> Samples:
    """Pictures that nobody has sorted, `count` at a time, each by its path; (N, 3, size, size) uint8."""
    files = _pictures(place) if place.is_dir() else [place]
    if not files:
        raise DataError(f"{place} holds no picture ({', '.join(_SUFFIXES)})")
    parts = torch.arange(len(files)).split(count)
    batches = (
        Batch(torch.stack([decoded(files[at], size) for at in part.tolist()]), None, part, Position())
        for part in parts
    )
    return Samples(batches, [str(file) for file in files])


def _in_memory(
    folder: Path,
    found: Mapping[str, Pictures],
    holdout: Holdout,
    eval_batch_size: int,
    num_workers: int,
    note: str,
) -> Resident:
    files = [file for one in found.values() for file in one.files]
    targets = torch.tensor([target for one in found.values() for target in one.targets])
    train = found["train"]
    inputs = _all_decoded(files, train.size, num_workers)
    elsewhere = torch.arange(0) if "test" in found else None  # no picture of train is a test picture
    splits, start = split(len(train), holdout, targets[: len(train)], elsewhere), 0
    for name, one in found.items():
        if name != "train":
            splits[name] = torch.arange(start, start + len(one))
        start += len(one)
    classes = tuple(train.classes)
    pixels, shape = PixelRange(torch.tensor(0.0), torch.tensor(255.0)), tuple(inputs.shape[1:])
    info = DataInfo(folder.name, shape, "classes", len(classes), {}, classes, pixels=pixels, notes=(note,))
    return standardized(Decoded, info, inputs, targets, splits, eval_batch_size, per_feature=False)


def _all_decoded(files: Sequence[Path], size: int, num_threads: int) -> Tensor:
    """(N, 3, size, size) uint8. Raises DataError with every file that cannot be decoded, a line for each."""

    def attempt(file: Path) -> Tensor | DataError:
        try:
            return decoded(file, size)
        except DataError as error:
            return error

    inputs, faults = torch.empty(len(files), 3, size, size, dtype=torch.uint8), []
    pool = ThreadPoolExecutor(max(num_threads, 1))
    try:
        for at, made in enumerate(pool.map(attempt, files)):
            if isinstance(made, DataError):
                faults.append(str(made))
            else:
                inputs[at] = made
    finally:
        pool.shutdown(cancel_futures=True)
    if faults:
        more = [f"and {len(faults) - _SHOWN:,} more"] if len(faults) > _SHOWN else []
        raise DataError(*faults[:_SHOWN], *more)
    return inputs


def _estimates(pictures: Pictures, train: Tensor | None) -> tuple[dict[str, Tensor], str]:
    """Mean and 1 / std of each channel, (3, 1, 1), from pictures at even distances; in words."""
    assert train is not None  # it is a stream's
    count = min(len(train), _ESTIMATED_FROM)
    chosen = train[torch.arange(count) * len(train) // count].tolist()
    sample = torch.stack([decoded(pictures.files[index], pictures.size) for index in chosen])
    shift, scale = scaling.standardization(sample, per_feature=False)
    told = f"{scaling.told(shift, scale, per_feature=False)}, by {count:,} of its pictures"
    return {"shift": shift[0], "scale": scale[0]}, told
