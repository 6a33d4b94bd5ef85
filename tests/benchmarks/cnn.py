"""Steps of a CNN, 128 cropped and flipped pictures of Fashion-MNIST each, in turns in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import bare
import commands
import machine
import pictures
import torch
from commands import CNN_SIZE as SIZE
from contest import Loops, contest
from contestants import guide, ours
from feeds import Gated, Resident, guides_own
from models import CNN
from rows import compare, costs, title
from turns import Contestant

STEPS, TURNS, WARM_UP = 5, 11, 1
BF16_FLAGS = ("avx512_bf16", "amx_bf16")


def main() -> None:
    title(f"CNN of 4 convolutions and 2 linear layers, batch {SIZE}, crop and flip, one thread")
    if reason := pictures.missing():
        print(f"skipped: {reason}")
        return
    has_units = bool(machine.flags() & {*BF16_FLAGS})
    precisions = ["fp32", "bf16"] if has_units else ["fp32"]
    turns = contest(lambda folder: loops(folder, precisions), STEPS, TURNS, WARM_UP)
    costs(turns)
    compare(turns, "guide", "trainrun, fp32", must="1.4")
    compare(turns, "guide", "bare, fp32")
    if has_units:
        compare(turns, "guide", "trainrun, bf16", must="2.2")
        compare(turns, "guide", "bare, bf16")
    else:
        print(f"bf16: no bar, this processor has none of {', '.join(BF16_FLAGS)}")


def loops(folder: Path, precisions: list[str]) -> Loops:
    """The guide's loop, and in each precision the bare one and trainrun's."""
    feed = partial(guides_own, folder, SIZE, augmented=True)
    loops: dict[str, Callable[[Contestant], object]] = {
        "guide": lambda it: guide.train(CNN(), Gated(feed(), it))
    }
    for precision in precisions:
        words, run_dir = [*commands.CNN, f"precision={precision}"], folder / precision
        loops[f"bare, {precision}"] = partial(train_bare, bf16=precision == "bf16")
        loops[f"trainrun, {precision}"] = partial(ours.train, words=words, run_dir=run_dir)
    return loops


def train_bare(contestant: Contestant, bf16: bool) -> None:
    """The bare loop, kernels and pictures in the memory order that convolutions like."""
    order = torch.channels_last
    epochs: Iterator[bare.Batch] = chain.from_iterable(repeat(Resident(SIZE, bare.cropped)))
    steps = ((inputs.to(memory_format=order), targets) for inputs, targets in contestant.feed(epochs))
    model = CNN()
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=order)
    bare.train(model, steps, bf16=bf16)
