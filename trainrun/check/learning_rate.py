"""Whether the optimizer learns at its rate, or at which: ten samples to overfit, the run's first steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from trainrun.check.context import CheckContext, blind_loss, first_samples, fresh_state, loss_in, time_limit
from trainrun.check.finding import CheckSection
from trainrun.loop.step import Policy, Step
from trainrun.protocols import Batch
from trainrun.runtime.signals import Signals

_SAMPLES, _POOL = 10, 64  # taken from a pool, so that several classes are among them
_STEPS = 150  # within which the healthy runs of tests/end_to_end/test_broken.py pass
_LEARNED, _LEARNS = 0.1, 0.5  # of the loss that is reached without the inputs
_LAST = 5  # steps whose mean loss counts
_OVERFIT_S, _FIRST_S = 8.0, 6.0  # for all attempts of each question: the whole check is to take seconds
# Rates are tried a decade apart: finer steps would take longer than the check may.
_LOWER, _HIGHER = (0.1, 0.01, 0.001), (10.0, 100.0, 1000.0)
_FAR = (1e4, 1e5, 1e6)  # where the loss falls, and none of the higher rates was high enough
# A rate that is too high shows within a few dozen first steps; the mean of the last counts.
_FIRST_STEPS, _FIRST_LAST = 60, 10
_THROWN = 2.0  # times the larger of the first loss and of that without inputs


@dataclass(frozen=True)
class Attempt:
    """What came of one learning rate, `factor` times the run's."""

    factor: float
    share: float  # of the loss that is reached without the inputs; inf where it is not finite
    accuracy: float | None
    steps: int
    in_time: bool
    falls: bool = False  # the loss, at nearly every step

    @property
    def knows(self) -> bool:
        return self.share <= _LEARNED and (self.accuracy is None or self.accuracy >= 0.99)

    @property
    def learns(self) -> bool:
        return self.share <= _LEARNS

    def __str__(self) -> str:
        """`100% right, loss 4% of that, after 30 steps`."""
        accuracy = "" if self.accuracy is None else f"{self.accuracy:.0%} right, "
        loss = "loss not finite" if self.share == math.inf else f"loss {self.share:.0%} of that"
        ended = "" if self.in_time else "; stopped there for time, no verdict"
        return f"{accuracy}{loss}, after {self.steps} steps{ended}"


def overfit(context: CheckContext, retries: bool) -> CheckSection:
    """Overfit ten samples without regularisation, augmentation, decay and schedule.

    With `retries` also at other rates where the run's own fails, and with a verdict.
    """
    batch = pick_samples(context)
    samples = f"{len(batch)} samples"
    if _draws(context, batch):
        text = "no verdict: model or task draw without dropout, so that no two passes are alike"
        return CheckSection("overfit", [(samples, text)])
    blind = blind_loss(context.parts.task, context.still, batch)
    if math.isnan(blind):
        text = "no verdict: the loss is not made of what the model's forward returns"
        return CheckSection("overfit", [(samples, text)])
    if not blind > 1e-3:
        text = f"{samples} have a loss of {blind:.2g} without their inputs: nothing to overfit"
        return CheckSection("overfit", [("samples", text)])
    is_over = time_limit(_OVERFIT_S, 20)
    first = attempt(context, batch, 1.0, blind, is_over)
    limits = f"below {_LEARNED:.0%} of that they are overfitted, above {_LEARNS:.0%} hardly learned"
    lines = [(samples, f"loss {blind:.4g} without looking at their inputs; {limits}")]
    others: list[Attempt] = []
    if retries and first.in_time and not first.learns:
        for factors in (_HIGHER, _FAR, _LOWER) if first.falls else (_LOWER, _HIGHER):
            others += [attempt(context, batch, factor, blind, is_over) for factor in factors]
            if any(attempt.knows for attempt in others):
                break
    lr = context.parts.rates.lr
    lines += [(f"lr {lr * attempt.factor:g}", str(attempt)) for attempt in (first, *others)]
    values = {"share": first.share, "accuracy": first.accuracy, "steps": first.steps}
    section = CheckSection("overfit", lines, values={"loss_without_inputs": blind} | values)
    if retries:
        conclude(section, context, samples, first, others)
    return section


def _draws(context: CheckContext, batch: Batch) -> bool:
    """Whether the loss depends on random draws even without dropout, as that of masked tokens does."""
    first, second = (context.loss(context.still, batch, count) for count in (0, 1))
    return not math.isclose(first, second, rel_tol=1e-4)


def conclude(
    section: CheckSection, context: CheckContext, samples: str, first: Attempt, others: Sequence[Attempt]
) -> None:
    """Add nothing where the samples are learned, or half of the way; else what was to blame."""
    if first.learns or not first.in_time:
        return
    lr = context.parts.rates.lr
    blind = section.values["loss_without_inputs"]
    expected = f"about 100% right, loss below {_LEARNED:.0%} of {blind:.4g}, which needs no inputs"
    quickest = min((a for a in others if a.knows), key=lambda a: a.steps, default=None)
    best = quickest or min((a for a in others if a.learns), key=lambda a: a.share, default=None)
    if best is not None and best.factor in _HIGHER[:1]:
        return  # it learns, but slowly
    if best is not None:
        name = "learning rate too high" if best.factor < 1 else "learning rate too low"
        measured = f"{samples} at lr {lr:g}: {first}; at lr {lr * best.factor:g}: {best}"
        section.add(name, measured, expected, *_changed_lr(context, best.factor))
    elif all(attempt.in_time for attempt in others):
        rates = sorted(lr * attempt.factor for attempt in (first, *others))
        measured = f"{samples} are not learned at any rate from {rates[0]:g} to {rates[-1]:g}: {first}"
        advice = "the model cannot see what tells them apart, or its loss does not ask for it"
        section.add("cannot learn", measured, expected, advice=advice)


