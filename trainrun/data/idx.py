"""MNIST and Fashion-MNIST from IDX files, plain or gzipped; downloaded only when asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from trainrun.data.download import download_file
from trainrun.data.files import read_idx
from trainrun.data.published import Normalize, published
from trainrun.data.resident import Holdout, InMemoryData
from trainrun.vocabulary.errors import DataError
from trainrun.vocabulary.ranges import Count, Natural, Split

_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class IdxSource:
    """Where a data set lies and how to know that it arrived whole."""

    class_names: tuple[str, ...]
    folder: str  # in torchvision's layout
    system: str  # where a system package puts it
    url: str
    md5: tuple[str, ...]  # of the gzipped files, as published


SOURCES = {
    "mnist": IdxSource(
        tuple("0123456789"),
        "MNIST",
        "/usr/share/datasets/mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
    "fashion_mnist": IdxSource(
        (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        "FashionMNIST",
        "/usr/share/datasets/fashion-mnist",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
}


def idx(
    name: Literal["mnist", "fashion_mnist"],
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
    """60,000 + 10,000 grey pictures of 28 x 28, 10 classes.

    mnist: handwritten digits (LeCun, Cortes and Burges, 1998). fashion_mnist: pieces of clothing
    (Xiao, Rasul and Vollgraf, 2017). Raises DataError naming the file and what is wrong with it.
    """
    source = SOURCES[name]
    files = _locate_files(name, source, root, download)
    names = source.class_names
    train, test = (_read_pair(images, labels, len(names)) for images, labels in (files[:2], files[2:]))
    size, test_size = train[0].shape[2:], test[0].shape[2:]
    if size != test_size:
        raise DataError(f"data.root: {files[2]} has pictures of {test_size}, not {size}")
    holdout = Holdout(val_fraction, 0.0, split_seed, limit, fold, num_folds)
    return published(name, names, (train, test), holdout, normalize, eval_batch_size)


def _read_pair(images: Path, labels: Path, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 1, H, W) pictures and their (N,) classes; raises DataError where they do not fit each other."""
    x, y = read_idx(images), read_idx(labels)
    for path, array, ndim in ((images, x, 3), (labels, y, 1)):
        if array.ndim != ndim or not array.size:
            raise DataError(f"data.root: {path} should hold an array of {ndim} axes, got shape {array.shape}")
    if len(x) != len(y):
        raise DataError(f"data.root: {images} has {len(x)} pictures, {labels} has {len(y)} labels")
    if y.max() >= num_classes:
        raise DataError(f"data.root: {labels} has the label {y.max()}, there are {num_classes} classes")
    return x[:, None], y


def _locate_files(name: str, source: IdxSource, root: str | None, download: bool) -> list[Path]:
    """The four files: in `root` flat or in torchvision's layout, else where a system package puts them."""
    base = Path(root).expanduser() if root else Path("data")
    folders = [base, base / name, base / source.folder / "raw", base / "raw"]
    if root is None:
        folders += [Path(source.system)]
    for folder in folders:
        paths = [next((p for p in (folder / f, folder / f"{f}.gz") if p.is_file()), None) for f in _FILES]
        if all(paths):
            return [path for path in paths if path]
        if any(paths) and not download:
            missing = ", ".join(f for f, path in zip(_FILES, paths, strict=True) if path is None)
            raise DataError(f"data.root: {folder} lacks {missing}")
    if not download:
        package = " (Debian: apt-get install dataset-fashion-mnist)" if name == "fashion_mnist" else ""
        raise DataError(
            f"data.root: no {name} files below {base}; name their folder with data.root=, or fetch them "
            f"with data.download=true{package}; {_at_hand(name)}"
        )
    return _download(name, source, base / source.folder / "raw")


def _at_hand(name: str) -> str:
    """The data sets that can be had at once: those of packages, and those whose files lie here."""
    others = [
        other
        for other, source in SOURCES.items()
        if other != name and all((Path(source.system) / f"{file}.gz").is_file() for file in _FILES)
    ]
    here = f"; the files of {' and '.join(others)} are here: data={others[0]}" if others else ""
    return f"digits, breast_cancer, wine, iris, diabetes and synthetic need no files{here}"


def _download(name: str, source: IdxSource, folder: Path) -> list[Path]:
    paths = []
    for file, md5 in zip(_FILES, source.md5, strict=True):
        path = folder / f"{file}.gz"
        if not path.is_file():
            try:
                download_file(name, f"{source.url}{file}.gz", md5, path)
            except DataError as error:
                raise DataError(f"{error}; {_at_hand(name)}") from None
        paths.append(path)
    return paths
