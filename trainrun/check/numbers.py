"""Whether the first forward and backward pass hold finite numbers, also in the run's own number format."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from trainrun.check.context import CheckContext, loss_of
from trainrun.check.finding import CheckResult, CheckSection
from trainrun.loop.nonfinite import locate_nonfinite
from trainrun.protocols import Batch, Outcome

_LARGEST = torch.finfo(torch.float16).max


def numbers(context: CheckContext) -> CheckSection:
    """The loss of one batch and the norm of its gradient, in 32 bits and as the run computes them."""
    name, dtype = context.parts.state.precision.name, context.parts.state.precision.dtype
    plain, where = _pass(context, None)
    lines, findings = [("fp32", _describe(plain))], []
    if not all(map(math.isfinite, plain)):
        measured = f"{where} is not finite in the first step"
        advice = (
            "look there: a division by 0, a logarithm or root of what is not positive, or inputs too large"
        )
        findings.append(CheckResult("not finite", measured, "finite numbers", (), advice))
    elif dtype is not None:
        reduced, where = _pass(context, dtype)
        lines.append((name, _describe(reduced)))
        if not all(map(math.isfinite, reduced)):
            most, module = _largest(context)
            measured = f"in {name} {where} is not finite; in fp32 values reach {most:.3g}, in {module}"
            expected = (
                f"less than {_LARGEST:,.0f}, the largest of fp16" if name == "fp16" else "finite numbers"
            )
            fix = "precision=bf16" if name == "fp16" else "precision=fp32"
            findings.append(CheckResult(f"{name} overflow", measured, expected, (fix,)))
    return CheckSection("numbers", tuple(lines), tuple(findings), {"fp32": plain})


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
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
    values = float(loss.detach()), norm
    if all(map(math.isfinite, values)):
        return values, ""
    return values, locate_nonfinite(model, [context.batch], norm, forward).where


def _largest(context: CheckContext) -> tuple[float, str]:
    """The largest absolute value that a module gives in 32 bits, and the first module that reaches it."""
    values: list[tuple[float, str]] = [(0.0, "")]

    def look(name: str) -> Any:
        def hook(_: nn.Module, __: Any, outputs: Any) -> None:
            if isinstance(outputs, Tensor) and outputs.is_floating_point() and outputs.numel():
                values.append((float(outputs.detach().abs().max()), name or "the model"))

        return hook

    model = context.still
    hooks = [module.register_forward_hook(look(name)) for name, module in model.named_modules()]
    context.seed(0)
    with torch.no_grad():
        loss_of(context.parts.task, model, context.batch)
    for hook in hooks:
        hook.remove()
    return max(values, key=lambda pair: pair[0])


def _describe(values: tuple[float, float]) -> str:
    return f"loss {values[0]:.4g}, norm of its gradient {values[1]:.3g}"
