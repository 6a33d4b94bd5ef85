"""Fashion-MNIST as each contestant wants it: the guide's data set of PIL pictures, or bytes in memory."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainrun.runtime.vision import import_torchvision

FOLDER = Path("/usr/share/datasets/fashion-mnist")
MEAN, STD = 0.2860, 0.3530


def missing() -> str | None:
    """Why there is nothing to train on, or None."""
    if any(FOLDER.glob("train-images*.gz")):
        return None
    return f"{FOLDER} is not there: apt-get install dataset-fashion-mnist"


def resident() -> tuple[Tensor, Tensor]:
    """(60000, 1, 28, 28) bytes and (60000,) int64 classes."""
    images, labels = unpacked("train-images-idx3-ubyte.gz", 16), unpacked("train-labels-idx1-ubyte.gz", 8)
    pictures = torch.from_numpy(images.reshape(-1, 1, 28, 28).copy())
    return pictures, torch.from_numpy(labels.astype(np.int64))


def unpacked(name: str, header: int) -> np.ndarray:
    """The bytes of a file, as numbers, without its header."""
    with gzip.open(FOLDER / name) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def dataset(root: Path, augmented: bool = False) -> Any:
    """torchvision's data set with the guide's transforms, one PIL picture at a time."""
    raw = root / "FashionMNIST" / "raw"
    if not raw.exists():
        raw.mkdir(parents=True)
        for packed in FOLDER.glob("*.gz"):
            with gzip.open(packed) as source, (raw / packed.stem).open("wb") as target:
                shutil.copyfileobj(source, target)
    datasets = import_torchvision("torchvision.datasets")
    transforms = import_torchvision("torchvision.transforms")
    changes = [transforms.RandomCrop(28, padding=4), transforms.RandomHorizontalFlip()] if augmented else []
    steps = [*changes, transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))]
    return datasets.FashionMNIST(str(root), train=True, transform=transforms.Compose(steps))
