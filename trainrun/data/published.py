"""Published data sets of pictures: fetched whole or not at all, with the published mean and std of pixels."""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch

from trainrun.data import scaling
from trainrun.data.resident import Holdout, InMemoryData, resident
from trainrun.protocols import DataInfo
from trainrun.vocabulary.errors import DataError
from trainrun.vocabulary.ranges import Normalize

# Per channel (mean, std) of the pixels of all training pictures, white being 1.
PUBLISHED = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),  # not the 0.2023 that many copied
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}
_LARGEST_BYTES = 1 << 30  # five times the largest archive of a data set here; it passes through memory


def published(
    name: str,
    class_names: tuple[str, ...],
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    holdout: Holdout,
    normalize: Normalize,
    eval_batch_size: int,
) -> InMemoryData:
    """Data from `parts`, each (pictures (N, C, H, W) of bytes, classes (N,)); the last is the test split."""
    inputs = torch.from_numpy(np.concatenate([pictures for pictures, _ in parts]))
    targets = torch.from_numpy(np.concatenate([labels for _, labels in parts])).to(torch.int64)
    test = torch.arange(len(inputs) - len(parts[-1][1]), len(inputs))
    info = DataInfo(name, tuple(inputs.shape[1:]), "classes", len(class_names), {}, class_names)
    data = resident(info, inputs, targets, holdout, eval_batch_size, given={"test": test})
    return normalized(data, normalize)


def normalized(data: InMemoryData, normalize: Normalize) -> InMemoryData:
    """Pictures of bytes, standardised by the training split's mean and std, or by given ones."""
    if normalize == "train":
        return data
    published, channels = PUBLISHED.get(data.info.name), data.info.input_shape[0]
    shift, scale, text = scaling.given_scaling(normalize, channels, published)
    data.restore(data.fitted() | {"shift": shift, "scale": scale})
    data.info = replace(data.info, input_scaling=text)
    return data


def download_file(name: str, url: str, md5: str, path: Path) -> None:
    """Write the content of `url` to `path`. Raises DataError for another content than `md5` says."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            body = response.read(_LARGEST_BYTES)
    except (OSError, HTTPException) as error:
        raise DataError(f"data.download: cannot fetch {name}: {error}") from None
    if hashlib.md5(body, usedforsecurity=False).hexdigest() != md5:
        text = "does not have the published MD5: it is damaged or has changed"
        raise DataError(f"data.download: {url.rpartition('/')[2]} of {name} {text}")
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(body)
        part.rename(path)
    except OSError as error:
        raise DataError(f"data.root: cannot write {path}: {error}") from None
