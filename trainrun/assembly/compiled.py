"""Compile a run's training, as runtime.compile says, before anything is written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from trainrun import ranks
from trainrun.checkpoint.state import TrainState
from trainrun.protocols import Batch, Position, TaskProtocol
from trainrun.regularization.kinds import combine_batch_changes
from trainrun.runtime.compiler import CompiledTask, compile_in_place, forget_graphs, num_graphs
from trainrun.runtime.machine import seeded
from trainrun.task.lightning import Lightning
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError

if TYPE_CHECKING:
    from trainrun.assembly.build import Parts

# Measured with torch 2.13 on 2 busy cores, nothing cached: 24 s for an MLP, 48 s for a CNN; with torch's
# cache on disk 3 to 8 s. Speed on a CPU, one thread, against the uncompiled step with a fused optimizer:
# MLP (784-256-128-10, batch 64) 0.74, CNN (4 convolutions, batch 128) 0.87, in bf16 0.81; on another
# machine 0.95, 1.13 (won back after 250 steps) and ResNet-18 1.11 (after 75). GPUs were not measured:
# airbench reports 1.16 to 1.24 on an A100, there won back after some 20,000 steps of 8 ms.
_SECONDS = 30
_GAINS = {"cpu": "on CPUs seldom faster, 0.7 to 1.1 times", "cuda": "on GPUs often 1.2 times as fast"}


def compile_cost(parts: Parts) -> tuple[tuple[str, str], ...]:
    """A line for the plan: what compiling costs beside the run's length, and what may be gained."""
    mode, total, gain = parts.runtime.compile, parts.pace.total_steps, _GAINS.get(parts.runtime.device.type)
    share = f", {_SECONDS / total:.2g} s for each of {total} steps" if total else ""
    text = f"{mode}: some {_SECONDS} s before the first step{share}{f'; {gain}' if gain else ''}"
    return () if mode == "off" else (("compile", text),)


def compiled(parts: Parts, quiet: bool) -> Parts:
    """The parts with their training compiled, tried on the run's first batch.

    Evaluation compiles when it first runs. Raises ConfigError for what cannot be compiled, or is not.
    """
    mode, state, average = parts.runtime.compile, parts.state, parts.state.weight_average
    if mode == "off":
        return parts
    if mode == "step" and isinstance(parts.task, Lightning):
        text = "step would compile anew at each step, whose number a LightningModule may read"
        raise ConfigError.of("runtime.compile", f"{text}; use model", "runtime.compile=model")
    if ranks.is_main_process() and not quiet:
        say(f"compiling the {mode}, some {_SECONDS} s")
    forget_graphs()
    task = CompiledTask(parts.task, whole=mode == "step")
    for model in [state.model, *([average.started_copy] if average else [])]:
        compile_in_place(model)
    batch = next(iter(parts.data.train_batches(Position(), parts.batch_spec, parts.settings["seed"])))
    for change in combine_batch_changes(parts.regularizers.values()):
        batch = change.change_batch(batch, parts.info, torch.Generator())
    if len(batch):  # a rank may have no share of few data
        _try(task, state, batch)
        if not num_graphs():
            text = "has no effect: the task never calls the model itself"
            raise ConfigError.of("runtime.compile", f"{text}; use off", "runtime.compile=off")
    return replace(parts, task=task)


def _try(task: TaskProtocol, state: TrainState, batch: Batch) -> None:
    """Make a pass forward and back, of which only what was compiled stays."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in state.model.buffers()]
    state.set_modes()
    with seeded(0):
        with state.precision.autocast():
            loss = torch.stack(list(task(state.model, batch).terms.values())).sum()
        if loss.requires_grad:
            loss.backward()
    state.optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, value in buffers:
            buffer.copy_(value)
