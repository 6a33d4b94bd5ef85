"""SVHN from its .mat files, read by SciPy; downloaded only when asked."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from trainrun.data.published import download_file, published
from trainrun.data.resident import Holdout, InMemoryData
from trainrun.vocabulary.errors import DataError
from trainrun.vocabulary.ranges import Count, Natural, Normalize, Split

URL = "http://ufldl.stanford.edu/housenumbers/"
MD5 = {  # as torchvision has them
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
# What SciPy raises for a file that is damaged or of another format, beside its own MatReadError.
_UNREADABLE = (OSError, KeyError, ValueError, TypeError, EOFError, NotImplementedError, zlib.error)


def svhn(
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
    """73,257 + 26,032 house-number digits of 32 x 32 in colour (Netzer et al., 2011)."""
    base = Path(root).expanduser() if root else Path("data") / "svhn"
    parts = []
    for file, md5 in MD5.items():
        if not (base / file).is_file():
            if not download:
                text = f"{base} lacks {file}; name its folder with data.root=, or fetch it with"
                raise DataError(f"data.root: {text} data.download=true")
            download_file("svhn", f"{URL}{file}", md5, base / file)
        parts.append(_read(base / file))
    holdout = Holdout(val_fraction, 0.0, split_seed, limit, fold, num_folds)
    return published("svhn", tuple("0123456789"), parts, holdout, normalize, eval_batch_size)


def _read(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3, 32, 32) uint8 pictures and (N,) int64 digits; the file writes a zero as 10."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        arrays = loadmat(file, variable_names=["X", "y"])
        pictures, labels = arrays["X"].transpose(3, 2, 0, 1), arrays["y"].astype(np.int64).ravel()
    except (*_UNREADABLE, MatReadError) as error:
        raise DataError(f"data.root: {file} is not SVHN's .mat file: {error}") from None
    if pictures.dtype != np.uint8 or pictures.shape != (len(labels), 3, 32, 32) or not len(labels):
        text = f"has pictures of {pictures.shape} {pictures.dtype} and {len(labels)} labels"
        raise DataError(f"data.root: {file} {text}")
    if labels.min() < 0 or labels.max() > 10:
        raise DataError(f"data.root: {file} has the labels {labels.min()} to {labels.max()}, not 1 to 10")
    return np.ascontiguousarray(pictures), labels % 10
