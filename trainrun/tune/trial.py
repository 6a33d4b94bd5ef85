"""Try one micro-batch size, in a process of its own: time steps or an evaluation, and measure the memory."""

from __future__ import annotations

import io
import math
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from trainrun.assembly.build import Parts
from trainrun.checkpoint.snapshot import Snapshot
from trainrun.checkpoint.state import TrainState
from trainrun.loop.evaluate import evaluate
from trainrun.loop.health import measure_health
from trainrun.protocols import Batch, BatchSpec, Position, StepResult, Window
from trainrun.runtime.signals import Signals
from trainrun.tune.memory import taken_bytes
from trainrun.vocabulary.errors import DataError, NonFiniteError

_LONG_S, _MOST = 0.7, 30  # seconds of measuring, at most so many pieces: a median, and a search of a minute
_LR = 1e-3  # of the run's: nothing is warmed up here, and the weights should stay where they are


@dataclass(frozen=True)
class Survey:
    """A built run in figures, before anything is tried."""

    batch_size: int
    window: int  # as asked for: batch_size x accumulate
    samples_per_step: int  # as there are
    is_full: bool  # batch_size is the whole training set
    scales_lr: bool  # with the nominal window
    split: str  # to evaluate: the larger one; empty without any
    split_size: int | None  # None: a stream
    eval_batch_size: int | None  # None: the data have no such setting
    device: str  # in words
    on_gpu: bool
    has_batch_norm: bool
    built_bytes: int  # that the process has taken so far
    device_bytes: int | None  # a GPU's memory


@dataclass(frozen=True)
class Measured:
    """The measurements of one size."""

    samples: int  # of the largest piece
    samples_per_s: float
    noise: float  # of that rate, as a share: the interquartile range over the root of the count
    peak_bytes: int
    reserved_bytes: int | None
    lengths_differ: bool  # of the inputs, from batch to batch


def survey(parts: Parts) -> Survey:
    """Describe a run as it was composed."""
    settings, device, spec = parts.settings, parts.runtime.device, parts.batch_spec
    sizes = {name: parts.info.sizes[name] for name in ("val", "test") if parts.info.sizes.get(name, 0) != 0}
    split = max(sizes, key=lambda name: float("inf") if sizes[name] is None else sizes[name] or 0, default="")
    eval_batch_size = settings["data"].get("eval_batch_size")
    on_gpu = device.type == "cuda"
    return Survey(
        batch_size=spec.batch_size,
        window=spec.window,
        samples_per_step=parts.samples_per_step,
        is_full=settings["batch_size"] == "full",
        scales_lr=settings["optimizer"].get("lr_scaling", "none") != "none",
        split=split,
        split_size=sizes.get(split),
        eval_batch_size=eval_batch_size if isinstance(eval_batch_size, int) else None,
        device=torch.cuda.get_device_name(device) if on_gpu else str(device),
        on_gpu=on_gpu,
        has_batch_norm=any(isinstance(module, _BatchNorm) for module in parts.state.model.modules()),
        built_bytes=taken_bytes(),
        device_bytes=torch.cuda.mem_get_info(device)[1] if on_gpu else None,
    )


def train(parts: Parts) -> Measured:
    """Time whole steps. Raises NonFiniteError where the run would stop in its first ones."""
    with closing(_Run(parts)) as run:
        run.warm_up(3, 3.0)
        timing = StepTiming(parts.runtime.device)
        while not timing.is_enough:
            timing.passed(run.step(False).num_samples)
        return timing.measured(run.lengths_differ)


def time_evaluation(parts: Parts, split: str) -> Measured:
    """Time batches of an evaluation, with everything in memory that training holds beside them."""
    with closing(_Run(parts)) as run:
        batch = next(iter(parts.data.train_batches(Position(), BatchSpec(2, 1), parts.settings["seed"])))
        run.loop.step(run.state, [batch])  # for gradients and the optimizer's state
        if parts.runtime.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(parts.runtime.device)
        return run.evaluate(split).measured(run.lengths_differ)


def together(parts: Parts, split: str) -> Measured:
    """Time steps before and after an evaluation: memory that one frees may be no use to the other."""
    with closing(_Run(parts)) as run:
        run.warm_up(6, 5.0)
        if split:
            run.evaluate(split)
        timing = StepTiming(parts.runtime.device)
        run.warm_up(6, 5.0, timing)
        return timing.measured(run.lengths_differ)


