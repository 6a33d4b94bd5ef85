"""The events of a run: what is computed, whatever the clock, for metrics.jsonl, the rest for timing.jsonl."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Picture = tuple[bytes, tuple[int, int]]  # PNG, and its width and height


@dataclass(frozen=True, kw_only=True)
class Started:
    """The run's folder exists and training is about to begin at `step`."""

    name: str
    run_dir: str
    step: int
    total_steps: int | None  # None: by the clock, its pace not known yet
    monitor: str
    plan: tuple[tuple[str, str], ...]  # label, text: derived numbers for people
    config: str  # the composed YAML
    class_names: Sequence[str] = ()  # of what the model tells apart; empty where they have no names
    resumed_from: int | None = None


@dataclass(frozen=True, kw_only=True)
class Pictured:
    """Training samples as the model sees them, augmented; recorded nowhere but in views."""

    step: int
    pictures: Sequence[bytes]  # of each its pixels, row by row, as many bytes as `shape` says
    shape: tuple[int, int, int]  # height, width, channels: 1 or 3
    labels: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Progressed:
    """A sign of life, a few times a second; recorded nowhere."""

    step: int
    samples_per_s: float


@dataclass(frozen=True, kw_only=True)
class StepsLogged:
    """Means over the log window that ends at `step`."""

    step: int
    epoch: float | None
    loss: float
    lr: Mapping[str, float]  # per parameter group, as used by the last update
    grad_norm: float  # mean over the window, before clipping
    grad_norm_after: float | None  # the same after clipping; None where nothing clips
    clipped: float | None  # share of the window's steps that were clipped
    skipped: int  # steps of the whole run whose update was not applied
    spikes: int = 0  # steps of the whole run whose loss leapt
    # of the window's last step, where it was looked at:
    update_ratio: Mapping[str, float] = field(default_factory=dict)  # |change| / |weights|, by group
    dead_units: float | None = None  # share of ReLU units that gave 0 for the whole step
    metrics: Mapping[str, float] = field(default_factory=dict)
    samples_per_s: float
    data_wait: float  # share of the window's time spent waiting for data
    machine: Mapping[str, float] = field(default_factory=dict)  # rss_bytes, gpu_bytes, their peaks, gpu_use


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How many values lie between `edges`, one more than `counts`."""

    edges: Sequence[float]
    counts: Sequence[int]
    total: float  # of the values
    total_squares: float  # of their squares


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """Every parameter of the model, and its gradient where it has one; recorded nowhere but in views."""

    step: int
    weights: Mapping[str, Histogram]
    gradients: Mapping[str, Histogram]


@dataclass(frozen=True, kw_only=True)
class NotFinite:
    """A step's gradient was not finite; no weight was changed by it."""

    step: int
    norm: float
    where: str  # what first was not finite
    samples: Sequence[int]  # in which it is seen, or all of the step
    answer: str  # "stop", "skip" or "rollback"
    replay: Mapping[str, Any]  # the step's batches and the weights, on the host


@dataclass(frozen=True, kw_only=True)
class RolledBack:
    """The run goes on from an earlier checkpoint."""

    step: int  # at which it was given up
    to: int
    lr_factor: float  # of the learning rate from here on


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The metrics of one whole split."""

    step: int
    epoch: float | None
    split: str
    weights: str  # "raw", "ema": which weights were evaluated
    metrics: Mapping[str, float]
    train: Mapping[str, float] = field(default_factory=dict)  # means since the last evaluation
    lr: float | None = None
    is_best: bool = False
    confusion: Sequence[Sequence[int]] | None = None  # rows: true classes; None without classes, or of many
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What the weights of `step` write when asked to."""

    step: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What the user's probes returned after the evaluation of `step`, by name."""

    step: int
    numbers: Mapping[str, float]
    pictures: Mapping[str, Picture]
    texts: Mapping[str, str]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]  # rows of numbers and texts


@dataclass(frozen=True, kw_only=True)
class Replanned:
    """A budget by the clock: the run's length as its pace at `step` tells it."""

    step: int
    total_steps: int
    seconds: float  # used so far, over all processes of the run
    is_first: bool  # of this process


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved:
    """A checkpoint is whole and on the disk."""

    step: int
    path: str
    num_bytes: int
    seconds: float  # until it was on the disk
    blocked_s: float  # of these the loop waited for the copy in memory


