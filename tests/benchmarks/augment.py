"""What augmentation costs: a batch of bytes gathered, changed and standardised, against PIL in a loop.

    python tests/benchmarks/augment.py [ROW ...]

Both take 128 pictures of 3 x 32 x 32 in turns, in one process and one thread: trainrun as a run does, the
other as guides do, a DataLoader of PIL images and torchvision's transforms. Prints microseconds of the
processor for each sample, the tenth percentile of all turns, and their ratio; `must` is the bar.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import yaml
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from trainrun.augment.pictures import CropFlip, augmented
from trainrun.augment.policies import RandAugment, TrivialAugment
from trainrun.augment.standard import Standard
from trainrun.config.paths import CONF
from trainrun.data.resident import Holdout, InMemoryData, resident
from trainrun.protocols import BatchSpec, DataInfo, Position
from trainrun.runtime.machine import tune_allocator
from trainrun.runtime.vision import import_torchvision

BATCH, TURNS, BATCHES_A_TURN, WARM = 128, 30, 8, 2
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)  # of CIFAR-10
JITTER_ALONE = {"degrees": 0.0, "zoom": [1.0, 1.0], "shear": 0.0, "hue": 0.0}


@dataclass(frozen=True)
class Row:
    """One augmentation, as an option of conf/augment and as torchvision's transforms after crop and flip."""

    name: str
    must: float
    change: Callable[..., Any] | None
    option: str = ""
    changed: tuple[tuple[str, Any], ...] = ()  # settings of the option, unlike its defaults
    transforms: Callable[[Any], list[Any]] = lambda vision: []


ROWS = (
    Row("normalise", 100, None),
    Row("crop_flip", 40, CropFlip, "crop_flip"),
    Row(
        "crop_flip_jitter",
        25,
        Standard,
        "standard",
        tuple(JITTER_ALONE.items()),
        lambda vision: [vision.ColorJitter(0.2, 0.2, 0.2)],
    ),
    Row(
        "standard",
        20,
        Standard,
        "standard",
        transforms=lambda vision: [
            vision.RandomAffine(
                10, scale=(0.9, 1.1), shear=5, interpolation=vision.InterpolationMode.BILINEAR
            ),
            vision.ColorJitter(0.2, 0.2, 0.2, 0.02),
        ],
    ),
    Row(
        "trivialaugment",
        30,
        TrivialAugment,
        "trivialaugment",
        transforms=lambda vision: [vision.TrivialAugmentWide()],
    ),
    Row("randaugment", 25, RandAugment, "randaugment", transforms=lambda vision: [vision.RandAugment()]),
)


def main(names: Sequence[str] = ()) -> None:
    """Print the rows of these names, or all."""
    torch.set_num_threads(1)
    tune_allocator()
    print(f"{'augmentation':18}{'PIL, us':>9}{'trainrun, us':>14}{'ratio':>8}{'must':>6}")
    for row in ROWS:
        if not names or row.name in names:
            theirs, ours = measure(row)
            print(f"{row.name:18}{theirs:9.1f}{ours:14.2f}{theirs / ours:7.1f}x{row.must:5.0f}x", flush=True)


def measure(row: Row) -> tuple[float, float]:
    """Microseconds of the processor for each sample: of PIL, of trainrun."""
    data = pictures()
    batches = augmented(data, make(row, data.info)).train_batches(Position(), BatchSpec(BATCH, 1), 0)
    vision = import_torchvision("torchvision.transforms")
    moves = [vision.RandomCrop(32, padding=4), vision.RandomHorizontalFlip()] if row.change else []
    tail = [vision.ToTensor(), vision.Normalize(MEAN, STD)]
    transform = vision.Compose([*moves, *row.transforms(vision), *tail])
    dataset = Published(
        data.inputs.permute(0, 2, 3, 1).contiguous().numpy(), data.targets.tolist(), transform
    )
    loader = iter(DataLoader(dataset, BATCH, shuffle=True))
    theirs, ours = [], []
    for turn in range(WARM + TURNS):
        began = time.process_time()
        next(loader)
        middle = time.process_time()
        for _ in range(BATCHES_A_TURN):
            next(batches)
        if turn >= WARM:
            theirs.append((middle - began) / BATCH)
            ours.append((time.process_time() - middle) / BATCH / BATCHES_A_TURN)
    return lowest_tenth(theirs) * 1e6, lowest_tenth(ours) * 1e6


def lowest_tenth(seconds: list[float]) -> float:
    """The tenth percentile: other programs only add to what a turn takes."""
    return statistics.quantiles(seconds, n=10)[0]


class Published(Dataset[Any]):
    """Pictures as torchvision's CIFAR10 gives them."""

    def __init__(self, arrays: Any, targets: list[int], transform: Callable[[Any], Any]) -> None:
        self.arrays, self.targets, self.transform = arrays, targets, transform

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.arrays[index])), self.targets[index]


def pictures() -> InMemoryData:
    """Noise, as many pictures as CIFAR-10 has for training."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (50_000, 3, 32, 32), generator=generator, dtype=torch.uint8)
    info = DataInfo("noise", (3, 32, 32), "classes", 10, {})
    return resident(info, x, torch.arange(len(x)) % 10, Holdout(0.0, 0.0, 0, None, None, 5), BATCH)


def make(row: Row, info: DataInfo) -> Any:
    if row.change is None:
        return None
    text = (CONF / "augment" / f"{row.option}.yaml").read_text(encoding="utf-8")
    settings = {key: value for key, value in yaml.safe_load(text).items() if key not in ("_target_", "until")}
    return row.change(**settings | dict(row.changed), info=info)


if __name__ == "__main__":
    main(sys.argv[1:])
