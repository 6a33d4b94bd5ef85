"""The run's first steps: whether its learning rate lowers the loss, or the loss diverges."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from trainrun.check.clone_state import fresh_state
from trainrun.check.context import CheckContext, Patience, blind_loss, loss_in
from trainrun.check.finding import CheckResult, CheckSection, setting
from trainrun.protocols import Batch, Position, Window
from trainrun.runtime.signals import Signals

_STEPS, _LAST = 60, 10  # a rate that is too high shows within a few dozen steps; the mean of the last counts
_FACTORS = (0.1, 0.01, 0.001)
_THROWN = 2.0  # times the larger of the first loss and of that without inputs
_MOST_S = 6.0  # the whole check is to take seconds


@dataclass(frozen=True)
class TriedRate:
    """What became of the loss at `factor` times the run's learning rate."""

    factor: float
    first: float
    last: float  # the mean of the last ten steps
    steps: int


def first_steps(context: CheckContext) -> CheckSection:
    """With all that the run trains with: schedule, augmentation, regularisation, clipping."""
    blind = blind_loss(context.parts.task, context.still, context.batch)
    patience = Patience(_MOST_S, 20 * _MOST_S)
    planned = try_rate(context, 1.0, patience)
    limit = _THROWN * max(planned.first, blind)
    lr = context.parts.rates.lr
    lines = [("as planned", _describe(planned, lr))]
    is_short = planned.steps < _LAST and math.isfinite(planned.last)
    if is_short or not planned.last >= limit:  # nan: there was no loss to judge
        return CheckSection("first steps", tuple(lines), (), {"first": planned.first, "last": planned.last})
    others = [try_rate(context, factor, patience) for factor in _FACTORS]
    lines += [("at less", _describe(rate, lr)) for rate in others]
    better = min(
        (rate for rate in others if rate.last < planned.first), key=lambda rate: rate.last, default=None
    )
    written = setting(context.parts.settings, "optimizer.lr")
    measured = (
        f"in the first {planned.steps} steps the loss goes from {planned.first:.3g} to {planned.last:.3g}"
    )
    fix: tuple[str, ...] = ()
    if better is not None and isinstance(written, (int, float)):
        measured += f", at lr {lr * better.factor:g} to {better.last:.3g}"
        fix = (f"optimizer.lr={written * better.factor:g}",)
    advice = "" if fix else "none of the lower rates that were tried helps: look at the first weights"
    finding = CheckResult("learning rate too high", measured, f"less than {limit:.3g}", fix, advice)
    return CheckSection(
        "first steps", tuple(lines), (finding,), {"first": planned.first, "last": planned.last}
    )


def try_rate(context: CheckContext, factor: float, patience: Patience) -> TriedRate:
    """Up to sixty steps of a run made anew."""
    parts = context.parts
    state = fresh_state(context, context.model, parts.settings["optimizer"], parts.rates.lr * factor)
    loop = parts.loop(Path(), "", None, Signals())
    losses: list[float] = []
    try:
        for window in _windows(context):
            result = loop.step(state, window)
            losses.append(loss_in(result) if result.applied or state.precision.skips else math.inf)
            if len(losses) == min(_STEPS, state.total_steps) or losses[-1] == math.inf or patience.is_over:
                break
    finally:
        loop.checkpoints.close()
    numbers = [loss for loss in losses if not math.isnan(loss)] or [math.nan]
    return TriedRate(factor, numbers[0], fmean(numbers[-_LAST:]), len(losses))


def _windows(context: CheckContext) -> Iterator[Window]:
    """Of the run's steps."""
    parts, window = context.parts, list[Batch]()
    for batch in parts.data.train_batches(Position(), parts.batch_spec, parts.settings["seed"]):
        window.append(batch)
        if len(window) == parts.batch_spec.accumulate or batch.ends_epoch:
            yield window
            window = []


def _describe(rate: TriedRate, lr: float) -> str:
    return f"lr {lr * rate.factor:g}: loss {rate.first:.3g}, after {rate.steps} steps {rate.last:.3g}"
