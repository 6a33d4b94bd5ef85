"""Steps of guide 1's MLP, 64 pictures of Fashion-MNIST each: loops and frameworks in turns in one process."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import bare
import commands
import pictures
from commands import MLP_SIZE as SIZE
from contest import Loops, contest
from contestants import accelerate, guide, lightning, ours, transformers
from feeds import Gated, Resident, guides_own
from models import MLP
from rows import compare, costs, title
from turns import Contestant

STEPS, TURNS, WARM_UP = 50, 20, 2  # a turn is a log window; the turns hold an evaluation and a save


def main() -> None:
    title(f"MLP 784-256-128-10, batch {SIZE}, one thread")
    if reason := pictures.missing():
        print(f"skipped: {reason}")
        return
    turns = contest(lambda folder: {**trainrun(folder), **others(folder)}, STEPS, TURNS, WARM_UP)
    costs(turns)
    compare(turns, "guide", "trainrun", must="5.7")
    compare(turns, "Lightning", "trainrun", must="6.5")
    compare(turns, "Lightning, equal feed", "trainrun", must="2.3")
    compare(turns, "bare, norm", "trainrun", must="0.95")
    compare(turns, "bare, norm, clip", "trainrun, clip", must="0.97")
    for name in ("Lightning, off", "Accelerate", "HF Trainer"):
        compare(turns, f"{name}, equal feed", "trainrun")
    compare(turns, "guide", "bare")


def trainrun(folder: Path) -> Loops:
    """trainrun, and the bare loop for the same arithmetic."""
    clipped = [*commands.MLP, "loop.clip.norm=1.0"]
    return {
        "trainrun": lambda it: ours.train(it, commands.MLP, folder / "run"),
        "trainrun, clip": lambda it: ours.train(it, clipped, folder / "clipped"),
        "bare": lambda it: bare.train(MLP(), it.feed(epochs())),
        "bare, norm": lambda it: bare.train(MLP(), it.feed(epochs()), norm=True),
        "bare, norm, clip": lambda it: bare.train(MLP(), it.feed(epochs()), norm=True, clip=1.0),
    }


def others(folder: Path) -> Loops:
    """The guide's script and frameworks, with its feed and with the bare loop's."""

    def own(contestant: Contestant) -> Gated:
        return Gated(guides_own(folder, SIZE), contestant)

    def equal(contestant: Contestant) -> Gated:
        return Gated(Resident(SIZE), contestant)

    a, b, c, d, e = (folder / name for name in "abcde")
    return {
        "guide": lambda it: guide.train(MLP(), own(it)),
        "Lightning": lambda it: lightning.train(MLP(), own(it), a),
        "Accelerate": lambda it: accelerate.train(MLP(), guides_own(folder, SIZE), it.feed),
        "HF Trainer": lambda it: transformers.train(MLP(), own(it), SIZE, b),
        "Lightning, equal feed": lambda it: lightning.train(MLP(), equal(it), c),
        "Lightning, off, equal feed": lambda it: lightning.train(MLP(), equal(it), d, off=True),
        "Accelerate, equal feed": lambda it: accelerate.train(MLP(), Resident(SIZE), it.feed),
        "HF Trainer, equal feed": lambda it: transformers.train(MLP(), equal(it), SIZE, e),
    }


def epochs() -> Iterator[bare.Batch]:
    return chain.from_iterable(repeat(Resident(SIZE)))
