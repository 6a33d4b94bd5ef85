"""Steps of guide 1's MLP, 64 pictures of Fashion-MNIST each: loops and frameworks in turns in one process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path

import bare
import pictures
from contestants import accelerate, guide, lightning, ours, transformers
from feeds import Gated, Resident, guides_own
from models import MLP
from muted import muted
from rows import compare, costs, title
from turns import Contestant, race

SIZE, STEPS, TURNS, WARM_UP = 64, 50, 20, 2  # a turn is a log window; the turns hold an evaluation, a save
WORDS = [
    *("data=fashion_mnist", "model._target_=models.MLP", f"batch_size={SIZE}", "budget=20ep"),
    *("optimizer.lr=1e-3", "optimizer.weight_decay=0.01"),
    *("scheduler=step", "scheduler.every=10ep", "scheduler.gamma=0.5"),
]


def main() -> None:
    title(f"MLP 784-256-128-10, batch {SIZE}, one thread")
    if reason := pictures.missing():
        print(f"skipped: {reason}")
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with muted(Path(folder) / "contestants.log"):
            contestants = {name: Contestant(loop) for name, loop in loops(Path(folder)).items()}
            turns = race(contestants, STEPS, TURNS, WARM_UP)
        costs(turns)
        compare(turns, "guide", "trainrun", must="5.7")
        compare(turns, "Lightning", "trainrun", must="6.5")
        compare(turns, "Lightning, equal feed", "trainrun", must="2.3")
        compare(turns, "bare, norm", "trainrun", must="0.95")
        compare(turns, "bare, norm, clip", "trainrun, clip", must="0.97")
        for name in ("Lightning, off", "Accelerate", "HF Trainer"):
            compare(turns, f"{name}, equal feed", "trainrun")
        compare(turns, "guide", "bare")


def loops(folder: Path) -> dict[str, Callable[[Contestant], object]]:
    """Every contestant's loop. With an equal feed it has the bare loop's batches."""
    os.chdir(Path(__file__).parent)  # where trainrun finds the model
    os.environ["TRAINRUN_STATE"] = str(folder / "state")
    trainrun = {
        "trainrun": lambda it: ours.train(it, WORDS, folder / "run"),
        "trainrun, clip": lambda it: ours.train(it, [*WORDS, "loop.clip.norm=1.0"], folder / "clip"),
    }
    bare_loops = {
        "bare": lambda it: bare.train(MLP(), it.feed(epochs())),
        "bare, norm": lambda it: bare.train(MLP(), it.feed(epochs()), norm=True),
        "bare, norm, clip": lambda it: bare.train(MLP(), it.feed(epochs()), norm=True, clip=1.0),
    }
    return {**trainrun, **bare_loops, **others(folder)}


def others(folder: Path) -> dict[str, Callable[[Contestant], object]]:
    """The guide's script and frameworks, with its feed and with the bare loop's."""
    images, a, b, c, d, e = (folder / name for name in ("images", *"abcde"))
    return {
        "guide": lambda it: guide.train(MLP(), guides_own(images, SIZE), it.feed),
        "Lightning": lambda it: lightning.train(MLP(), Gated(guides_own(images, SIZE), it), a),
        "Accelerate": lambda it: accelerate.train(MLP(), guides_own(images, SIZE), it.feed),
        "HF Trainer": lambda it: transformers.train(MLP(), pictures.dataset(images), SIZE, b, it.await_step),
        "Lightning, equal feed": lambda it: lightning.train(MLP(), Gated(Resident(SIZE), it), c),
        "Lightning, off, equal feed": lambda it: lightning.train(
            MLP(), Gated(Resident(SIZE), it), d, off=True
        ),
        "Accelerate, equal feed": lambda it: accelerate.train(MLP(), Resident(SIZE), it.feed),
        "HF Trainer, equal feed": lambda it: transformers.train_on(MLP(), Gated(Resident(SIZE), it), SIZE, e),
    }


def epochs() -> Iterator[bare.Batch]:
    return chain.from_iterable(repeat(Resident(SIZE)))
