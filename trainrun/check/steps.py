"""The run's own first steps: whether its learning rate brings the loss down, or throws it up."""

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

_STEPS, _LAST = 60, 10
_FACTORS = (0.1, 0.01, 0.001)
_THROWN = 2.0  # times the larger of the first loss and of that without inputs
_MOST_S = 6.0


@dataclass(frozen=True)
class TriedRate:
    """What became of the loss at `factor` times the run's learning rate."""

    factor: float
    first: float
    last: float  # the mean of the last ten steps
    steps: int


def first_steps(bench: CheckContext) -> CheckSection:
    """With all that the run trains with: schedule, augmentation, regularisation, clipping."""
    blind = blind_loss(bench.parts.task, bench.still, bench.batch)
    patience = Patience(_MOST_S, 20 * _MOST_S)
    own = course(bench, 1.0, patience)
    limit = _THROWN * max(own.first, blind)
    lr = bench.parts.rates.lr
    lines = [("as planned", _told(own, lr))]
    is_short = own.steps < _LAST and math.isfinite(own.last)
    if is_short or not own.last >= limit:  # nan: there was no loss to judge
        return CheckSection("first steps", tuple(lines), (), {"first": own.first, "last": own.last})
    others = [course(bench, factor, patience) for factor in _FACTORS]
    lines += [("at less", _told(one, lr)) for one in others]
    better = min((one for one in others if one.last < own.first), key=lambda one: one.last, default=None)
    written = setting(bench.parts.settings, "optimizer.lr")
    measured = f"in the first {own.steps} steps the loss goes from {own.first:.3g} to {own.last:.3g}"
    mend: tuple[str, ...] = ()
    if better is not None and isinstance(written, (int, float)):
        measured += f", at lr {lr * better.factor:g} to {better.last:.3g}"
        mend = (f"optimizer.lr={written * better.factor:g}",)
    advice = "" if mend else "none of the lower rates that were tried helps: look at the first weights"
    found = CheckResult("learning rate too high", measured, f"less than {limit:.3g}", mend, advice)
    return CheckSection("first steps", tuple(lines), (found,), {"first": own.first, "last": own.last})


def course(bench: CheckContext, factor: float, patience: Patience) -> TriedRate:
    """Up to sixty steps of a run made anew."""
    parts = bench.parts
    state = fresh_state(bench, bench.model, parts.settings["optimizer"], parts.rates.lr * factor)
    loop = parts.loop(Path(), "", None, Signals())
    losses: list[float] = []
    try:
        for window in _windows(bench):
            result = loop.step(state, window)
            losses.append(loss_in(result) if result.applied or state.precision.skips else math.inf)
            if len(losses) == min(_STEPS, state.total_steps) or losses[-1] == math.inf or patience.is_over:
                break
    finally:
        loop.checkpoints.close()
    known = [loss for loss in losses if not math.isnan(loss)] or [math.nan]
    return TriedRate(factor, known[0], fmean(known[-_LAST:]), len(losses))


def _windows(bench: CheckContext) -> Iterator[Window]:
    """Of the run's steps."""
    parts, window = bench.parts, list[Batch]()
    for batch in parts.data.train_batches(Position(), parts.batch_spec, parts.settings["seed"]):
        window.append(batch)
        if len(window) == parts.batch_spec.accumulate or batch.position.offset == 0:
            yield window
            window = []


def _told(one: TriedRate, lr: float) -> str:
    return f"lr {lr * one.factor:g}: loss {one.first:.3g}, after {one.steps} steps {one.last:.3g}"
