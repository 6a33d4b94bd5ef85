"""Check `scheduler.also`: which numbers of the run can follow a schedule, and in what form it is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainrun.config.diagnose import misfit_option
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
_EXAMPLE = "scheduler.also={optimizer.weight_decay: {to: 0.1, by: cosine}}"
_STATEFUL = ("plateau", "torch")
_WHOLE = "schedule_free_adamw"  # whose points lie apart by the first beta


def number_at(settings: Settings, key: str) -> Any:
    """The value at a dotted key, whose last part may number an entry of a list; None where there is none."""
    above, _, last = key.rpartition(".")
    inner = value_at(settings, above) if above else None
    if isinstance(inner, list):
        return inner[int(last)] if last.isdecimal() and int(last) < len(inner) else None
    return value_at(settings, key)


def course_of(how: Any) -> tuple[float, Any]:
    """(end value, schedule) of `cosine` or `{to: 0.1, by: cosine}`; the end is 0 where none is said."""
    if isinstance(how, Mapping) and {"to", "by"} & how.keys():
        return how.get("to", 0.0), how.get("by")
    return 0.0, how


def problems_of_also(s: Settings) -> Iterator[Problem]:
    """What cannot be scheduled, or has no effect."""
    for name, how in (s["scheduler"].get("also") or {}).items():
        wrong = _misfit_key(s, str(name)) or _misfit_course(number_at(s, str(name)), how)
        if wrong:
            yield Problem(f"scheduler.also.{name}", wrong)


def _misfit_key(s: Settings, key: str) -> str | None:
    """Why the number at `key` cannot be scheduled."""
    value, parts = number_at(s, key), key.split(".")
    if key == "optimizer.lr":
        return "is what the scheduler itself plans; choose it by scheduler=..."
    if not key.startswith(_READ) or (key.startswith("model.") and key != "model.dropout"):
        return f"is not read at each step; {_POSSIBLE}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        got = "there is none" if value is None else f"got {shown(value)}"
        return f"must name a number that is set, {got}; {_POSSIBLE}"
    if key == "optimizer.weight_decay" and not value:
        return "is 0, so that no parameter would decay; set optimizer.weight_decay to where it starts"
    if parts[:2] == ["optimizer", "betas"] and str(s["optimizer"]["_target_"]).endswith(_WHOLE):
        return "cannot change: schedule_free's points lie apart by it"
    if key in DROPOUT and s["runtime"].get("compile"):
        return "would be compiled anew at each step; use runtime.compile=false"
    return None


def _misfit_course(start: float, how: Any) -> str | None:
    """What is wrong with the way that a number is said to go."""
    to, by = course_of(how)
    if isinstance(how, Mapping) and {"to", "by"} & how.keys():
        if unknown := [key for key in how if key not in ("to", "by")]:
            return f"takes to and by, got {unknown[0]}; such as {_EXAMPLE}"
        if isinstance(to, bool) or not isinstance(to, (int, float)):
            return f"must end at a number, got to: {shown(to)}"
    if wrong := misfit_option("scheduler", by, "cosine or {polynomial: {power: 2}}"):
        return wrong
    option = next(iter(by)) if isinstance(by, Mapping) else by
    values = by.get(option) if isinstance(by, Mapping) and option != "_target_" else None
    if option in _STATEFUL:
        return f"cannot follow {option}, which keeps state of its own; such as {_EXAMPLE}"
    if not isinstance(values, (Mapping, type(None))):
        return f"must give {option} its values by name, got {shown(values)}"
    if ignored := [key for key in values or {} if key in ("min_lr", "also") or "momentum" in key]:
        return f"{ignored[0]} has no effect on a number; `to` says where it ends: {_EXAMPLE}"
    if option == "constant" and not values:
        return f"would stay at {start:g}: constant changes nothing"
    return f"would stay at {start:g}: it starts there" if to == start else None
