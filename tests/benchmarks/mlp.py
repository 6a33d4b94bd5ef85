"""Steps of guide 1's MLP, 64 pictures of Fashion-MNIST each: loops and frameworks in turns in one process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import bare
import pictures
from contestants import guide, ours
from models import MLP
from muted import muted
from rows import compare, costs, title
from torch.utils.data import DataLoader
from turns import Contestant, race

BATCH, STEPS, TURNS, WARM_UP = 64, 50, 20, 2  # a turn is a log window; the turns hold an evaluation, a save
WORDS = [
    *("data=fashion_mnist", "model._target_=models.MLP", f"batch_size={BATCH}", "budget=20ep"),
    *("optimizer.lr=1e-3", "optimizer.weight_decay=0.01"),
    *("scheduler=step", "scheduler.every=10ep", "scheduler.gamma=0.5"),
]


def main() -> None:
    title(f"MLP 784-256-128-10, batch {BATCH}, one thread, CPU time")
    if reason := pictures.missing():
        print(f"skipped: {reason}")
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with muted(Path(folder) / "contestants.log"):
            contestants = {name: Contestant(loop) for name, loop in loops(Path(folder)).items()}
            turns = race(contestants, STEPS, TURNS, WARM_UP)
        costs(turns)
        compare(turns, "guide", "trainrun", must="5.7")
        compare(turns, "bare, norm", "trainrun", must="0.95")
        compare(turns, "bare, norm, clip", "trainrun, clip", must="0.97")
        compare(turns, "bare", "trainrun")
        compare(turns, "guide", "bare")


def loops(folder: Path) -> dict[str, Callable[[Contestant], object]]:
    """Every contestant's loop. trainrun's own commands find the model in the folder of this file."""
    os.chdir(Path(__file__).parent)
    os.environ["TRAINRUN_STATE"] = str(folder / "state")
    return {
        "guide": lambda it: guide.train(MLP(), loader(folder), it.feed),
        "bare": lambda it: bare.train(MLP(), it.feed(resident())),
        "bare, norm": lambda it: bare.train(MLP(), it.feed(resident()), norm=True),
        "bare, norm, clip": lambda it: bare.train(MLP(), it.feed(resident()), norm=True, clip=1.0),
        "trainrun": lambda it: ours.train(it, WORDS, folder / "run"),
        "trainrun, clip": lambda it: ours.train(it, [*WORDS, "loop.clip.norm=1.0"], folder / "clip"),
    }


def loader(folder: Path) -> Any:
    """The guide's feed: each picture made from PIL."""
    return DataLoader(pictures.dataset(folder), batch_size=BATCH, shuffle=True)


def resident() -> Iterator[bare.Batch]:
    """The bare loop's feed, epoch after epoch."""
    inputs, targets = pictures.resident()
    for _ in count():
        yield from bare.batches(inputs, targets, BATCH, pictures.MEAN, pictures.STD)
