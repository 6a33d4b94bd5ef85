"""Everything that changes during a run, and nothing else: what a checkpoint stores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainrun.config.scheduled_numbers import OF_GROUPS
from trainrun.parameters.freezing import Freezing
from trainrun.precision import Precision
from trainrun.protocols import ObservingSchedule, Position, Schedule
from trainrun.regularization.kinds import Stopper, WeightAverage
from trainrun.scheduler.scheduled_numbers import ScheduledNumbers
from trainrun.task.metrics import Meter
from trainrun.vocabulary.errors import DataError, ResumeError


@dataclass
class TrainState:
    """The live parts and the counters of a run.

    `step` counts attempted optimizer steps and is the clock of budget, data and cadence;
    `applied` counts those whose update was made and indexes the schedule alone.
    """

    model: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    precision: Precision
    total_steps: int
    weight_average: WeightAverage | None = None
    stopper: Stopper | None = None
    numbers: ScheduledNumbers | None = None
    features: nn.Module | None = None  # what a metric compares in, where it learns that from the data
    freezing: Freezing | None = None  # where anything is frozen; a function of the step
    data: dict[str, Any] = field(default_factory=dict)  # `DataInfo.identity`
    fitted: dict[str, Any] = field(default_factory=dict)  # what the data estimated
    position: Position = field(default_factory=Position)
    step: int = 0
    applied: int = 0
    samples: int = 0
    skipped_in_a_row: int = 0
    rollbacks: int = 0
    rolled_back_to: int | None = None
    lr_factor: float = 1.0  # what they multiplied the learning rate by
    best: float | None = None  # of the monitored metric
    best_loss: float = math.inf  # and the validation loss beside it
    best_step: int | None = None
    ranking: list[list[float]] = field(default_factory=list)  # [metric, loss, step] of the best to keep
    logged_at: int = 0
    evaluated_at: int = 0
    stop_reason: str | None = None  # set when a metric ends the run before its budget
    seconds: float = 0.0  # spent training, over all processes of the run
    seconds_by_part: dict[str, float] = field(default_factory=dict)  # the same by what they went into
    planned_s: float = 0.0  # the clock's budget that total_steps is the plan of; 0: not by the clock
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        self._configured = [
            {key: value for key, value in group.items() if key != "params"}
            for group in self.optimizer.param_groups
        ]

    @property
    def skipped(self) -> int:
        """Attempted steps whose update was not made, for their gradient was not finite."""
        return self.step - self.applied

    @property
    def eval_model(self) -> nn.Module:
        """The weights that are evaluated: the averaged ones once there are any."""
        average = self.weight_average
        return self.model if average is None or average.model is None else average.model

    @property
    def eval_weights(self) -> str:
        average = self.weight_average
        return "raw" if average is None or average.model is None else average.name

    def set_modes(self) -> None:
        """Training mode, but for what is frozen at this step."""
        if not self.model.training:
            self.model.train()
        if self.freezing is not None:
            self.freezing(self.model, self.step)

    def rank(self, value: float, loss: float, maximize: bool, size: int) -> None:
        """Remember this step's evaluation if it is among the best `size`; one that is not finite never is.

        Of equal values the lower loss is better: on a small validation split many epochs share
        the same accuracy, and the first of them is rarely the best. Of equal losses the earlier is.
        """
        if math.isfinite(value):
            self.ranking.append([value, math.inf if math.isnan(loss) else loss, self.step])
            self.ranking.sort(key=lambda entry: (-entry[0] if maximize else entry[0], entry[1]))
            self.best, self.best_loss, step = self.ranking[0]
            self.best_step = int(step)
        self.ranking = self.ranking[:size]

    def best_steps(self, count: int) -> list[int]:
        """The steps of the best evaluations so far, the best first, at most `count`."""
        return [int(step) for _, _, step in self.ranking[:count]]

    def state_dict(self) -> dict[str, Any]:
        """Plain containers and tensors only, by part; `contents` names everything in them."""
        schedule = self.schedule.state_dict() if isinstance(self.schedule, ObservingSchedule) else {}
        parts: dict[str, Any] = {
            **{name: part.state_dict() for name, part in self._stateful().items()},
            "optimizer": {
                "parameters": self._parameters(),
                "configured": self._configured,
                "state": self.optimizer.state_dict(),
            },
            "schedule": {"kind": type(self.schedule).__name__, "state": schedule},
            "counters": {name: getattr(self, name) for name in _COUNTERS},
            "position": {key: value for key, value in vars(self.position).items() if value is not None},
            "data": dict(self.data),
            "fitted": dict(self.fitted),
        }
        return {**parts, "contents": sorted(_paths(parts))}

    def load_state_dict(self, parts: Mapping[str, Any]) -> None:
        """Load stored parts.

        Raises ResumeError where they are not whole, or not those of this state, and DataError where
        they were trained on other data.
        """
        self.check(parts)
        try:
            for name, part in self._stateful().items():
                part.load_state_dict(parts[name])
            self._load_optimizer(parts["optimizer"])
            is_same_kind = parts["schedule"]["kind"] == type(self.schedule).__name__
            if is_same_kind and isinstance(self.schedule, ObservingSchedule):
                self.schedule.load_state_dict(parts["schedule"]["state"])
            counters = {"seconds_by_part": {}, **parts["counters"]}  # which older runs did not count
            if "ranking" not in counters:  # of before more than the best could be kept
                first = [[counters["best"], counters["best_loss"], counters["best_step"]]]
                counters = {**counters, "ranking": first if counters["best_step"] is not None else []}
            for name in _COUNTERS:
                setattr(self, name, counters[name])
            self.position = Position(**parts["position"])
            self.fitted = dict(parts["fitted"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ResumeError(f"checkpoint: does not fit this run: {error}") from None

    def _stateful(self) -> dict[str, Any]:
        """The parts that store themselves, by their names in a checkpoint."""
        parts = {"model": self.model, "precision": self.precision, "meter": self.meter}
        parts |= {"averager": self.weight_average, "stopper": self.stopper, "features": self.features}
        return {name: part for name, part in parts.items() if part is not None}

    def tensors(self) -> dict[str, Any]:
        """The live tensors that stored ones are read into; an optimizer's are divided as its weights are."""
        average = self.weight_average.state_dict() if self.weight_average is not None else {}
        trained = dict(enumerate(p for group in self.optimizer.param_groups for p in group["params"]))
        moments = {"state": {"state": trained}}
        return {"model": self.model.state_dict(), "averager": average, "optimizer": moments}

    def check(self, parts: Mapping[str, Any]) -> None:
        """What is wrong is found before anything is copied."""
        present = {path for part in parts if part != "contents" for path in _paths(parts[part], part)}
        if differing := present ^ set(parts.get("contents", ())):
            raise ResumeError(f"checkpoint: is not whole; see {', '.join(sorted(differing)[:4])}")
        if differing := set(self.state_dict()) ^ set(parts):
            raise ResumeError(f"checkpoint: parts differ from this run's: {', '.join(sorted(differing))}")
        if not isinstance(parts["data"], Mapping):
            raise ResumeError("checkpoint: is not whole; see data")
        require_same_data(parts["data"], self.data)
        ours, stored = self._parameters(), [tuple(entry) for entry in parts["optimizer"]["parameters"]]
        for mine, theirs in zip(ours, stored, strict=False):
            if mine != theirs:
                was, now = " ".join(theirs), " ".join(mine)
                raise ResumeError(f"checkpoint: the optimizer trained {was}, this run trains {now} there")
        if len(stored) != len(ours):
            raise ResumeError(f"checkpoint: {len(stored)} trained parameters, this run has {len(ours)}")
        for misfit in _misfits(self.state_dict(), parts):
            raise ResumeError(f"checkpoint: does not fit this run: {misfit}")

    def check_fitted(self, parts: Mapping[str, Any]) -> None:
        """Raises ResumeError where what the data fitted is not there, or of another kind than here."""
        fitted = parts.get("fitted")
        if not isinstance(fitted, Mapping) or {*fitted, *_LATER} != {*self.fitted, *_LATER}:
            raise ResumeError("checkpoint: is not whole; see fitted")
        for misfit in _misfits(self.fitted, fitted, "fitted"):
            raise ResumeError(f"checkpoint: does not fit this run: {misfit}")

    def _load_optimizer(self, stored: Mapping[str, Any]) -> None:
        """Load the optimizer's state; values that the configuration changed since keep their new ones.

        So do those that the stored run's schedule may have set: the present one may be another.
        """
        if "fused" in self.optimizer.defaults:
            self._fit_memory(stored["state"]["state"])
        self.optimizer.load_state_dict(stored["state"])
        scheduled = () if getattr(self.schedule, "sets_groups", False) else OF_GROUPS
        groups = zip(self.optimizer.param_groups, self._configured, stored["configured"], strict=True)
        for group, now, before in groups:
            configured = {k: v for k, v in now.items() if before.get(k) != v or k in scheduled}
            group.update(configured)

    def _fit_memory(self, memory: Mapping[int, dict[str, Any]]) -> None:
        """Raises ValueError where a moment has not its weight's shape, and lays it out as the weight lies.

        A fused kernel looks at neither, and would write beyond the end.
        """
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for index, of_one in memory.items():
            weight = parameters[index]
            for name, value in of_one.items():
                fits = isinstance(value, Tensor) and value.shape == (() if name == "step" else weight.shape)
                if value is not None and not fits:
                    raise ValueError(f"{name} of trained parameter {index} has another shape")
                if value is not None and name != "step" and value.stride() != weight.stride():
                    of_one[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)

    def _parameters(self) -> list[tuple[str, str, str]]:
        """(name, shape, dtype) of what is trained, in the optimizer's order; torch compares none of it."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        return [(names[id(p)], str(tuple(p.shape)), str(p.dtype)) for p in params]


def require_same_data(stored: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raises DataError naming both where the data at hand are not those of the stored run.

    Runs of before files had a fingerprint go on without.
    """
    left_out = set() if "files" in stored and "files" in current else {"files"}
    ours, theirs = ({key: data[key] for key in data.keys() - left_out} for data in (current, stored))
    if ours != theirs:
        text = f"the run has seen {_describe(stored)}; here are {_describe(current)}"
        raise DataError(f"data: {text}; bring the run's data back, or start a new run")


