"""A folder of pictures, one folder per class: decoded once where they fit in memory, else when read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainrun.data import scaling
from trainrun.data.dataset import DatasetData, from_dataset
from trainrun.data.folders import class_folders, not_used, walked
from trainrun.data.lazy_indices import Indices
from trainrun.data.order import evenly_spaced
from trainrun.data.pictures import SUFFIXES, decoded, forms_of, is_deep, notes_of
from trainrun.data.published import normalized
from trainrun.data.resident import Holdout, InMemoryData, resident
from trainrun.protocols import Batch, DataInfo, PixelRange, Position, Preprocessing, Samples
from trainrun.tables.names import SPLITS
from trainrun.vocabulary.errors import ConfigError, DataError
from trainrun.vocabulary.ranges import Count, Natural, Normalize, NormalizeOwn, Split

_SIZE = 64  # pixels, of `auto` without weights that have a size of their own
_UNNAMED: Any = dict.fromkeys(("inputs", "targets", "group", "time", "weights", "collate_function"))
_SHOWN = 10  # pictures at fault that are named: enough to see what they share
_ESTIMATED_FROM = 512  # pictures, where not all are decoded: their pixels give the mean to about 1 %


class Cut(NamedTuple):
    """How a picture becomes a square: its shorter side is resized, the middle cut out."""

    size: int
    resize: int | None  # pixels of the shorter side; None: as many as the square
    interpolation: str

    def __str__(self) -> str:
        middle = f"their middle {self.size} x {self.size} once the shorter side has"
        return f"{middle} {self.resize} pixels" if self.resize else f"{middle} that length"


class Pictures(Dataset[tuple[Tensor, int]]):
    """Files with their classes; a sample is (3, size, size) float32, standardised, and the class."""

    def __init__(self, samples: Sequence[tuple[Path, int]], classes: Sequence[str], cut: Cut) -> None:
        self.samples, self.classes, self.cut = list(samples), list(classes), cut  # as an ImageFolder's
        self.targets = [target for _, target in samples]
        self.shift, self.scale = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file, target = self.samples[index]
        return (decoded(file, *self.cut).float() - self.shift) * self.scale, target


class Decoded(InMemoryData):
    """Pictures decoded once, into memory."""

    cut: Cut

    def read(self, file: Path) -> Samples:
        """A picture, or all pictures of a folder and of those below it."""
        return _unsorted(file, self, self.cut, self.shift, self.scale)


class Lazy(DatasetData):
    """Pictures decoded by loader processes; all splits share the mean and std of the training split."""

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.restore(self.fitted())

    def fitted(self) -> dict[str, Any]:
        first = self._pictures()[0]
        return {"shift": first.shift, "scale": first.scale}

    def restore(self, fitted: Mapping[str, Any]) -> None:
        for pictures in self._pictures():
            pictures.shift, pictures.scale = shift, scale = fitted["shift"], fitted["scale"]
        pixels = self.info.pixels
        assert pixels is not None  # of pictures they are known
        # 0 and 255 in a file, as the model sees them.
        pixels.black, pixels.white = (((end - shift) * scale).to(self.device) for end in (0, 255))

    def read(self, file: Path) -> Samples:
        """A picture, or all pictures of a folder and of those below it."""
        return _unsorted(file, self, self._pictures()[0].cut, **self.fitted())

    def _pictures(self) -> list[Pictures]:
        return [dataset for dataset, _ in self.splits.values() if isinstance(dataset, Pictures)]


def imagefolder(
    root: str,
    image_size: Count | Literal["auto"],
    normalize: NormalizeOwn,
    preprocessing: Preprocessing | None,
    memory_mib: Natural,
    val_fraction: Split,
    test_fraction: Split,
    split_seed: Natural,
    fold: Natural | None,
    num_folds: Count,
    limit: Count | None,
    eval_batch_size: Count,
    num_workers: Natural,
) -> InMemoryData | DatasetData:
    """Pictures in `root`/CLASS, or in `root`/train/CLASS with val and test beside it, in any usual spelling.

    A picture's shorter side is resized to `image_size` and the middle square cut out. With the
    `preprocessing` of a model's weights `auto` means their size, margin, mean and std. All are decoded
    into memory where they take at most `memory_mib`, else when needed by `num_workers` loader processes.
    Raises DataError naming a picture that cannot be decoded, ConfigError for a fold of data that
    have validation and test pictures.
    """
    folder = Path(root).expanduser()
    layout = class_folders(folder)
    cut, wanted = _cut(image_size, preprocessing), _normalize(normalize, preprocessing)
    splits = {name: Pictures(files, layout.classes, cut) for name, files in layout.splits.items()}
    if fold is not None and len(splits) == len(SPLITS):
        raise ConfigError.of("data.fold", f"{folder} has folders for validation and test", None)
    holdout = Holdout(val_fraction, test_fraction, split_seed, limit, fold, num_folds)
    files = [file for pictures in splits.values() for file, _ in pictures.samples]
    mib = len(files) * 3 * cut.size**2 / 2**20
    looked_at = files if mib <= memory_mib else files[:: -(-len(files) // _ESTIMATED_FROM)]
    forms = forms_of(looked_at)
    mib *= 4 if is_deep(forms) else 1
    text = f"{len(files):,} pictures of {len(layout.classes)} classes, {cut}; {mib:,.0f} MiB when decoded:"
    of_some = f"of {len(looked_at):,} looked at, " if len(looked_at) < len(files) else ""
    notes = (*(of_some + line for line in notes_of(forms)), *layout.notes)
    notes += (f"prepared as for {preprocessing.source}, {cut.interpolation}",) if preprocessing else ()
    if mib <= memory_mib:
        notes = (f"{text} kept in memory", *notes)
        data = _in_memory(folder.name, splits, holdout, eval_batch_size, num_workers, notes, is_deep(forms))
        return normalized(data, wanted)
    loaded = from_dataset(
        splits["train"],
        splits.get("val"),
        splits.get("test"),
        **vars(holdout),
        eval_batch_size=eval_batch_size,
        num_workers=num_workers,
        **_UNNAMED,
        target_kind="classes",
    )
    estimates, scaling_text = _scaling(wanted, splits["train"], loaded.splits["train"][1])
    note = f"{text} more than data.memory_mib={memory_mib}, so decoded as they are read"
    pixels = PixelRange(torch.zeros(()), torch.ones(()))
    notes = (note, *notes, *loaded.info.notes)
    info = replace(loaded.info, name=folder.name, input_scaling=scaling_text, pixels=pixels, notes=notes)
    lazy = Lazy(info, loaded.splits, eval_batch_size, num_workers, loaded.reading)
    lazy.restore(estimates)
    return lazy


def _cut(image_size: int | Literal["auto"], preprocessing: Preprocessing | None) -> Cut:
    """The margin of the weights' own size is kept in proportion at another one."""
    if preprocessing is None:
        return Cut(_SIZE if image_size == "auto" else image_size, None, "bilinear")
    size = preprocessing.size if image_size == "auto" else image_size
    resize = round(size * preprocessing.resize / preprocessing.size)
    return Cut(size, resize, preprocessing.interpolation)


