"""Steps of a CNN, 128 cropped and flipped pictures of Fashion-MNIST each, in turns in one process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import bare
import machine
import pictures
import torch
from contestants import guide, ours
from feeds import Resident, guides_own
from models import CNN
from muted import muted
from rows import compare, costs, title
from turns import Contestant, race

SIZE, STEPS, TURNS, WARM_UP = 128, 5, 11, 1
BF16_FLAGS = ("avx512_bf16", "amx_bf16")
WORDS = [
    *("data=fashion_mnist", "model._target_=models.CNN", f"batch_size={SIZE}", "budget=20ep"),
    *("augment=crop_flip", "optimizer.lr=1e-3", "optimizer.weight_decay=0.01"),
    *("scheduler=step", "scheduler.every=10ep", "scheduler.gamma=0.5"),
]


def main() -> None:
    title(f"CNN of 4 convolutions and 2 linear layers, batch {SIZE}, crop and flip, one thread")
    if reason := pictures.missing():
        print(f"skipped: {reason}")
        return
    has_units = bool(machine.flags() & {*BF16_FLAGS})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with muted(Path(folder) / "contestants.log"):
            chosen = loops(Path(folder), ["fp32", "bf16"] if has_units else ["fp32"])
            contestants = {name: Contestant(loop) for name, loop in chosen.items()}
            turns = race(contestants, STEPS, TURNS, WARM_UP)
    costs(turns)
    compare(turns, "guide", "trainrun, fp32", must="1.4")
    compare(turns, "guide", "bare, fp32")
    if has_units:
        compare(turns, "guide", "trainrun, bf16", must="2.2")
        compare(turns, "guide", "bare, bf16")
    else:
        print(f"bf16: no bar, for this processor has none of {', '.join(BF16_FLAGS)}")


def loops(folder: Path, precisions: list[str]) -> dict[str, Callable[[Contestant], object]]:
    """The guide's loop, and in each precision the bare one and trainrun's."""
    os.chdir(Path(__file__).parent)  # where trainrun finds the model
    os.environ["TRAINRUN_STATE"] = str(folder / "state")
    loops: dict[str, Callable[[Contestant], object]] = {
        "guide": lambda it: guide.train(CNN(), guides_own(folder, SIZE, augmented=True), it.feed)
    }
    for precision in precisions:
        loops[f"bare, {precision}"] = partial(bare_loop, bf16=precision == "bf16")
        words, run_dir = [*WORDS, f"precision={precision}"], folder / precision
        loops[f"trainrun, {precision}"] = partial(ours.train, words=words, run_dir=run_dir)
    return loops


def bare_loop(contestant: Contestant, bf16: bool) -> None:
    """The bare loop with kernels and pictures in the order that convolutions like."""
    epochs: Iterator[bare.Batch] = chain.from_iterable(repeat(Resident(SIZE, bare.cropped)))
    model = CNN().to(memory_format=torch.channels_last)
    last = torch.channels_last
    steps = ((inputs.to(memory_format=last), targets) for inputs, targets in contestant.feed(epochs))
    bare.train(model, steps, bf16=bf16)
