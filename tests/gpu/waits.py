"""How often a step makes the host wait for the GPU, and how many kernels it launches."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from setup import QUIET, Setup, pictures, texts

WARM_UP, STEPS = 5, 20
ROOT = Path(__file__).resolve().parents[2]
_SYNCHRONIZE = (
    "cudaStreamSynchronize",
    "cudaEventSynchronize",
)  # a profiler's end is a cudaDeviceSynchronize
_LAUNCHES = (
    "cudaLaunchKernel",
    "cudaLaunchKernelExC",
    "cuLaunchKernel",
    "cuLaunchKernelEx",
    "cudaGraphLaunch",
)


def waits(setup: Setup) -> None:
    """Plain steps may wait once, for the gradient's norm; of others it is a figure."""
    resnet9, gpt = pictures(setup.small, 10_000), texts(setup.small)  # no epoch ends on the way
    plain = {
        "resnet9": resnet9,
        "resnet9, bf16, EMA": [*resnet9, "precision=bf16", "regularization=[ema]"],
        "gpt, bf16, clipped": [*gpt, "precision=bf16", "loop.clip.norm=1.0"],
        "gpt, 2 micro-batches": [*gpt, "loop.accumulate=2"],
    }
    others = {
        "resnet9, fp16": [*resnet9, "precision=fp16"],
        "resnet9, mixup": [*resnet9, "regularization=[mixup]"],
        "resnet9, standard augmentation": [*resnet9, "augment=standard"],
        "resnet9, SAM": [*resnet9, "optimizer=sam"],
        "gpt, muon": [*gpt, "optimizer=muon"],
    }
    for name, words in (plain | ({} if setup.small else others)).items():
        counts = count(setup, words, name)
        if not counts:
            continue
        if not setup.is_gpu:
            setup.figure(f"{name}: numbers read a step", counts["reads"])
            continue
        row = f"{name}: waits a step"
        if name in plain:
            setup.must(row, counts["waits"], "at most 1", counts["waits"] <= 1, counts["places"])
        else:
            setup.figure(row, counts["waits"], counts["places"])
        note = ", ".join(filter(None, (counts["calls"], counts.get("busy"))))
        setup.figure(f"{name}: launches a step", counts["launches"], note)
    if not setup.is_gpu:
        setup.skipped("waits and launches", "a CPU has none")


def count(setup: Setup, words: list[str], name: str) -> dict[str, Any]:
    """Means over STEPS steps: first what torch warns of, then what its profiler sees."""
    from trainrun.loop.windows import Windows

    counts: dict[str, Any] = {}
    plain = Windows.__call__

    def windows(self: Windows, state: Any) -> Iterator[Any]:
        batches = plain(self, state)
        for _ in range(WARM_UP):
            yield next(batches)
        for watched in (warned, profiled) if setup.is_gpu else (profiled,):
            with watched(counts):
                for _ in range(STEPS):
                    yield next(batches)
        while True:
            yield next(batches)

    Windows.__call__ = windows  # type: ignore[assignment]
    try:
        steps = WARM_UP + 2 * STEPS + 2
        run = setup.train(
            [*words, *QUIET, f"budget={steps}step", "loop.log_every=1000000step"], _folder(name)
        )
    finally:
        Windows.__call__ = plain  # type: ignore[method-assign]
    if run.fault:
        setup.must(name, f"exit code {run.code}", "exit code 0", False, run.fault)
        return {}
    return counts


@contextmanager
def warned(counts: dict[str, Any]) -> Iterator[None]:
    """Count torch's warnings of calls that wait, and where they come from."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [warning for warning in caught if "called a synchronizing" in str(warning.message)]
    places = Counter(f"{_short(warning.filename)}:{warning.lineno}" for warning in waits)
    counts["waits"] = len(waits) / STEPS
    counts["places"] = ", ".join(f"{count / STEPS:g} {place}" for place, count in places.most_common(4))


@contextmanager
def profiled(counts: dict[str, Any]) -> Iterator[None]:
    """Count what torch's profiler sees of the driver's calls, and of numbers read back."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        yield
    calls = Counter({event.key: event.count for event in profile.key_averages()})
    counts["reads"] = calls["aten::_local_scalar_dense"] / STEPS
    counts["launches"] = sum(calls[name] for name in _LAUNCHES) / STEPS
    counts["calls"] = ", ".join(f"{calls[name] / STEPS:g} {name}" for name in _SYNCHRONIZE if calls[name])
    ranges = [event.time_range for event in profile.events() if _is_kernel(event)]
    if ranges:
        span = max(there.end for there in ranges) - min(there.start for there in ranges)
        counts["busy"] = (
            f"the GPU computes {sum(there.end - there.start for there in ranges) / span:.0%} of the time"
        )


def _is_kernel(event: Any) -> bool:
    """Whether it is work of the GPU, not a range that the host named."""
    return event.device_type.name == "CUDA" and not getattr(event, "is_user_annotation", False)


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else "/".join(path.parts[-2:])


def _folder(name: str) -> str:
    return name.replace(" ", "-").replace(",", "")
