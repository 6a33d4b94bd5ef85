"""The one table: what it holds fits together, and what is tried is reckoned from the run."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from trainrun.doctor.curves import RecordedRun
from trainrun.doctor.diagnosis import DEFAULTS, _reckoned, diagnose, filled
from trainrun.doctor.symptoms import SYMPTOMS, Remedy

NAMES = [symptom.name for symptom in SYMPTOMS]
EMPTY = RecordedRun({}, {}, [], [], [], [])
USUAL = {"lr": 0.002, "width": 128.0, "grad_norm": 1.0, "budget": "20ep", "norm": "group"}
NAN = {"step": 3, "where": "the loss", "answer": "stop"}


def test_names_are_told_apart_and_what_is_explained_comes_later() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for place, symptom in enumerate(SYMPTOMS):
        assert set(symptom.explains) - {symptom.name} <= set(NAMES[place + 1 :]), symptom.name


def test_a_symptom_that_is_recognised_says_what_to_try() -> None:
    for symptom in SYMPTOMS:
        assert symptom.sign and symptom.cause and (symptom.remedies or symptom.name == "failed")
        for remedy in symptom.remedies:
            assert remedy.what and remedy.overrides
            assert not re.search(r"[{}]", "".join(filled(remedy, DEFAULTS).overrides))


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("optimizer.lr={lr/3}", {"lr": 2e-3}, "optimizer.lr=0.00067"),
        ("optimizer.lr={lr*10}", {"lr": 2e-6}, "optimizer.lr=2e-05"),
        ("budget={budget*2}", {"budget": "500step"}, "budget=1000step"),
        ("budget={budget*2}", {"budget": "1.5h"}, "budget=3h"),
        ("model.width={width*2}", {"width": 128}, "model.width=256"),
        ("model.norm={norm}", {"norm": "layer"}, "model.norm=layer"),
        ("precision=bf16", {}, "precision=bf16"),
    ],
)
def test_braces_are_reckoned(text: str, values: dict[str, Any], expected: str) -> None:
    assert filled(Remedy("", (text,)), _reckoned(**{**USUAL, **values})).overrides == (expected,)


def a_nan(**settings: Any) -> list[str]:
    (diagnosis,) = diagnose(replace(EMPTY, settings=settings, nonfinite=[NAN]))
    assert diagnosis.symptom.name == "NaN" and "step 3" in diagnosis.evidence
    return [override for remedy in diagnosis.remedies for override in remedy.overrides]


def test_what_is_tried_is_what_the_run_has_and_has_not_tried() -> None:
    whole = {
        "optimizer": {"lr": 0.3},
        "scheduler": {"warmup": "10%"},
        "loop": {"clip": {"norm": None}, "nonfinite": "rollback"},
    }
    assert a_nan(**whole) == ["optimizer.lr=0.03", "loop.clip.norm=1.0"]
    assert a_nan(optimizer={"_target_": "torch.optim.LBFGS"}, scheduler={}, loop={}) == []


def test_nothing_is_found_in_nothing() -> None:
    assert diagnose(EMPTY) == []
