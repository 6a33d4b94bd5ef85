"""Compile a run's training, as runtime.compile says, before anything is written."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from trainrun import ranks
from trainrun.protocols import Position
from trainrun.regularization.kinds import combine_batch_changes
from trainrun.runtime.compiler import CompiledTask, compile_in_place, failing_in_words, fresh_counters
from trainrun.runtime.machine import seeded
from trainrun.task.lightning import Lightning
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError

if TYPE_CHECKING:
    from trainrun.assembly.build import Parts

# Measured with torch 2.13 on 2 busy cores: 24 s for an MLP, 48 for a CNN, 4 to 10 with torch's cache on disk.
# A step on one thread, against the uncompiled: MLP (batch 64) 0.7 times as fast, CNN (batch 128) 0.87, in
# bf16 0.81; elsewhere 0.95, 1.13 (won back after 250 steps), ResNet-18 1.11 (after 75). GPUs: not measured;
# airbench reports 1.16 to 1.24 on an A100, won back after some 20,000 of its steps of 8 ms.
_SECONDS = 30
_GAINS = {
    "cpu": "; on CPUs seldom faster: 0.7 to 1.1 times as fast",
    "cuda": "; on GPUs often 1.2 times as fast",
}


def compile_cost(parts: Parts) -> tuple[tuple[str, str], ...]:
    """A line for the plan: what compiling costs beside the run's length, and what may be gained."""
    mode, total, gain = parts.runtime.compile, parts.pace.total_steps, _GAINS.get(parts.runtime.device.type)
    share = f", {_SECONDS / total:.2g} s for each of {total} steps" if total else ""
    text = f"{mode}: some {_SECONDS} s before the first step{share}{gain or ''}"
    return () if mode == "off" else (("compile", text),)


def compiled(parts: Parts, quiet: bool) -> Parts:
    """The parts with their training compiled, tried on the run's first batch.

    Evaluation compiles when it first runs. Raises ConfigError for what cannot be compiled, or is not.
    """
    mode, average = parts.runtime.compile, parts.state.weight_average
    if mode == "off":
        return parts
    if mode == "step" and isinstance(parts.task, Lightning):
        text = "step would compile anew at each step, whose number a LightningModule may read; use model"
        raise ConfigError.of("runtime.compile", text, "runtime.compile=model")
    if ranks.is_main_process() and not quiet:
        say(f"compiling the {mode}, some {_SECONDS} s")
    counts, began = fresh_counters(), time.perf_counter()
    for model in [parts.state.model, *([average.started_copy] if average else [])]:
        compile_in_place(model)
    parts = replace(parts, task=CompiledTask(parts.task, whole=mode == "step"))
    if _try_training(parts) and not counts["ok"]:
        text = "has no effect: the task never calls the model itself; use off"
        raise ConfigError.of("runtime.compile", text, "runtime.compile=off")
    if ranks.is_main_process() and not quiet:
        say(f"compiled in {time.perf_counter() - began:.0f} s, which are no part of the run's seconds")
    return parts


def _try_training(parts: Parts) -> bool:
    """Pass the first batch forward and back, if there is one, and leave all but the graphs as it was."""
    state = parts.state
    batch = next(iter(parts.data.train_batches(Position(), parts.batch_spec, parts.settings["seed"])))
    for change in combine_batch_changes(parts.regularizers.values()):
        batch = change.change_batch(batch, parts.info, torch.Generator())
    if not len(batch):  # a rank may have no share of few data
        return False
    before = [buffer.clone() for buffer in state.model.buffers()]
    state.set_modes()
    with seeded(0), failing_in_words(state.model):  # what was compiled before is kept, forward or backward
        with state.precision.autocast():
            loss = torch.stack(list(parts.task(state.model, batch).terms.values())).sum()
        loss.backward()
    state.optimizer.zero_grad(set_to_none=True)
    for buffer, value in zip(state.model.buffers(), before, strict=True):
        buffer.data.copy_(value)
    return True
