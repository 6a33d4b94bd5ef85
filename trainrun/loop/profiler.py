"""`runtime.profile`: a torch.profiler trace of a few steps, and an account of where a process's time went."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, record_function

from trainrun.checkpoint.state import TrainState
from trainrun.loop.clock import Clock
from trainrun.loop.step import WindowGradients
from trainrun.protocols import TaskProtocol, Window
from trainrun.run.files import replacing, storage_errors
from trainrun.runtime.compiler import is_compiled
from trainrun.runtime.peaks import peak_flops
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.events import Profiled, Warned

WARM_UP = 5  # steps of a process: caches, threads, allocators and compilation make its first ones slow
_COUNTED = 1  # the step, from 0, whose FLOPs are counted: torch's counter makes it slow
_STEP_PARTS = ("forward", "backward", "clip", "optimizer", "steps")  # the last: what is none of the others


def check_profile(steps: int | None, total_steps: int) -> None:
    """Raise ConfigError where a run is too short to trace so many steps."""
    if steps is not None and WARM_UP + steps > total_steps:
        most = total_steps - WARM_UP
        text = f"traces {steps} steps after the first {WARM_UP}, the run has {total_steps}; give it more"
        raise ConfigError.of("runtime.profile", text, f"runtime.profile={most}" if most > 0 else None)


class Profiler(Clock):
    """The clock of a process that traces `steps` of its steps after the first ones.

    The functions that steps are made of, whichever class a step is of, are called within parts meanwhile.
    Nothing else is done: training is what it would be without.
    """

    def __init__(self, state: TrainState, steps: int, run_dir: Path, task: TaskProtocol) -> None:
        super().__init__(state)
        self.state, self.steps, self.task, self.device = state, steps, task, state.precision.device
        self.trace = run_dir / "profile" / "trace.json"
        self._made = 0  # steps of this process
        self._measured_from = (0, 0, 0.0)  # steps, samples and seconds: as the trace began, or after it
        self._is_tracing, self._first_step, self._warm_up_s = False, 0, 0.0
        self._flops, self._counted_samples = 0, 0  # of one step
        self._moments: list[tuple[str, Any]] = []  # of the trace: (part, when it began)
        self._is_compiled = is_compiled(state.model)  # its calls are out of sight
        self._around_step, self._around_trace = ExitStack(), ExitStack()
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else it tells people that it starts and stops
        profile = torch.profiler.profile(
            activities=[ProfilerActivity.CPU] if self.device.type == "cpu" else None,  # None: the GPU's too
            schedule=torch.profiler.schedule(wait=WARM_UP - 1, warmup=1, active=steps, repeat=1),
            on_trace_ready=self._write,
        )
        self._profile = self._around_trace.enter_context(profile)

    def fetch(self, windows: Iterator[Window]) -> Window:
        self._advance()
        window = super().fetch(windows)
        if self._made in (WARM_UP, WARM_UP + self.steps):
            self._measured_from = (self._made, self.state.samples, self.stepping)
        if self._made == _COUNTED and not self._is_compiled:
            self._around_step.enter_context(self._counting_flops())
        elif self._is_tracing:
            self._enter_parts()
        return window

    def record_step(self) -> None:
        self._around_step.close()
        super().record_step()
        self._made += 1

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        if name == self.part_now:  # of a module in a module
            yield
            return
        with super().part(name), record_function(name):
            yield

    def switch(self, name: str) -> None:
        super().switch(name)
        if self._is_tracing:
            moment: Any = self.since
            if self.device.type == "cuda":  # its work comes later than the calls
                moment = torch.cuda.Event(enable_timing=True)
                moment.record(torch.cuda.current_stream(self.device))
            self._moments.append((name, moment))

    def account(self) -> tuple[Profiled | Warned]:
        """Where the time went, the steps divided as those that were traced."""
        self.close()
        if self._made <= WARM_UP:
            text = f"runtime.profile: nothing was traced, the process made {self._made} steps of its warm-up"
            return (Warned(step=self.state.step, text=text),)
        here, shares = self.seconds_here(), self._shares()
        whole, steps_s = sum(here.values()), here.pop("steps") - self._warm_up_s
        seconds = {"data": here.pop("data"), **{name: steps_s * share for name, share in shares.items()}}
        seconds |= {"warm-up": self._warm_up_s, **here}
        last_step = self._first_step + min(self._made - WARM_UP, self.steps) - 1
        head = f"{whole:.1f} s, the steps divided as {self._first_step} to {last_step} in {self.trace}"
        rows = (f"{name:<10} {value:8.2f} s {value / whole:4.0%}" for name, value in seconds.items())
        return (Profiled(step=self.state.step, lines=(head, *rows, self._speed())),)

    def close(self) -> None:
        """End what is under way; the trace is written as far as it got."""
        self._around_step.close()
        with super().part("profiling"):
            self._is_tracing = False
            self._around_trace.close()

    def _advance(self) -> None:
        """Begin or end the trace where that is due: before a step, so that what follows the last is in it."""
        if self._made == WARM_UP + self.steps:
            self.close()
        elif 0 < self._made < WARM_UP + self.steps:
            with super().part("profiling"):
                self._profile.step()
        if self._made == WARM_UP:
            self._first_step, self._warm_up_s = self.state.step + 1, self.seconds_here()["steps"]
            self._is_tracing = True

    def _write(self, profile: torch.profiler.profile) -> None:
        with storage_errors(self.trace):
            self.trace.parent.mkdir(exist_ok=True)
            with replacing(self.trace) as part:
                profile.export_chrome_trace(str(part))

    def _enter_parts(self) -> None:
        """Until the step is done, call what it is made of within parts."""
        optimizer: Any = self.state.optimizer
        optimizers = (optimizer, *getattr(optimizer, "modules", {}).values())
        calls: list[tuple[str, Any, str]] = [
            ("forward", type(self.task), "__call__"),
            *([] if self._is_compiled else [("forward", nn.Module, "__call__")]),
            *(("backward", torch.autograd, name) for name in ("backward", "grad")),
            *(("clip", nn.utils, name) for name in ("get_total_norm", "clip_grad_norm_", "clip_grad_value_")),
            ("clip", WindowGradients, "_unscale_and_clip"),
            *(("optimizer", part, "step") for part in optimizers),
        ]
        for part, owner, name in calls:
            call = getattr(owner, name)
            self._around_step.callback(setattr, owner, name, call)
            setattr(owner, name, self.part(part)(call))

    @contextmanager
    def _counting_flops(self) -> Iterator[None]:
        with super().part("profiling"):
            from torch.utils.flop_counter import FlopCounterMode  # entered, it imports the compiler

            samples = self.state.samples
            with FlopCounterMode(display=False) as counter:
                yield
            self._flops, self._counted_samples = counter.get_total_flops(), self.state.samples - samples

    def _shares(self) -> dict[str, float]:
        """What each part of a step took, of the time of the traced ones."""
        seconds, is_gpu = dict.fromkeys(_STEP_PARTS, 0.0), self.device.type == "cuda"
        if is_gpu:
            torch.cuda.synchronize(self.device)
        for (name, began), (_, ended) in pairwise(self._moments):
            if name in seconds:
                seconds[name] += began.elapsed_time(ended) / 1000 if is_gpu else ended - began
        whole = sum(seconds.values())
        return {"other" if name == "steps" else name: value / whole for name, value in seconds.items()}

    def _speed(self) -> str:
        """Samples and FLOPs a second: after the trace, or in it where the run ended with it."""
        now, then = (self._made, self.state.samples, self.stepping), self._measured_from
        steps, samples, seconds = (after - before for after, before in zip(now, then, strict=True))
        line = f"{samples / seconds:,.0f} samples/s, {1000 * seconds / steps:.3g} ms a step"
        if not self._flops:
            return f"{line}; no FLOPs were counted{' in compiled code' if self._is_compiled else ''}"
        rate = self._flops / self._counted_samples * samples / seconds
        is_gpu, precision = self.device.type == "cuda", self.state.precision.name
        device = torch.cuda.get_device_name(self.device) if is_gpu else self.device.type.upper()
        line += f", {self._flops / 1e9:.3g} GFLOP a step"
        if peak := peak_flops(device, precision):
            share = f"{rate / peak:.1%} of {peak / 1e12:g}"
            return f"{line}, {rate / 1e12:.3g} TFLOP/s: {share}, the peak of {device} in {precision}"
        return f"{line}, {rate / 1e9:.3g} GFLOP/s; the peak of this {device} in {precision} is not known"
