"""What evaluation and saves take of a run on Fashion-MNIST, with the MLP of the guides.

Evaluation is held against the model's forward passes alone over the same batches, in turns, in seconds of
the processor. Saves are timed within a real run: what the loop waits for, and what the thread beside it uses.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

import trainrun
from trainrun.assembly.build import build
from trainrun.checkpoint.store import Checkpoints
from trainrun.config.compose.composer import Composer
from trainrun.loop.evaluate import evaluate, evaluation_mode, shared_batches

WORDS = ["data=fashion_mnist", "model=mlp", "model.depth=2", "model.width=256", "runtime.threads=1"]
TURNS = 31
EVALUATION, SAVES = 1.2, 0.01


def main() -> None:
    ratio = evaluation()
    print(f"evaluation / its forward passes alone: {ratio:.3f}; wanted: at most {EVALUATION}")
    waits, works = saves()
    shares = f"{waits:.3%} waits, {works:.3%} works beside it"
    print(f"saves as a share of the run: {shares}; wanted: at most {SAVES:.0%}")


def evaluation() -> float:
    parts = build(Composer().checked([*WORDS, "budget=1ep"]).settings)
    model, precision = parts.state.eval_model, parts.state.precision
    inputs = [batch.inputs.clone() for batch in shared_batches(parts.data, "val")]

    def whole() -> None:
        evaluate(model, parts.task, shared_batches(parts.data, "val"), precision)

    def forward() -> None:
        with evaluation_mode(model), torch.inference_mode(), precision.autocast():
            for batch in inputs:
                model(batch)

    times: dict[Callable[[], None], list[float]] = {whole: [], forward: []}
    for _ in range(TURNS):
        for work, taken in times.items():
            began = time.process_time()
            work()
            taken.append(time.process_time() - began)
    return statistics.median(times[whole]) / statistics.median(times[forward])


def saves() -> tuple[float, float]:
    """Shares of a run of three epochs: of its time what the loop waits, of its processor's the thread's."""
    used: Counter[str] = Counter()
    running: list[str] = []  # one may call another, whose time is its own already

    def timed(name: str, clock: Callable[[], float]) -> None:
        original = getattr(Checkpoints, name)

        def measured(*args: Any) -> Any:
            if clock is time.perf_counter and running:
                return original(*args)
            began = clock()
            running.append(name)
            try:
                return original(*args)
            finally:
                running.remove(name)
                used[name] += clock() - began  # type: ignore[assignment]

        setattr(Checkpoints, name, measured)

    for name in ("prepare", "begin", "wait"):
        timed(name, time.perf_counter)
    timed("_write", time.thread_time)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        wall, cpu = time.perf_counter(), time.process_time()
        trainrun.train([*WORDS, "budget=3ep", "logger=none"])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        os.chdir("/")
    return (used["prepare"] + used["begin"] + used["wait"]) / wall, used["_write"] / cpu


if __name__ == "__main__":
    main()