class _Run:
    """A built run, to be stepped and evaluated at a rate so low that its weights stay where they are."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.state = parts, parts.state
        self.loop = parts.loop(Path(), "", None, Signals())
        self.state.schedule = lambda update: (_LR, None)
        self._windows = self.loop.windows(self.state)
        self._shapes: set[tuple[int, ...]] = set()  # of a sample, where a batch's inputs are one tensor
        self._held: Any = None  # keeps in memory what a run would

    def close(self) -> None:
        self._windows.close()
        self.loop.checkpoints.close()

    @property
    def lengths_differ(self) -> bool:
        return len(self._shapes) > 1

    def step(self, watch: bool) -> StepResult:
        """Make a step with all that a run holds beside it: copies for a save, with `watch` for health."""
        window, step = next(self._windows), self.loop.step
        self._note_shapes(window)
        result = measure_health(step, self.state, window) if watch else step(self.state, window)
        if result.finding is not None:
            text = f"the gradient's norm is {result.norm}; first not finite: {result.finding.where}"
            raise NonFiniteError(f"{text}; trainrun check says more")
        if self._held is None:
            self._held = _saved(self.state), _history(self.state.optimizer)
        return result

    def warm_up(self, same: int, most_s: float, timing: StepTiming | None = None) -> None:
        """Step at least twice, until `same` steps in turn take no more memory or the time is up."""
        began, peak, count, unchanged = time.perf_counter(), 0, 0, 0
        while count < 2 or (unchanged < same and time.perf_counter() - began < most_s):
            result = self.step(self.loop.health)
            if timing is not None:
                timing.passed(result.num_samples)
            now = _peak(self.parts.runtime.device)
            unchanged = unchanged + 1 if now <= peak else 0
            peak, count = max(now, peak), count + 1

    def evaluate(self, split: str) -> StepTiming:
        """Time an evaluation of some batches."""
        timing = StepTiming(self.parts.runtime.device)
        batches = self._batches(split, timing)
        evaluate(self.state.eval_model, self.parts.task, batches, self.state.precision)
        return timing

    def _batches(self, split: str, timing: StepTiming) -> Iterator[Batch]:
        """The split's batches, again from its beginning until enough are timed; the first is not."""
        is_first = True
        while not timing.is_enough:
            for batch in self.parts.data.eval_batches(split):
                self._note_shapes([batch])
                yield batch
                if is_first:  # it sets up what the next ones find ready
                    is_first = False
                    timing.begin()
                    continue
                timing.passed(len(batch))
                if timing.is_enough:
                    return
            if is_first:
                raise DataError(f"data: the {split} split is empty")

    def _note_shapes(self, window: Window) -> None:
        self._shapes |= {tuple(batch.inputs.shape[1:]) for batch in window if hasattr(batch.inputs, "shape")}


class StepTiming:
    """Times pieces of work, each some samples, until there are enough of them."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pieces: list[tuple[int, float]] = []  # samples, seconds
        self.begin()

    def begin(self) -> None:
        """Start the first piece."""
        self._began = self._last = self._now()

    def passed(self, samples: int) -> None:
        """End a piece, and start the next one."""
        now = self._now()
        self.pieces.append((samples, now - self._last))
        self._last = now

    @property
    def is_enough(self) -> bool:
        lasted = self._last - self._began
        return bool(self.pieces) and (lasted >= _LONG_S or len(self.pieces) >= _MOST)

    def measured(self, lengths_differ: bool) -> Measured:
        """The median rate of the pieces, without the short last ones of an epoch, and the peak so far."""
        most = max(samples for samples, _ in self.pieces)
        rates = sorted(samples / seconds for samples, seconds in self.pieces if samples == most)
        middle = statistics.median(rates)
        lower, _, upper = statistics.quantiles(rates, n=4) if len(rates) > 1 else [middle] * 3
        on_gpu = self.device.type == "cuda"
        reserved = torch.cuda.max_memory_reserved(self.device) if on_gpu else None
        noise = (upper - lower) / middle / math.sqrt(len(rates))
        return Measured(most, middle, noise, _peak(self.device), reserved, lengths_differ)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _saved(state: TrainState) -> tuple[Any, ...]:
    """The memory of a save while training goes on: the packed state, and a copy of it."""
    body, snapshot = io.BytesIO(), Snapshot()
    torch.save(snapshot.take(state.state_dict()), body)
    return body, snapshot


def _history(optimizer: Any) -> Tensor | None:
    """A tensor as large as the full history of L-BFGS, which these few steps do not fill."""
    if not isinstance(optimizer, torch.optim.LBFGS):
        return None
    group = optimizer.param_groups[0]
    count = sum(p.numel() for p in group["params"])
    return torch.ones(2 * group["history_size"] * count, device=group["params"][0].device)


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else taken_bytes()
