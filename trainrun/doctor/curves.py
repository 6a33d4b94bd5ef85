"""What a run's folder tells, as curves: read without torch, and whoever wrote it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from trainrun.config.task_facts import metric_modes
from trainrun.config.tree import value_at
from trainrun.run.files import number_in, read_json
from trainrun.run.history import is_number, records_or_none, step_of
from trainrun.run.listing import state_in

Record = Mapping[str, Any]
FEW = 4  # points, below which a curve has no trend


@dataclass(frozen=True)
class Curve:
    """One figure over the run, in the order of `steps`; points that are no number are left out."""

    steps: tuple[int, ...]
    values: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, part: slice) -> Curve:
        return Curve(self.steps[part], self.values[part])

    @property
    def last(self) -> float:
        """Where it ends: the median of the last quarter, at least of three points."""
        return median(self.values[-max(3, len(self) // 4) :])

    @property
    def noise(self) -> float:
        """Standard deviation around the trend in the second half, by the usual leap from point to point.

        Its median size is 0.6745 root 2 times that of normal noise; single leaps do not count.
        """
        leaps = [abs(b - a) for a, b in pairwise(self.values[len(self) // 2 :])]
        return median(leaps) / (0.6745 * math.sqrt(2)) if leaps else 0.0

    @property
    def smooth(self) -> Curve:
        """Medians of three neighbours, so that one leap is none; the ends are those of their neighbours."""
        if len(self) < 3:
            return self
        inner = [median(self.values[start : start + 3]) for start in range(len(self) - 2)]
        return Curve(self.steps, (inner[0], *inner, inner[-1]))


@dataclass(frozen=True)
class RecordedRun:
    """A run's settings and status, and its records by kind."""

    settings: Mapping[str, Any]
    status: Mapping[str, Any]
    train: Sequence[Record]
    val: Sequence[Record]
    nonfinite: Sequence[Record]
    timing: Sequence[Record]
    in_memory: bool = False  # the data: no loader processes are needed
    num_ranks: int = 1
    unread: int = 0  # lines of its records that cannot be read
    _curves: dict[tuple[Any, ...], Curve] = field(default_factory=dict, init=False, repr=False, compare=False)

    def curve(self, part: str, key: str, pick: Callable[[Iterable[float]], float] = min) -> Curve:
        """A figure of the "train", "val" or "timing" records; of several parameter groups the smallest."""
        if (part, key, pick) not in self._curves:  # each is asked for by several rules
            points = ((step_of(record), _number(record.get(key), pick)) for record in getattr(self, part))
            good = [(step, value) for step, value in points if step is not None and value is not None]
            curve = Curve(tuple(step for step, _ in good), tuple(value for _, value in good))
            self._curves[part, key, pick] = curve
        return self._curves[part, key, pick]

    @property
    def has_verdict(self) -> bool:
        """Whether there are points enough to see a trend."""
        return max(len(self.curve(part, "loss")) for part in ("train", "val")) >= FEW

    @property
    def step(self) -> int:
        """How far it came."""
        return max(step_of(record) or 0 for record in (*self.train, *self.val, self.status))

    @property
    def metric(self) -> str:
        """What tells how good it is: the monitored metric, or where that is a loss a better one.

        Of text the loss: which share of tokens can be guessed is the text's own.
        """
        monitored = str(self.status.get("monitor") or "").removeprefix("val/")
        smaller = metric_modes().get(monitored) == "min" or self.setting("monitor_mode") == "min"
        latest = next((records[-1] for records in (self.val, self.train) if records), {})
        if "perplexity" in latest:
            return "loss"
        names = ("accuracy", "r2") if smaller else (monitored, "accuracy", "r2")
        return next((name for name in names if name in latest), "loss")

    @property
    def higher_is_better(self) -> bool:
        return metric_modes().get(self.metric) != "min"

    def setting(self, path: str) -> Any:
        """The value at a dotted path; None where there is none."""
        return value_at(self.settings, path)

    def number(self, path: str) -> float | None:
        """The same where it is a number."""
        return _number(self.setting(path), min)


def read(run_dir: Path) -> RecordedRun:
    """A run's folder. What is damaged or absent is as if nothing had happened; the config must be there.

    Raises ResumeError for a config.yaml that a run would not have written.
    """
    from trainrun.config.stored import load_stored  # which is slow to import, and the table needs it not

    status, environment = (read_json(run_dir / name) for name in ("status.json", "environment.json"))
    computed, timing = (list(records_or_none(run_dir / name)) for name in ("metrics.jsonl", "timing.jsonl"))
    train, val, nonfinite = dict[int, Record](), dict[int, Record](), list[Record]()
    for record in filter(None, computed):
        kind, step = record.get("event"), step_of(record)
        if kind == "train" and step is not None:
            train[step] = record
        elif kind == "eval" and record.get("split") == "val" and step is not None:
            val[step] = record
        elif kind == "nonfinite":
            nonfinite.append(record)
        elif kind == "rollback":
            to = step_of(record, "to") or 0
            train, val = ({step: part[step] for step in part if step <= to} for part in (train, val))
    return RecordedRun(
        settings=load_stored(run_dir / "config.yaml"),
        status=status | {"state": state_in(run_dir, status)},
        train=[train[step] for step in sorted(train)],
        val=[val[step] for step in sorted(val)],
        nonfinite=nonfinite,
        timing=[*filter(None, timing)],
        unread=computed.count(None) + timing.count(None),
        in_memory=environment.get("in_memory") is True,
        num_ranks=max(1, int(number_in(environment, "ranks") or 1)),
    )


def _number(value: Any, pick: Callable[[Iterable[float]], float]) -> float | None:
    """A finite number; of a mapping to such numbers that which is picked."""
    if isinstance(value, Mapping):
        numbers = [float(item) for item in value.values() if is_number(item)]
        return pick(numbers) if numbers else None
    return float(value) if is_number(value) else None
