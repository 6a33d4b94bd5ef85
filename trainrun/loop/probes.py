"""Probes: own numbers, pictures, texts and tables after an evaluation, without effect on training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainrun import ranks
from trainrun.checkpoint.state import TrainState
from trainrun.data.samples import describe_error
from trainrun.loop.probe_results import ProbeResults
from trainrun.protocols import Batch, Data
from trainrun.runtime.compiler import uncompiled
from trainrun.runtime.machine import seeded
from trainrun.vocabulary.errors import TrainrunError
from trainrun.vocabulary.events import Probed
from trainrun.vocabulary.seeds import derive


class ProbeError(TrainrunError):
    """A probe failed, returned what cannot be logged, or changed what is trained."""


@dataclass(frozen=True)
class Probe:
    """A function (model, batches, step) -> {name: number, picture, text or table}, and what it is called."""

    name: str
    function: Callable[[nn.Module, SplitBatches, int], Any]
    module: str  # in whose file an error is looked for


@dataclass(frozen=True)
class SplitBatches:
    """The batches of a split, as often as they are iterated over."""

    data: Data
    split: str

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.data.eval_batches(self.split))


class SampleGrid:
    """A probe of generators: `samples`, 8 x 8 pictures of the same noise at every evaluation."""

    def __call__(self, model: Any, batches: Any, step: int) -> dict[str, Any]:
        lines = model.draw(64).unflatten(0, (8, 8)).permute(2, 0, 3, 1, 4)
        return {"samples": (lines.flatten(1, 2).flatten(2, 3) + 1) / 2}  # from (C, row, H, column, W)


@ranks.working("running probes")
def run_probes(probes: Sequence[Probe], state: TrainState, data: Data) -> Probed:
    """Give each probe the evaluated weights and the validation split, and collect what they return.

    Raises ProbeError naming the probe that fails or changes weights.
    """
    results = ProbeResults()
    models = list(dict.fromkeys((state.model, state.eval_model)))
    before = digests(models)
    for probe in probes:
        try:
            with sandbox(models, derive(0, "probe", probe.name)):  # the same draws at each evaluation
                _run_probe(probe, state, data, results)
        finally:  # one that fails may have changed them before
            if changed := [name for name, digest in digests(models).items() if before.get(name) != digest]:
                text = f"changed the model that is trained ({changed[0]}) at step {state.step}"
                raise ProbeError(f"loop.probes: {probe.name} {text}; work on a copy: copy.deepcopy(model)")
    return results.event(state.step)


def _run_probe(probe: Probe, state: TrainState, data: Data, results: ProbeResults) -> None:
    where = f"loop.probes: {probe.name}"
    try:
        returned = probe.function(state.eval_model, SplitBatches(data, "val"), state.step)
    except (Exception, SystemExit) as error:
        reason = describe_error(error, probe.module)
        raise ProbeError(f"{where} failed at step {state.step}: {reason}") from error
    try:
        results.add(returned)
    except ValueError as error:
        raise ProbeError(f"{where} {error}") from error


@contextmanager
def sandbox(models: Sequence[nn.Module], seed: int) -> Iterator[None]:
    """Within, models are in evaluation mode and draws come from `seed`; afterwards all is as it was.

    That is: modes, hooks, random states of Python, NumPy and torch with its GPUs, gradients, what needs
    them, and grad mode.
    """
    modules = [(m, m.training, _hooks(m)) for model in models for m in model.modules()]
    parameters = [(p, p.grad, p.requires_grad) for model in models for p in model.parameters()]
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(gpus), seeded(seed), torch.no_grad(), uncompiled():
            for model in models:
                model.eval()
            for parameter, _, _ in parameters:
                parameter.grad = None
            yield
    finally:
        for module, mode, hooks in modules:
            module.training = mode
            for name, added in hooks.items():
                vars(module)[name].clear()
                vars(module)[name].update(added)
        for parameter, gradient, needs_gradient in parameters:
            parameter.grad = gradient
            parameter.requires_grad_(needs_gradient)


def _hooks(module: nn.Module) -> dict[str, dict[int, Any]]:
    """A module's hooks by their kind: what a probe forgets to remove would act on training."""
    kinds = {name: kind for name, kind in vars(module).items() if name.endswith("_hooks")}
    return {name: dict(kind) for name, kind in kinds.items() if isinstance(kind, dict)}


def digests(models: Sequence[nn.Module]) -> dict[str, str]:
    """The SHA-256 of every parameter and buffer, by name."""
    return {
        f"{name} of the average" if number else name: hashlib.sha256(_bytes(tensor)).hexdigest()
        for number, model in enumerate(models)
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