def _normalize(normalize: NormalizeOwn, preprocessing: Preprocessing | None) -> Normalize:
    if normalize != "auto":
        return normalize
    return "train" if preprocessing is None else (list(preprocessing.mean), list(preprocessing.std))


def _unsorted(place: Path, data: Decoded | Lazy, cut: Cut, shift: Tensor, scale: Tensor) -> Samples:
    """Pictures without classes, named by path, in batches as the model takes them."""
    files, unused, _ = walked(place) if place.is_dir() else ([place], [], set())
    if not files:
        raise DataError(f"{place} holds no picture ({', '.join(sorted(SUFFIXES))})")

    def batch_of(part: Tensor) -> Batch:
        pictures = [decoded(files[index], *cut).float() for index in part.tolist()]
        inputs = (torch.stack(pictures).to(data.device) - shift.to(data.device)) * scale.to(data.device)
        return Batch(inputs, None, part, Position())

    batches = map(batch_of, torch.arange(len(files)).split(data.eval_batch_size))
    notes = (*notes_of(forms_of(files)), *not_used(unused, place))
    return Samples(batches, [str(file) for file in files], notes)


def _in_memory(
    name: str,
    pictures_of: Mapping[str, Pictures],
    holdout: Holdout,
    eval_batch_size: int,
    num_workers: int,
    notes: tuple[str, ...],
    deep: bool,
) -> InMemoryData:
    samples = [sample for pictures in pictures_of.values() for sample in pictures.samples]
    files, targets = [file for file, _ in samples], torch.tensor([target for _, target in samples])
    train = pictures_of["train"]
    inputs = _all_decoded(files, train.cut, num_workers, torch.float32 if deep else torch.uint8)
    parts = torch.arange(len(files)).split([len(pictures) for pictures in pictures_of.values()])
    given = dict(zip(pictures_of, parts, strict=True))
    del given["train"]
    classes = tuple(train.classes)
    pixels, shape = PixelRange(torch.tensor(0.0), torch.tensor(255.0)), tuple(inputs.shape[1:])
    info = DataInfo(name, shape, "classes", len(classes), {}, classes, pixels=pixels, notes=notes)
    data = resident(info, inputs, targets, holdout, eval_batch_size, given, Decoded)
    assert isinstance(data, Decoded)
    data.cut = train.cut
    return data


def _all_decoded(files: Sequence[Path], cut: Cut, num_threads: int, dtype: torch.dtype) -> Tensor:
    """(N, 3, size, size). Raises DataError with every file that cannot be decoded, a line for each."""

    def attempt(file: Path) -> Tensor | DataError:
        try:
            return decoded(file, *cut)
        except DataError as error:
            return error

    inputs, faults = torch.empty(len(files), 3, cut.size, cut.size, dtype=dtype), []
    pool = ThreadPoolExecutor(max(num_threads, 1))
    try:
        for row, picture in enumerate(pool.map(attempt, files)):
            if isinstance(picture, DataError):
                faults.append(str(picture))
            else:
                inputs[row] = picture
    finally:
        pool.shutdown(cancel_futures=True)
    if faults:
        more = [f"and {len(faults) - _SHOWN:,} more"] if len(faults) > _SHOWN else []
        raise DataError(*faults[:_SHOWN], *more)
    return inputs


def _scaling(normalize: Normalize, pictures: Pictures, rows: Indices | None) -> tuple[dict[str, Tensor], str]:
    """Shift and scale of each channel, (3, 1, 1), estimated from pictures at even distances; in words."""
    if normalize == "train":
        assert rows is not None  # it is a stream's
        files = [pictures.samples[index][0] for index in evenly_spaced(rows, _ESTIMATED_FROM).tolist()]
        shift, scale = scaling.standardization(
            torch.stack([decoded(file, *pictures.cut).float() for file in files])
        )
        text = f"{scaling.describe_scaling(shift, scale)}, by {len(files):,} of its pictures"
    else:
        shift, scale, text = scaling.given_scaling(normalize, 3)
    return {"shift": shift[0], "scale": scale[0]}, text