def _changed_lr(context: CheckContext, factor: float) -> list[str]:
    """The override that multiplies the learning rate, where it was written as a number."""
    written = context.setting("optimizer.lr")
    return [f"optimizer.lr={written * factor:g}"] if isinstance(written, (int, float)) else []


def pick_samples(context: CheckContext) -> Batch:
    """Up to ten samples, of as many classes as there are."""
    pool = first_samples(context.parts, _POOL)
    if not isinstance(pool.inputs, Tensor) or not isinstance(pool.targets, Tensor):
        return first_samples(context.parts, _SAMPLES)
    rows = torch.arange(len(pool))
    if context.parts.info.kind == "classes":
        nth = [int((pool.targets[:row] == pool.targets[row]).sum()) for row in range(len(pool))]
        rows = torch.tensor(nth).argsort(stable=True)  # the first of every class, then the second
    rows = rows[:_SAMPLES].to(pool.targets.device)
    indices = torch.as_tensor(pool.indices).to(rows.device)[rows]
    return replace(pool, inputs=pool.inputs[rows], targets=pool.targets[rows], indices=indices, weights=None)


def attempt(
    context: CheckContext, batch: Batch, factor: float, blind: float, is_over: Callable[[], bool]
) -> Attempt:
    """Train a copy on nothing but `batch`, until it knows the samples or the steps are over.

    With its first weights, and the run's optimizer at a constant rate, without decay.
    """
    parts = context.parts
    optimizer = dict(parts.settings["optimizer"])
    optimizer |= {"weight_decay": 0.0} if "weight_decay" in optimizer else {}
    state = fresh_state(context, context.still, optimizer, parts.rates.lr * factor)
    state.schedule = lambda update: (1.0, None)
    policy = Policy(parts.clip, "skip", 1, 1.0)
    offered = {"task": parts.task, "seed": parts.settings["seed"], "policy": policy, "info": parts.info}
    offered |= {"accumulate": 1, "batch_changes": [], "penalties": {}, "parallel": parts.parallel}
    step: Step = parts.make.at("loop.step", parts.settings["loop"]["step"], offered)
    losses: list[float] = []
    context.seed(0)
    for done in range(1, _STEPS + 1):
        result = step(state, [batch])
        if not result.applied and not state.precision.skips:
            return Attempt(factor, math.inf, None, done, True)
        losses.append(loss_in(result))
        metrics = context.parts.task.summarize(result.sums, result.num_samples) if result.sums else {}
        share, accuracy = fmean(losses[-_LAST:]) / blind, metrics.get("accuracy")
        falls = sum(b < a for a, b in pairwise(losses)) >= 0.9 * (done - 1)
        now = Attempt(factor, share, accuracy, done, True, falls)
        if now.knows:
            break
        if is_over():
            return Attempt(factor, share, accuracy, done, False)
    return now


@dataclass(frozen=True)
class TriedRate:
    """What became of the loss at `factor` times the run's learning rate."""

    factor: float
    first: float
    last: float  # the mean of the last ten steps
    steps: int


def first_steps(context: CheckContext) -> CheckSection:
    """The loss with all that the run trains with: schedule, augmentation, regularisation, clipping."""
    blind = blind_loss(context.parts.task, context.still, context.batch)
    is_over = time_limit(_FIRST_S, 20)
    planned = try_rate(context, 1.0, is_over)
    limit, lr = _THROWN * max(planned.first, blind), context.parts.rates.lr
    section = CheckSection("first steps", [("as planned", _describe(planned, lr))])
    section.values = {"first": planned.first, "last": planned.last}
    is_short = planned.steps < _FIRST_LAST and math.isfinite(planned.last)
    if is_short or not planned.last >= limit:  # nan: there was no loss to judge
        return section
    others = [try_rate(context, factor, is_over) for factor in _LOWER]
    section.lines += [("at less", _describe(rate, lr)) for rate in others]
    lower = [rate for rate in others if rate.last < planned.first]
    way = f"from {planned.first:.3g} to {planned.last:.3g}"
    measured = f"in the first {planned.steps} steps the loss goes {way}"
    fix, advice = list[str](), "none of the lower rates that were tried helps: look at the first weights"
    if lower:
        best = min(lower, key=lambda rate: rate.last)
        fix = _changed_lr(context, best.factor)
    if fix:
        measured, advice = f"{measured}, at lr {lr * best.factor:g} to {best.last:.3g}", ""
    section.add("learning rate too high", measured, f"less than {limit:.3g}", *fix, advice=advice)
    return section


def try_rate(context: CheckContext, factor: float, is_over: Callable[[], bool]) -> TriedRate:
    """Up to sixty steps of a run made anew."""
    parts = context.parts
    state = fresh_state(context, context.model, parts.settings["optimizer"], parts.rates.lr * factor)
    loop = parts.loop(Path(), "", None, Signals())
    losses: list[float] = []
    try:
        for window in loop.windows(state):
            result = loop.step(state, window)
            losses.append(loss_in(result) if result.applied or state.precision.skips else math.inf)
            is_last = len(losses) == min(_FIRST_STEPS, state.total_steps)
            if is_last or losses[-1] == math.inf or is_over():
                break
    finally:
        loop.checkpoints.close()
    numbers = [loss for loss in losses if not math.isnan(loss)] or [math.nan]
    return TriedRate(factor, numbers[0], fmean(numbers[-_FIRST_LAST:]), len(losses))


def _describe(rate: TriedRate, lr: float) -> str:
    return f"lr {lr * rate.factor:g}: loss {rate.first:.3g}, after {rate.steps} steps {rate.last:.3g}"
