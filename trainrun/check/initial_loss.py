"""The loss before training, beside what a model that knows nothing has."""

from __future__ import annotations

import math

import torch

from trainrun.check.context import CheckContext, blank_loss, loss_of
from trainrun.check.finding import CheckResult, CheckSection, option_of, setting

_TIMES, _MORE = 3.0, 2.0  # of what is expected, and on top of it: wide, because a small batch scatters


def start(context: CheckContext) -> CheckSection:
    """The loss at the first weights, of one batch, against that of outputs that are all 0."""
    parts = context.parts
    model = context.still
    context.seed(0)
    with torch.no_grad():
        loss = float(loss_of(parts.task, model, context.batch))
    expected = blank_loss(parts.task, model, context.batch)
    if math.isnan(expected):
        text = f"loss {loss:.4g}; compared with nothing: the task gets no tensors from the model's forward"
        return CheckSection("start", (("at start", text),), tuple(_targets_far_off(context)), {"loss": loss})
    word = _formula(context, expected)
    lines = [("at start", f"loss {loss:.4g}; outputs of 0 have {expected:.4g}{f' = {word}' if word else ''}")]
    findings = [*_targets_far_off(context)]
    if not findings and loss > _TIMES * expected + _MORE:
        fix = ("init=auto",) if option_of(parts.settings, "init") != "auto" else ("init=lsuv",)
        measured = f"the first loss is {loss:.4g}: the outputs are large before anything is learned"
        expectation = f"about {expected:.4g}{f' = {word}' if word else ''}"
        findings.append(CheckResult("loss at start", measured, expectation, fix))
    return CheckSection("start", tuple(lines), tuple(findings), {"loss": loss, "expected": expected})


def _formula(context: CheckContext, expected: float) -> str:
    info = context.parts.info
    count = info.num_targets
    for number in (count, 2):
        if number > 1 and math.isclose(expected, math.log(number), rel_tol=1e-3):
            return f"ln {number}"
    return (
        "the mean square of the targets"
        if info.kind == "values" and "mse" in option_of(context.parts.settings, "loss").lower()
        else ""
    )


def _targets_far_off(context: CheckContext) -> list[CheckResult]:
    """Regression targets in units of their own that are far from 0 or large."""
    scaling, settings = context.parts.info.target_scaling, context.parts.settings
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
