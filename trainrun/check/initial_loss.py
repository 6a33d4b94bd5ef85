"""The loss before training, beside what a model that knows nothing has."""

from __future__ import annotations

import math

import torch

from trainrun.check.context import CheckContext, blank_loss, loss_of
from trainrun.check.finding import CheckResult, CheckSection, option_of, setting

_TIMES, _MORE = 3.0, 2.0  # of what is expected, and on top of it


def start(bench: CheckContext) -> CheckSection:
    """The loss at the first weights, of one batch, against that of outputs that are all 0."""
    parts = bench.parts
    model = bench.still
    bench.seed(0)
    with torch.no_grad():
        loss = float(loss_of(parts.task, model, bench.batch))
    expected = blank_loss(parts.task, model, bench.batch)
    if math.isnan(expected):
        text = f"loss {loss:.4g}; compared with nothing: the task gets no tensors from the model's forward"
        return CheckSection("start", (("at start", text),), tuple(_targets_far_off(bench)), {"loss": loss})
    word = _formula(bench, expected)
    lines = [("at start", f"loss {loss:.4g}; outputs of 0 have {expected:.4g}{f' = {word}' if word else ''}")]
    findings = [*_targets_far_off(bench)]
    if not findings and loss > _TIMES * expected + _MORE:
        mend = ("init=auto",) if option_of(parts.settings, "init") != "auto" else ("init=lsuv",)
        measured = f"the first loss is {loss:.4g}: the outputs are large before anything is learned"
        told = f"about {expected:.4g}{f' = {word}' if word else ''}"
        findings.append(CheckResult("loss at start", measured, told, mend))
    return CheckSection("start", tuple(lines), tuple(findings), {"loss": loss, "expected": expected})


def _formula(bench: CheckContext, expected: float) -> str:
    info = bench.parts.info
    count = info.num_targets
    for number in (count, 2):
        if number > 1 and math.isclose(expected, math.log(number), rel_tol=1e-3):
            return f"ln {number}"
    return "the mean square of the targets" if info.kind == "values" and "mse" in _loss_name(bench) else ""


def _loss_name(bench: CheckContext) -> str:
    return option_of(bench.parts.settings, "loss").lower()


def _targets_far_off(bench: CheckContext) -> list[CheckResult]:
    """Regression targets in units of their own that are far from 0 or large."""
    scaling, settings = bench.parts.info.target_scaling, bench.parts.settings
    if scaling is None or setting(settings, "task.standardize") is not False:
        return []
    mean, std = float(scaling.mean.abs().max()), float(scaling.std.max())
    if mean <= 10 and 0.05 <= std <= 10:
        return []
    measured = f"the model learns targets of mean {mean:.4g} and std {std:.4g} as they are"
    return [
        CheckResult(
            "targets not standardised", measured, "mean about 0, std about 1", ("task.standardize=true",)
        )
    ]
