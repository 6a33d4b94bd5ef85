"""The plan: what a run is about to do, in derived numbers, before it does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainrun.checkpoint.weights import Weights
from trainrun.duration import Pace
from trainrun.loop import Monitor
from trainrun.protocols import Cut, DataInfo
from trainrun.runtime import Runtime
from trainrun.state import TrainState

Settings = Mapping[str, Any]
_SHOWN = 8


def plan_of(
    settings: Settings,
    runtime: Runtime,
    info: DataInfo,
    state: TrainState,
    cut: Cut,
    pace: Pace,
    lr_arithmetic: str,
    monitor: Monitor | None,
) -> tuple[tuple[str, str], ...]:
    """(label, text) lines for people."""
    optimizer, scheduler = _short(settings["optimizer"]), _short(settings["scheduler"])
    return (
        ("data", _data(settings, info)),
        ("model", _model(settings, state)),
        ("steps", _steps(settings, state, cut, pace)),
        ("optimizer", f"{optimizer}, lr {lr_arithmetic}; {scheduler} schedule"),
        ("compute", _compute(settings, runtime, info, state)),
        ("decides", _decides(monitor)),
    )


def started_from(weights: Weights | None, anew: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Where the first weights are from, and which of them are not."""
    if weights is None:
        return ()
    more = [("", f"and {len(anew) - _SHOWN} more")] if len(anew) > _SHOWN else []
    return (("init from", weights.told), *(("", line) for line in anew[:_SHOWN]), *more)


def _data(settings: Settings, info: DataInfo) -> str:
    sizes = ", ".join(f"{size} {split}" for split, size in info.sizes.items() if size)
    text = f"{info.name}: {sizes or 'a stream without length'}"
    if info.kind != "values":
        return text
    scaled = info.target_scaling is not None and settings["task"].get("standardize")
    return f"{text}; targets {'standardised' if scaled else 'in their own units'}"


def _model(settings: Settings, state: TrainState) -> str:
    sizes = [(p.numel(), p.requires_grad) for p in state.model.parameters()]
    trained = sum(size for size, is_trained in sizes if is_trained)
    frozen = sum(size for size, is_trained in sizes if not is_trained)
    return f"{_short(settings['model'])}: {trained:,} parameters{f', {frozen:,} frozen' if frozen else ''}"


def _steps(settings: Settings, state: TrainState, cut: Cut, pace: Pace) -> str:
    per_epoch = f"{pace.steps_per_epoch} an epoch" if pace.steps_per_epoch else "a stream without epochs"
    window = f"{cut.batch_size} samples a step"
    if cut.accumulate > 1:
        window = f"{cut.batch_size} x {cut.accumulate} accumulated = {cut.window} samples a step"
    if pace.total_steps is None:
        outside = "the clock plans their number, so no second run has the same bits"
        return f"for {settings['budget']} of training, {per_epoch}, {window}; {outside}"
    return f"{state.total_steps} ({settings['budget']}), {per_epoch}, {window}"


def _compute(settings: Settings, runtime: Runtime, info: DataInfo, state: TrainState) -> str:
    threads = f"{runtime.num_threads} thread{'s' if runtime.num_threads > 1 else ''}"
    workers = settings["data"].get("num_workers", 0)
    loading = f", {workers} loader processes" if workers else ""
    if workers and info.in_memory:
        loading = ", no loader processes: the data are in memory"
    return f"{runtime.device}, {state.precision.name}, {threads}{loading}"


def _decides(monitor: Monitor | None) -> str:
    if monitor is None:
        return "nothing: there is no validation split, the last weights are kept"
    return f"val/{monitor.name}, {'larger' if monitor.maximize else 'smaller'} is better"


def _short(node: Settings) -> str:
    return str(node["_target_"]).rpartition(".")[2]
