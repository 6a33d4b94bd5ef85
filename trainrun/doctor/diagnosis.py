"""Names what went wrong in a stored run, from its records alone, and what to try."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median

from trainrun.config.suggest import hydra_value
from trainrun.doctor.curves import RecordedRun
from trainrun.doctor.symptoms import SYMPTOMS, Remedy, Symptom

_LOADERS = "data.num_workers"  # which any data take that are not in memory, whether they name it or not
# What braces are reckoned from where no run says otherwise: the defaults.
_LR, _WIDTH, _GRAD_NORM, _BUDGET = 0.002, 128, 1.0, "20ep"


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
        if symptom.rule and symptom.name not in explained and (evidence := symptom.rule(run)):
            values = _values_of(run)
            remedies = (filled(remedy, values) for remedy in symptom.remedies)
            fitting = tuple(r for r in remedies if all(_is_new(override, run) for override in r.overrides))
            diagnoses.append(Diagnosis(symptom, evidence, fitting))
            explained |= set(symptom.explains)
    return diagnoses


def filled(remedy: Remedy, values: Mapping[str, str]) -> Remedy:
    """With what the braces stand for."""
    return replace(remedy, overrides=tuple(override.format_map(values) for override in remedy.overrides))


def _short(number: float) -> str:
    """Two digits, or a whole number as it is: 0.00067, 1.5, 256."""
    return f"{int(number)}" if number == int(number) else f"{float(f'{number:.2g}'):g}"


def _reckoned(lr: float, width: float, grad_norm: float, budget: str, norm: str) -> dict[str, str]:
    """What braces stand for."""
    amount = re.fullmatch(r"(\d*\.?\d+|\d+\.)([a-z%]+)", budget)
    twice = f"{_short(float(amount[1]) * 2)}{amount[2]}" if amount else budget
    numbers = {"lr/3": lr / 3, "lr/10": lr / 10, "lr*10": lr * 10}
    numbers |= {"width*2": width * 2, "grad_norm*3": grad_norm * 3}
    return {name: _short(number) for name, number in numbers.items()} | {"budget*2": twice, "norm": norm}


DEFAULTS: Mapping[str, str] = _reckoned(_LR, _WIDTH, _GRAD_NORM, _BUDGET, "group")


def _values_of(run: RecordedRun) -> dict[str, str]:
    """What braces stand for in this run; where it does not say, as in DEFAULTS."""
    lr, width, budget = run.number("optimizer.lr"), run.number("model.width"), run.setting("budget")
    has_pictures = any(kind in str(run.setting("model._target_")) for kind in ("cnn", "resnet"))
    return _reckoned(
        lr=_LR if lr is None else lr,
        width=_WIDTH if width is None else width,
        grad_norm=median(run.curve("train", "grad_norm").values or [_GRAD_NORM]),
        budget=budget if isinstance(budget, str) else _BUDGET,
        norm="group" if has_pictures else "layer",
    )


def _is_new(override: str, run: RecordedRun) -> bool:
    """Whether it sets what the run has, and changes something."""
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
