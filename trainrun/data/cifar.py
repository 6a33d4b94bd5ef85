"""CIFAR-10 and CIFAR-100 from their binary version, without pickles; downloaded only when asked."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from trainrun.data.published import download_file, published
from trainrun.data.resident import Holdout, InMemoryData
from trainrun.vocabulary.errors import DataError
from trainrun.vocabulary.ranges import Count, Natural, Normalize, Split

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class CifarSource:
    """Where a data set lies, how its records begin, and how to know that it arrived whole."""

    archive: str
    md5: str  # of the archive, as published
    folder: str  # inside the archive
    files: tuple[str, ...]  # the last holds the test split
    names: str  # the file of the class names
    num_classes: int
    label_bytes: int  # before each picture; the last one is the class


URL = "https://www.cs.toronto.edu/~kriz/"
SOURCES = {
    "cifar10": CifarSource(
        "cifar-10-binary.tar.gz",
        "c32a1d4ab5d03f1284b67883e8d87530",
        "cifar-10-batches-bin",
        (*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"),
        "batches.meta.txt",
        10,
        1,
    ),
    "cifar100": CifarSource(
        "cifar-100-binary.tar.gz",
        "03b5dce01913d631647c71ecec9e9cb8",
        "cifar-100-binary",
        ("train.bin", "test.bin"),
        "fine_label_names.txt",
        100,
        2,
    ),
}


def cifar(
    name: Literal["cifar10", "cifar100"],
    root: str | None,
    download: bool,
    val_fraction: Split,
    split_seed: Natural,
    fold: Natural | None,
    num_folds: Count,
    limit: Count | None,
    normalize: Normalize,
    eval_batch_size: Count,
) -> InMemoryData:
    """50,000 + 10,000 colour pictures of 32 x 32, 10 or 100 classes (Krizhevsky, 2009)."""
    source = SOURCES[name]
    folder = _folder(name, source, Path(root).expanduser() if root else Path("data"), download)
    parts = [_read(folder / file, source) for file in source.files]
    names = _class_names(folder / source.names, source)
    holdout = Holdout(val_fraction, 0.0, split_seed, limit, fold, num_folds)
    return published(name, names, parts, holdout, normalize, eval_batch_size)


def _read(file: Path, source: CifarSource) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3, 32, 32) pictures and (N,) classes, both uint8."""
    record = source.label_bytes + _PIXELS
    try:
        raw = np.fromfile(file, np.uint8)
    except OSError as error:
        raise DataError(f"data.root: cannot read {file}: {error.strerror or error}") from None
    if not len(raw) or len(raw) % record:
        raise DataError(f"data.root: {file} should have a multiple of {record} bytes, got {len(raw)}")
    rows = raw.reshape(-1, record)
    labels = rows[:, source.label_bytes - 1]
    if labels.max() >= source.num_classes:
        text = f"has the label {labels.max()}, there are {source.num_classes} classes"
        raise DataError(f"data.root: {file} {text}")
    return rows[:, source.label_bytes :].reshape(-1, 3, 32, 32), labels


def _class_names(file: Path, source: CifarSource) -> tuple[str, ...]:
    """The names that the file lists; numbers where it does not."""
    try:
        names = tuple(file.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError):
        names = ()
    return names if len(names) == source.num_classes else tuple(map(str, range(source.num_classes)))


def _folder(name: str, source: CifarSource, base: Path, download: bool) -> Path:
    """The folder of the binary files, `base` or one below it; unpacks the archive where there is one."""
    folder = base / source.folder
    for candidate in (base, folder):
        if all((candidate / file).is_file() for file in source.files):
            return candidate
    archive = base / source.archive
    if not archive.is_file():
        if not download:
            text = f"no {name} files below {base}; name their folder with data.root=, or fetch them with"
            is_pickled = any((base / name).is_dir() for name in ("cifar-10-batches-py", "cifar-100-python"))
            hint = "; the Python version holds pickles and is not read" if is_pickled else ""
            raise DataError(f"data.root: {text} data.download=true{hint}")
        download_file(name, f"{URL}{source.archive}", source.md5, archive)
    try:
        with tarfile.open(archive) as tar:
            for file in (*source.files, source.names):
                tar.extract(f"{source.folder}/{file}", base, filter="data")
    except (OSError, KeyError, tarfile.TarError, EOFError) as error:
        raise DataError(f"data.root: cannot unpack {archive}: {error}") from None
    return folder
