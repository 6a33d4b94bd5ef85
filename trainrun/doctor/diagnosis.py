"""Names what went wrong in a stored run, from its records alone, and what to try."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from trainrun.config.suggest import hydra_value
from trainrun.doctor.curves import RecordedRun
from trainrun.doctor.symptoms import SYMPTOMS, Remedy, Symptom

# What braces hold where no run says otherwise: the defaults.
DEFAULTS: Mapping[str, float | str] = {
    "lr": 0.002,
    "budget": "20ep",
    "width": 128,
    "grad_norm": 1.0,
    "norm": "group",
}
_LOADERS = "data.num_workers"  # which any data take that are not in memory, whether they name it or not
_BRACES = re.compile(r"\{(\w+)(?:([*/])(\d+))?\}")


@dataclass(frozen=True)
class Diagnosis:
    """A symptom that a run shows, the evidence in numbers, and the remedies that fit the run."""

    symptom: Symptom
    evidence: str
    remedies: tuple[Remedy, ...]


def diagnose(run: RecordedRun) -> list[Diagnosis]:
    """The symptoms that a run shows, the weightiest first, without those that another explains."""
    diagnoses: list[Diagnosis] = []
    explained: set[str] = set()
    for symptom in SYMPTOMS:
        if symptom.rule is None or symptom.name in explained:
            continue
        if evidence := symptom.rule(run):
            diagnoses.append(Diagnosis(symptom, evidence, _fitting(symptom, run)))
            explained |= set(symptom.explains)
    return diagnoses


def filled(remedy: Remedy, values: Mapping[str, float | str]) -> Remedy:
    """With what the braces stand for."""

    def value(match: re.Match[str]) -> str:
        current, sign, by = values[match[1]], match[2], match[3]
        if isinstance(current, str):
            number = re.fullmatch(r"([\d.]+)([a-z%]+)", current)
            return current if not sign or number is None else _short(float(number[1]) * int(by)) + number[2]
        if sign:
            current = current * int(by) if sign == "*" else current / int(by)
        return _short(current)

    return Remedy(
        remedy.what, tuple(_BRACES.sub(value, override) for override in remedy.overrides), remedy.needs
    )


def _fitting(symptom: Symptom, run: RecordedRun) -> tuple[Remedy, ...]:
    """Those that set what the run has, and that change something."""
    values = {**DEFAULTS, **_values(run)}
    candidates = (filled(remedy, values) for remedy in symptom.remedies)
    return tuple(
        remedy for remedy in candidates if all(_is_new(override, run) for override in remedy.overrides)
    )


def _is_new(override: str, run: RecordedRun) -> bool:
    key, _, value = override.partition("=")
    group, _, name = key.partition(".")
    node = run.setting(group)
    if not name:  # an option of a group, or a dial
        target = str(node.get("_target_", "")) if isinstance(node, Mapping) else ""
        return target.rpartition(".")[2].lower() != value and node != value
    if not isinstance(node, Mapping):
        return True
    if key == _LOADERS and run.in_memory:
        return False
    is_known = name.partition(".")[0] in node or key == _LOADERS
    return is_known and hydra_value(run.setting(key)) != value


def _values(run: RecordedRun) -> dict[str, float | str]:
    """What braces stand for in this run."""
    values: dict[str, float | str] = {}
    for name, path in (("lr", "optimizer.lr"), ("width", "model.width")):
        if (number := run.number(path)) is not None:
            values[name] = number
    if isinstance(budget := run.setting("budget"), str):
        values["budget"] = budget
    if norms := run.curve("train", "grad_norm").values:
        values["grad_norm"] = statistics.median(norms)
    if not any(kind in str(run.setting("model._target_")) for kind in ("cnn", "resnet")):
        values["norm"] = "layer"
    return values


def _short(number: float) -> str:
    """Two digits, or a whole number as it is: 0.00067, 1.5, 256."""
    return f"{int(number)}" if number == int(number) else f"{float(f'{number:.2g}'):g}"
