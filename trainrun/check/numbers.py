"""The first loss, gradient and evaluation: whether they are finite, and what they would be by chance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from trainrun.assembly.factory import option_of
from trainrun.check.context import CheckContext, blank_loss, tensors_in, time_limit
from trainrun.check.finding import CheckSection
from trainrun.loop.evaluate import evaluate
from trainrun.loop.nonfinite import locate_nonfinite
from trainrun.protocols import Batch, Outcome

_LARGEST = torch.finfo(torch.float16).max
_TIMES, _MORE = 3.0, 2.0  # of what is expected, and on top of it: wide, because a small batch scatters
_MOST_S = 4.0  # of an evaluation: the whole check is to take seconds


def numbers(context: CheckContext) -> CheckSection:
    """The loss of one batch and the norm of its gradient, in 32 bits and as the run computes them."""
    name, dtype = context.parts.state.precision.name, context.parts.state.precision.dtype
    plain, where = _pass(context, None)
    section = CheckSection("numbers", [("fp32", _describe(plain))], values={"fp32": plain})
    if not all(map(math.isfinite, plain)):
        advice = "a division by 0, a logarithm or root of what is not positive, or inputs too large"
        measured = f"{where} is not finite in the first step"
        section.add("not finite", measured, "finite numbers", advice=f"look there: {advice}")
    elif dtype is not None:
        reduced, where = _pass(context, dtype)
        section.lines.append((name, _describe(reduced)))
        if not all(map(math.isfinite, reduced)):
            most, module = _largest(context)
            measured = f"in {name} {where} is not finite; in fp32 values reach {most:.3g}, in {module}"
            is_fp16 = name == "fp16"
            expected = f"less than {_LARGEST:,.0f}, the largest of fp16" if is_fp16 else "finite numbers"
            fix = "precision=bf16" if is_fp16 else "precision=fp32"
            section.add(f"{name} overflow", measured, expected, fix)
    return section


def _pass(context: CheckContext, dtype: torch.dtype | None) -> tuple[tuple[float, float], str]:
    """((loss, norm of its gradient), what first was not finite)."""
    model, task, device = context.still, context.parts.task, context.parts.runtime.device

    def forward(_: int, batch: Batch) -> Outcome:
        context.seed(0)
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            return task(model, batch)

    counts, terms = task.count(context.batch), forward(0, context.batch).terms
    loss = torch.stack([term / counts[name] for name, term in terms.items()]).sum()
    loss.backward()
    norm = float(nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
    values = float(loss.detach()), norm
    is_finite = all(map(math.isfinite, values))
    return values, "" if is_finite else locate_nonfinite(model, [context.batch], norm, forward).where


def _largest(context: CheckContext) -> tuple[float, str]:
    """The largest absolute value that a module gives in 32 bits, and the first module that reaches it."""
    values: list[tuple[float, str]] = [(0.0, "")]
    model = context.still
    names = {module: name for name, module in model.named_modules()}

    def look(module: nn.Module, _: Any, outputs: Any) -> None:
        if isinstance(outputs, torch.Tensor) and tensors_in(outputs):
            values.append((float(outputs.detach().abs().max()), names[module] or "the model"))

    for module in names:
        module.register_forward_hook(look)
    context.loss(model, context.batch)
    return max(values, key=lambda pair: pair[0])


def _describe(values: tuple[float, float]) -> str:
    return f"loss {values[0]:.4g}, norm of its gradient {values[1]:.3g}"


def start(context: CheckContext) -> CheckSection:
    """The loss at the first weights, of one batch, against that of outputs that are all 0."""
    model, section = context.still, CheckSection("start")
    loss = context.loss(model, context.batch)
    expected = blank_loss(context.parts.task, model, context.batch)
    section.values = {"loss": loss}
    _targets_far_off(section, context)
    if math.isnan(expected):
        nothing = "compared with nothing: the task gets no tensors from the model's forward"
        section.lines.append(("at start", f"loss {loss:.4g}; {nothing}"))
        return section
    section.values = {"loss": loss, "expected": expected}
    formula = f"{expected:.4g}{_formula(context, expected)}"
    section.lines.append(("at start", f"loss {loss:.4g}; outputs of 0 have {formula}"))
    if not section.findings and loss > _TIMES * expected + _MORE:
        fix = "init=auto" if option_of(context.parts.settings["init"]) != "auto" else "init=lsuv"
        measured = f"the first loss is {loss:.4g}: the outputs are large before anything is learned"
        section.add("loss at start", measured, f"about {formula}", fix)
    return section


def _formula(context: CheckContext, expected: float) -> str:
    """` = ln 10`, where the loss is known as that."""
    info = context.parts.info
    for number in (info.num_targets, 2):
        if number > 1 and math.isclose(expected, math.log(number), rel_tol=1e-3):
            return f" = ln {number}"
    is_square = info.kind == "values" and "mse" in option_of(context.parts.settings["loss"]).lower()
    return " = the mean square of the targets" if is_square else ""


def _targets_far_off(section: CheckSection, context: CheckContext) -> None:
    """Regression targets in units of their own that are far from 0 or large."""
    scaling = context.parts.info.target_scaling
    if scaling is None or context.setting("task.standardize") is not False:
        return
    mean, std = float(scaling.mean.abs().max()), float(scaling.std.max())
    if not (mean <= 10 and 0.05 <= std <= 10):
        measured = f"the model learns targets of mean {mean:.4g} and std {std:.4g} as they are"
        expected = "mean about 0, std about 1"
        section.add("targets not standardised", measured, expected, "task.standardize=true")


def evaluation(context: CheckContext) -> CheckSection:
    """The validation split, or as much of it as there is time for, with the first weights."""
    parts = context.parts
    split = next((name for name in ("val", "test") if parts.info.sizes.get(name, 0) != 0), None)
    if split is None:
        return CheckSection("evaluation", [("splits", "there is none to evaluate on")])
    count, is_whole, is_over = 0, True, time_limit(_MOST_S, 4)

    def in_time() -> Iterator[Batch]:
        nonlocal count, is_whole
        for batch in parts.data.eval_batches(split):
            if is_over() and count:
                is_whole = False
                return
            count += len(batch)
            yield batch

    metrics = evaluate(context.model, parts.task, in_time(), parts.state.precision)
    text = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    text += "" if is_whole else f" (of {count} samples)"
    section = CheckSection("evaluation", [(split, text)], values=metrics)
    if parts.monitor is None:
        return section
    name = parts.monitor.name
    section.lines.append(("monitor", str(parts.monitor)))
    if math.isfinite(metrics.get(name, math.nan)):
        return section
    got = metrics.get(name, "none")
    measured = f"the monitor val/{name} chooses the best weights; an evaluation gives {got} for it"
    finite = [f"val/{other}" for other, value in metrics.items() if math.isfinite(value)]
    if finite:
        section.add("monitor", measured, f"one of {', '.join(finite)}", f"monitor={finite[0]}")
    else:
        where = f"the inputs and targets of {split}, then at the model"
        advice = f"no metric is a finite number: look at {where}"
        section.add("monitor", measured, "a finite number", advice=advice)
    return section