def _describe(data: Mapping[str, Any]) -> str:
    counts = data.get("sizes")
    facts = [f"{n} {split}" for split, n in counts.items() if n] if isinstance(counts, Mapping) else []
    facts.append(str(data.get("fingerprint") or "no fingerprint"))
    facts += [f"files {data['files']}"] if data.get("files") else []
    return f"{data.get('name')} ({', '.join(facts)})"


def _paths(tree: Any, path: str = "") -> Iterator[str]:
    """`part/key/...` of every leaf of nested containers, and of every empty one."""
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _paths(value, f"{path}/{key}" if path else str(key))
    elif isinstance(tree, list) and tree:
        for index, value in enumerate(tree):
            yield from _paths(value, f"{path}/{index}")
    else:
        yield path


def _misfits(ours: Any, stored: Any, path: str = "") -> Iterator[str]:
    """What is of another kind than here. None here may be anything; optimizers have a check of their own."""
    wrong = False
    if isinstance(ours, Mapping) and isinstance(stored, Mapping):
        for key in ours:
            is_unknown = key in _UNKNOWN and stored.get(key) is None
            if key in stored and key not in ("optimizer", "contents", "stream") and not is_unknown:
                yield from _misfits(ours[key], stored[key], f"{path}/{key}" if path else str(key))
    elif isinstance(ours, Tensor):
        wrong = not isinstance(stored, Tensor) or stored.shape != ours.shape
    elif isinstance(ours, int):
        wrong = not isinstance(stored, int) or ours >= 0 > stored
    elif isinstance(ours, float):
        wrong = not isinstance(stored, (int, float))
    else:
        wrong = isinstance(ours, Mapping)
    if wrong:
        yield f"{path} is {f'of shape {tuple(stored.shape)}' if isinstance(stored, Tensor) else stored}"


_LATER = ("target_notation",)  # fitted by tables since they know notations; without it numbers are plain
_UNKNOWN = ("best", "best_step", "stop_reason", "rolled_back_to")  # at first, and again after a rollback
_PARTS = {"model", "optimizer", "schedule", "precision", "weight_average", "stopper", "numbers", "freezing"}
_PARTS |= {"data", "fitted", "position", "meter", "features"}
_COUNTERS = tuple(field.name for field in fields(TrainState) if field.name not in _PARTS)
