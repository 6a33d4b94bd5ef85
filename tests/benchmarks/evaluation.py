"""What an evaluation of the validation split costs beside its forward passes alone, in turns."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import commands
import pictures
import torch
from rows import row, title

from trainrun.assembly.build import Parts, build
from trainrun.config.compose.composer import Composer
from trainrun.loop.evaluate import evaluate, shared_batches

MUST = "at most 1.2"


def main() -> None:
    title("Evaluation / the forward passes on the same batches")
    if reason := pictures.missing():
        print(f"skipped: {reason}")
        return
    with tempfile.TemporaryDirectory() as folder:
        commands.enter(Path(folder))
        row("MLP, 6,000 pictures", compared(commands.MLP, 15), MUST)
        row("CNN, 1,200 pictures", compared([*commands.CNN, "data.val_fraction=0.02"], 5), MUST)


def compared(words: list[str], pairs: int) -> float:
    """The ratio of the medians; the first pair warms up."""
    parts = build(Composer().checked(words).settings)
    evaluations, forwards = [], []
    for _ in range(pairs + 1):
        evaluations.append(cpu_s(lambda: evaluated(parts)))
        forwards.append(cpu_s(lambda: forwarded(parts)))
    return statistics.median(evaluations[1:]) / statistics.median(forwards[1:])


def evaluated(parts: Parts) -> None:
    """Evaluate as the loop does."""
    state, batches = parts.state, shared_batches(parts.data, "val")
    evaluate(state.eval_model, parts.task, batches, state.precision)


@torch.inference_mode()
def forwarded(parts: Parts) -> None:
    """Gather the same batches and pass them through the same model, no more."""
    model = parts.state.eval_model.eval()
    for batch in parts.data.eval_batches("val"):
        model(batch.inputs)


def cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
