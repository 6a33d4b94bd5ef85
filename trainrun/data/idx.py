"""MNIST and Fashion-MNIST from IDX files, plain or gzipped; downloaded only when asked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from trainrun.data.files import read_idx
from trainrun.data.published import download_file, published
from trainrun.data.resident import Holdout, InMemoryData
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import DataError
from trainrun.vocabulary.ranges import Count, Natural, Normalize, Split

_FILES = (
    *("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    *("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
_TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}  # its class, named as its folder
_CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}
_SYSTEM = Path("/usr/share/datasets")  # where system packages put them, each in a folder of its own


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
    files, names = _locate_files(name, root, download), _CLASSES[name]
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


def _locate_files(name: str, root: str | None, download: bool) -> list[Path]:
    """The four files: in `root` flat or in torchvision's layout, else where a system package puts them."""
    base = Path(root).expanduser() if root else Path("data")
    raw = base / _TORCHVISION[name] / "raw"
    folders = [base, base / name, raw, base / "raw", *([] if root else [_system(name)])]
    for folder in folders:
        paths = [next((p for p in (folder / f, folder / f"{f}.gz") if p.is_file()), None) for f in _FILES]
        if all(paths):
            return [path for path in paths if path]
        if any(paths) and not download:
            missing = ", ".join(f for f, path in zip(_FILES, paths, strict=True) if path is None)
            raise DataError(f"data.root: {folder} lacks {missing}")
    if download:
        return _download(name, raw)
    package = " (Debian: apt-get install dataset-fashion-mnist)" if name == "fashion_mnist" else ""
    text = f"no {name} files below {base}; name their folder with data.root=, or fetch them with"
    raise DataError(f"data.root: {text} data.download=true{package}; {_at_hand(name)}")


def _system(name: str) -> Path:
    return _SYSTEM / name.replace("_", "-")


def _at_hand(name: str) -> str:
    """The data sets that can be had at once: those of packages, and those whose files lie here."""
    others = [
        other
        for other in _CLASSES
        if other != name and all((_system(other) / f"{file}.gz").is_file() for file in _FILES)
    ]
    here = f"; the files of {' and '.join(others)} are here: data={others[0]}" if others else ""
    return f"digits, breast_cancer, wine, iris, diabetes and synthetic need no files{here}"


def _download(name: str, folder: Path) -> list[Path]:
    """Fetch what `folder` lacks from where torchvision has it, with its checksums."""
    theirs = getattr(import_torchvision("torchvision.datasets"), _TORCHVISION[name])
    for file, md5 in theirs.resources:
        if not (folder / file).is_file():
            try:
                download_file(name, f"{theirs.mirrors[0]}{file}", md5, folder / file)
            except DataError as error:
                raise DataError(f"{error}; {_at_hand(name)}") from None
    return [folder / file for file, _ in theirs.resources]
