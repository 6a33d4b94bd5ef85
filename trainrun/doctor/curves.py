"""What a run's folder tells, as curves: read without torch, and whoever wrote it."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainrun.config.task_facts import metric_modes
from trainrun.run.files import read_json
from trainrun.run.history import is_number, records, step_of, unread_lines
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
        return statistics.median(self.values[-max(3, len(self) // 4) :])

    @property
    def noise(self) -> float:
        """Standard deviation around the trend in the second half, by the usual leap from point to point.

        Its median size is 0.6745 root 2 times that of normal noise; single leaps do not count.
        """
        half = self.values[len(self) // 2 :]
        leaps = [abs(b - a) for a, b in itertools.pairwise(half)]
        return statistics.median(leaps) / (0.6745 * math.sqrt(2)) if leaps else 0.0

    @property
    def smooth(self) -> Curve:
        """Medians of three neighbours, so that one leap is none; the ends are those of their neighbours."""
        if len(self) < 3:
            return self
        triples = zip(self.values, self.values[1:], self.values[2:], strict=False)
        inner = [statistics.median(three) for three in triples]
        return Curve(self.steps, (inner[0], *inner, inner[-1]))


@dataclass(frozen=True)
class RecordedRun:
    """A run's settings and status, and its records by kind."""

    settings: Mapping[str, Any]
    status: Mapping[str, Any]
    train: Sequence[Record]
    val: Sequence[Record]
    nonfinite: Sequence[Record]
    rollbacks: int
    timing: Sequence[Record]
    in_memory: bool = False  # the data: no loader processes are needed
    unread: int = 0  # lines of its records that cannot be read

    def curve(self, part: str, key: str, pick: Callable[[Iterable[float]], float] = min) -> Curve:
        """A figure of the "train", "val" or "timing" records; of several parameter groups the smallest."""
        points = ((step_of(record), _number(record.get(key), pick)) for record in getattr(self, part))
        good = [(step, value) for step, value in points if step is not None and value is not None]
        return Curve(tuple(step for step, _ in good), tuple(value for _, value in good))

    @property
    def has_verdict(self) -> bool:
        """Whether there are points enough to see a trend."""
        return max(len(self.curve(part, "loss")) for part in ("train", "val")) >= FEW

    @property
    def step(self) -> int:
        """How far it came."""
        steps = (step_of(record) for record in (*self.train, *self.val, self.status))
        return max((step for step in steps if step is not None), default=0)

    @property
    def metric(self) -> str:
        """What tells how good it is: the monitored metric, or where that is a loss a better one.

        Of text the loss: which share of tokens can be guessed is the text's own.
        """
        monitored = str(self.status.get("monitor") or "").removeprefix("val/")
        smaller = metric_modes().get(monitored) == "min" or self.setting("monitor_mode") == "min"
        names = [] if smaller else [monitored]
        latest = next((records[-1] for records in (self.val, self.train) if records), {})
        if "perplexity" in latest:
            return "loss"
        return next((name for name in (*names, "accuracy", "r2") if name in latest), "loss")

    @property
    def higher_is_better(self) -> bool:
        return metric_modes().get(self.metric) != "min"

    def setting(self, path: str) -> Any:
        """The value at a dotted path; None where there is none."""
        node: Any = self.settings
        for part in path.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        return node

    def number(self, path: str) -> float | None:
        """The same where it is a number."""
        return _number(self.setting(path))


def read(run_dir: Path) -> RecordedRun:
    """A run's folder. What is damaged or absent is as if nothing had happened; the config must be there.

    Raises ResumeError for a config.yaml that a run would not have written.
    """
    from trainrun.config.stored import load_stored  # which is slow to import, and the table needs it not

    status = read_json(run_dir / "status.json")
    train: list[Record] = []
    val: list[Record] = []
    nonfinite: list[Record] = []
    rollbacks = 0
    for record in records(run_dir / "metrics.jsonl"):
        kind = record.get("event")
        if kind == "train":
            train.append(record)
        elif kind == "eval" and record.get("split") == "val":
            val.append(record)
        elif kind == "nonfinite":
            nonfinite.append(record)
        elif kind == "rollback":
            rollbacks += 1
            to = step_of(record, "to")
            train, val = (
                [record for record in part if (step_of(record) or 0) <= (to or 0)] for part in (train, val)
            )
    return RecordedRun(
        settings=load_stored(run_dir / "config.yaml"),
        status=status | {"state": state_in(run_dir, status)},
        train=_in_order(train),
        val=_in_order(val),
        nonfinite=nonfinite,
        rollbacks=rollbacks,
        timing=list(records(run_dir / "timing.jsonl")),
        unread=sum(unread_lines(run_dir / name) for name in ("metrics.jsonl", "timing.jsonl")),
        in_memory=read_json(run_dir / "environment.json").get("in_memory") is True,
    )


def _in_order(unordered: Sequence[Record]) -> list[Record]:
    """Each step once, the last that was written of it; what has no step is left out."""
    steps = {step: record for record in unordered if (step := step_of(record)) is not None}
    return [steps[step] for step in sorted(steps)]


def _number(value: Any, pick: Callable[[Iterable[float]], float] = min) -> float | None:
    if isinstance(value, Mapping):
        flat = (_number(item) for item in value.values() if not isinstance(item, Mapping))
        numbers = [number for number in flat if number is not None]
        return pick(numbers) if numbers else None
    return float(value) if is_number(value) else None