@dataclass(frozen=True, kw_only=True)
class Warned:
    """Something went wrong that the run can do without."""

    step: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """Where the time of one process went, in lines for people; recorded nowhere but in views."""

    step: int
    lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """A signal asked the run to stop; it is saved and can be resumed."""

    step: int
    signal: str
    seconds: float = 0.0  # of training, over all processes of the run
    seconds_by_part: Mapping[str, float] = field(default_factory=dict)  # steps, data, evaluation ...


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The run came to its end; nothing is left to do."""

    step: int
    reason: str  # "budget", "stop_at" or "early_stopping"
    skipped: int
    samples: int  # that it has trained on, a sample of two epochs counted twice
    parameters: int
    monitor: str
    best: float | None
    best_step: int | None
    kept_step: int  # whose weights the run ends with
    kept_weights: str  # which of that step: "raw", "ema"
    seconds: float
    seconds_by_part: Mapping[str, float] = field(default_factory=dict)  # steps, data, evaluation ...


@dataclass(frozen=True, kw_only=True)
class Failed:
    """An error ended the run; what was saved before it stays."""

    step: int
    reason: str
    exit_code: int


_Computed = StepsLogged | Weighed | NotFinite | RolledBack | Evaluated | Sampled | Probed
_Happened = Started | Pictured | Progressed | Replanned | CheckpointSaved | Warned | Profiled
Event = _Computed | _Happened | Interrupted | Finished | Failed


def metrics_record(event: Event) -> dict[str, Any] | None:
    """The event's object in metrics.jsonl; None where it has none."""
    fields: dict[str, Any]
    match event:
        case StepsLogged():
            name, fields = "train", _logged(event)
        case NotFinite():
            name, fields = "nonfinite", {"where": event.where, "answer": event.answer}
            fields["samples"] = list(event.samples)
        case RolledBack():
            name, fields = "rollback", {"to": event.to, "lr_factor": event.lr_factor}
        case Evaluated():
            name, fields = "eval", {"epoch": event.epoch, "split": event.split, "weights": event.weights}
            fields |= event.metrics
        case Sampled():
            name, fields = "sample", {"text": event.text}
        case Probed() if event.numbers:
            name, fields = "probe", dict(event.numbers)
        case Finished():
            name, fields = "finished", {"reason": event.reason, "monitor": event.monitor}
            fields |= {"best": event.best, "best_step": event.best_step}
        case _:
            return None
    return {"event": name, "step": event.step} | fields


def _logged(event: StepsLogged) -> dict[str, Any]:
    rates, ratios = list(event.lr.values()), list(event.update_ratio.values())
    fields: dict[str, Any] = {"epoch": event.epoch, "loss": event.loss}
    fields |= {"lr": rates[0] if len(set(rates)) == 1 else dict(event.lr), "grad_norm": event.grad_norm}
    if event.clipped is not None:
        fields |= {"grad_norm_after": event.grad_norm_after, "clipped": event.clipped}
    if ratios:
        fields |= {"update_ratio": ratios[0] if len(ratios) == 1 else dict(event.update_ratio)}
    fields |= {} if event.dead_units is None else {"dead_units": event.dead_units}
    fields |= {"skipped": event.skipped} if event.skipped else {}
    fields |= {"spikes": event.spikes} if event.spikes else {}
    return fields | dict(event.metrics)


def timing_record(event: Event) -> dict[str, Any] | None:
    """The event's object in timing.jsonl, without the time of day; None where it has none."""
    fields: dict[str, Any]
    match event:
        case Started():
            name, fields = "started", {"resumed_from": event.resumed_from}
        case StepsLogged(samples_per_s=speed, data_wait=wait):
            name, fields = "train", {"samples_per_s": round(speed, 1), "data_wait": round(wait, 4)}
            fields |= event.machine
        case Evaluated():
            name, fields = "eval", {"split": event.split, "seconds": event.seconds}
        case Replanned(total_steps=total, seconds=seconds):
            name, fields = "replanned", {"total_steps": total, "seconds": round(seconds, 3)}
        case CheckpointSaved(seconds=seconds, blocked_s=blocked):
            name, fields = "saved", {"bytes": event.num_bytes, "seconds": round(seconds, 4)}
            fields["blocked_s"] = round(blocked, 4)
        case Warned():
            name, fields = "warned", {"text": event.text}
        case Interrupted(seconds_by_part=by_part):
            name, fields = "interrupted", {"signal": event.signal, "seconds_by_part": by_part}
        case Finished(seconds_by_part=by_part):
            name, fields = "finished", {"seconds": event.seconds, "seconds_by_part": by_part}
        case Failed():
            name, fields = "failed", {"reason": event.reason}
        case _:
            return None
    return {"event": name, "step": event.step} | fields


def shown(samples: Sequence[int]) -> str:
    """`samples 3, 7`: at most eight of them."""
    return "samples " + ", ".join([*map(str, samples[:8]), *["..."] * (len(samples) > 8)])


def to_line(record: Mapping[str, Any]) -> str:
    """One line of strict JSON: a number that is not finite becomes null beside `"nonfinite": true`."""
    clean = without_nonfinite(record)
    return json.dumps(clean if clean == record else {**clean, "nonfinite": True}, allow_nan=False) + "\n"


def without_nonfinite(value: Any) -> Any:
    """`value` with None in place of the numbers that JSON cannot write."""
    if isinstance(value, Mapping):
        return {key: without_nonfinite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
