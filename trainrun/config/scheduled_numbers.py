"""Check `scheduler.also`: which numbers of the run can follow a schedule, and in what form it is said."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from trainrun.config.check_call import Trust, check_call
from trainrun.config.diagnose import misfit_option
from trainrun.config.paths import groups
from trainrun.config.plain import read_option
from trainrun.config.suggest import shown
from trainrun.config.tree import value_at
from trainrun.vocabulary.errors import Problem

Settings = Mapping[str, Any]

OF_GROUPS = ("weight_decay", "momentum", "betas", "eps")  # of the optimizer, by group of parameters
DROPOUT = ("model.dropout", "regularization.dropout.p")
_READ = ("optimizer.", "regularization.", "loss.", "loop.clip.", *DROPOUT)
_POSSIBLE = (
    "read at each step are optimizer.weight_decay, momentum, betas.0, betas.1 and eps, "
    "model.dropout, loop.clip.*, and the numbers of loss.* and regularization.*"
)
_EXAMPLE = "'scheduler.also={optimizer.weight_decay: {to: 0.1, by: cosine}}'"
_STATEFUL = ("plateau", "torch")


def course_of(how: Any) -> tuple[float, Any]:
    """(end value, schedule) of `cosine` or `{to: 0.1, by: cosine}`; the end is 0 where none is said."""
    if isinstance(how, Mapping) and {"to", "by"} & how.keys():
        return how.get("to", 0.0), how.get("by")
    return 0.0, how


def problems_of_also(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """What cannot be scheduled, or has no effect."""
    for name, how in (s["scheduler"].get("also") or {}).items():
        path, start = f"scheduler.also.{name}", value_at(s, str(name))
        if wrong := _misfit_key(s, str(name)) or _misfit_course(start, how):
            yield Problem(path, wrong)
        elif isinstance(by := course_of(how)[1], Mapping) and "_target_" not in by:
            [(option, values)] = by.items()
            node = read_option(groups()["scheduler"][option], "scheduler")
            for problem in check_call({**node, **values}, f"{path}.by", Trust((), None)):
                yield Problem(problem.key, problem.text)


def _misfit_key(s: Settings, key: str) -> str | None:
    """Why the number at `key` cannot be scheduled."""
    value = value_at(s, key)
    if "." not in key:
        return f"must be a setting's whole key, such as {_EXAMPLE}"
    if key == "optimizer.lr":
        return "is what the scheduler itself plans; choose it by scheduler=..."
    if not key.startswith(_READ) or (key.startswith("model.") and key != "model.dropout"):
        return f"is not read at each step; {_POSSIBLE}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        got = "there is none" if value is None else f"got {shown(value)}"
        return f"must name a number that is set, {got}; {_POSSIBLE}"
    if key == "optimizer.weight_decay" and not value:
        return "is 0, so that no parameter would decay; set optimizer.weight_decay to where it starts"
    if key.startswith("optimizer.betas.") and s["optimizer"]["_target_"].endswith(".schedule_free_adamw"):
        return "cannot change: schedule_free's points lie apart by it"
    compiled = {"model": DROPOUT, "step": (*DROPOUT, "loss.")}.get(s["runtime"].get("compile"), ())
    if key.startswith(compiled):
        return "would be compiled anew at each step; use runtime.compile=off"
    return None


def _misfit_course(start: float, how: Any) -> str | None:
    """What is wrong with the way that a number is said to go."""
    to, by = course_of(how)
    if by is not how:
        if unknown := [key for key in how if key not in ("to", "by")]:
            return f"takes to and by, got {unknown[0]}; such as {_EXAMPLE}"
        if isinstance(to, bool) or not isinstance(to, (int, float)):
            return f"must end at a number, got to: {shown(to)}"
    if by is None:
        return f"needs a schedule, such as {_EXAMPLE}"
    wrong = misfit_option("scheduler", by, "cosine or {polynomial: {power: 2}}") or _misfit_schedule(by)
    return wrong or (f"would stay at {start:g}: it starts there" if to == start else None)


def _misfit_schedule(by: Any) -> str | None:
    """What is wrong with an option of `scheduler` as the way of a number."""
    option, values = next(iter(by.items())) if isinstance(by, Mapping) else (by, {})
    if option == "_target_":
        return None
    if option in _STATEFUL:
        return f"cannot follow {option}, which keeps state of its own; such as {_EXAMPLE}"
    if not isinstance(values, Mapping):
        return f"must give {option} its values by name, got {shown(values)}"
    if ignored := [key for key in values if key in ("min_lr", "also") or "momentum" in key]:
        return f"{ignored[0]} has no effect on a number; `to` says where it ends: {_EXAMPLE}"
    return "would stay as it is: constant changes nothing" if option == "constant" and not values else None
