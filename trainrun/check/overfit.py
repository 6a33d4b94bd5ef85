"""Overfit ten samples: whether the optimizer can at its learning rate, or at which one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import torch
from torch import Tensor

from trainrun.check.clone_state import fresh_state
from trainrun.check.context import CheckContext, Patience, blind_loss, chosen, first_samples, loss_in, loss_of
from trainrun.check.finding import CheckResult, CheckSection, setting
from trainrun.checkpoint.state import TrainState
from trainrun.loop.step import Clip, Policy, Step
from trainrun.protocols import Batch

_SAMPLES, _POOL = 10, 64  # taken from a pool, so that several classes are among them
_STEPS = 150  # within which the healthy runs of tests/end_to_end/test_broken.py pass
_LEARNED, _LEARNS = 0.1, 0.5  # of the loss that is reached without the inputs
_LAST = 5  # steps whose mean loss counts
_MOST_S = 8.0  # for all attempts: the whole check is to take seconds
# Rates are tried a decade apart: finer steps would take longer than the check may.
_LOWER, _HIGHER = (0.1, 0.01, 0.001), (10.0, 100.0, 1000.0)
_FAR = (1e4, 1e5, 1e6)  # where the loss falls, and none of the higher rates was high enough


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


def overfit(context: CheckContext, retries: bool) -> CheckSection:
    """Overfit ten samples without regularisation, augmentation, decay and schedule.

    With `retries` also at other rates where the run's own fails, and with a verdict.
    """
    batch = pick_samples(context)
    if _draws(context, batch):
        text = "no verdict: model or task draw without dropout, so that no two passes are alike"
        return CheckSection("overfit", ((f"{len(batch)} samples", text),))
    blind = blind_loss(context.parts.task, context.still, batch)
    if math.isnan(blind):
        text = "no verdict: the task gets no tensors from the model's forward"
        return CheckSection("overfit", ((f"{len(batch)} samples", text),))
    if not blind > 1e-3:
        text = f"{len(batch)} samples have a loss of {blind:.2g} without their inputs: nothing to overfit"
        return CheckSection("overfit", (("samples", text),))
    patience = Patience(_MOST_S, 20 * _MOST_S)
    first = attempt(context, batch, 1.0, blind, patience)
    lr = context.parts.rates.lr
    limits = f"below {_LEARNED:.0%} of that they are overfitted, above {_LEARNS:.0%} hardly learned"
    lines = [(f"{len(batch)} samples", f"loss {blind:.4g} without looking at their inputs; {limits}")]
    others: list[Attempt] = []
    if retries and first.in_time and not first.learns:
        for factors in (_HIGHER, _FAR, _LOWER) if first.falls else (_LOWER, _HIGHER):
            others += [attempt(context, batch, factor, blind, patience) for factor in factors]
            if any(attempt.knows for attempt in others):
                break
    lines += [(f"lr {lr * attempt.factor:g}", describe(attempt)) for attempt in (first, *others)]
    findings = verdict(context, len(batch), blind, first, others) if retries else []
    values = {
        "loss_without_inputs": blind,
        "share": first.share,
        "accuracy": first.accuracy,
        "steps": first.steps,
    }
    return CheckSection("overfit", tuple(lines), tuple(findings), values)


def _draws(context: CheckContext, batch: Batch) -> bool:
    """Whether the loss depends on random draws even without dropout, as that of masked tokens does."""
    losses = []
    for count in (0, 1):
        model = context.still
        context.seed(count)
        with torch.no_grad():
            losses.append(float(loss_of(context.parts.task, model, batch)))
    return not math.isclose(*losses, rel_tol=1e-4)


def describe(attempt: Attempt) -> str:
    """`100% right, loss 4% of that, after 30 steps`."""
    accuracy = "" if attempt.accuracy is None else f"{attempt.accuracy:.0%} right, "
    loss = "loss not finite" if attempt.share == float("inf") else f"loss {attempt.share:.0%} of that"
    ended = "" if attempt.in_time else "; stopped there for time, no verdict"
    return f"{accuracy}{loss}, after {attempt.steps} steps{ended}"


def verdict(
    context: CheckContext, count: int, blind: float, first: Attempt, others: Sequence[Attempt]
) -> list[CheckResult]:
    """Nothing where the samples are learned, or half of the way; else what was to blame."""
    if first.learns or not first.in_time:
        return []
    lr = context.parts.rates.lr
    expected = f"about 100% right, loss below {_LEARNED:.0%} of {blind:.4g}, which needs no inputs"
    best = min(
        (attempt for attempt in others if attempt.knows), key=lambda attempt: attempt.steps, default=None
    )
    best = best or min(
        (attempt for attempt in others if attempt.learns), key=lambda attempt: attempt.share, default=None
    )
    if best is not None and best.factor in _HIGHER[:1]:
        return []  # it learns, but slowly
    if best is None and not all(attempt.in_time for attempt in others):
        return []
    if best is None:
        rates = sorted(lr * attempt.factor for attempt in (first, *others))
        span = f"{rates[0]:g} to {rates[-1]:g}"
        measured = f"{count} samples are not learned at any rate from {span}: {describe(first)}"
        advice = "the model cannot see what tells them apart, or its loss does not ask for it"
        return [CheckResult("cannot learn", measured, expected, (), advice)]
    name = "learning rate too high" if best.factor < 1 else "learning rate too low"
    written = setting(context.parts.settings, "optimizer.lr")
    fix = (f"optimizer.lr={written * best.factor:g}",) if isinstance(written, (int, float)) else ()
    measured = (
        f"{count} samples at lr {lr:g}: {describe(first)}; at lr {lr * best.factor:g}: {describe(best)}"
    )
    return [CheckResult(name, measured, expected, fix)]


def pick_samples(context: CheckContext) -> Batch:
    """Up to ten samples, of as many classes as there are."""
    pool = first_samples(context.data, _POOL, context.parts.settings["seed"])
    if not isinstance(pool.inputs, Tensor) or not isinstance(pool.targets, Tensor):
        return first_samples(context.data, _SAMPLES, context.parts.settings["seed"])
    rows = torch.arange(len(pool))
    if context.parts.info.kind == "classes":
        nth = [int((pool.targets[:row] == pool.targets[row]).sum()) for row in range(len(pool))]
        rows = torch.tensor(nth).argsort(stable=True)  # the first of every class, then the second
    return chosen(pool, rows[:_SAMPLES])


def attempt(context: CheckContext, batch: Batch, factor: float, blind: float, patience: Patience) -> Attempt:
    """Train a copy on nothing but `batch`, until it knows the samples or the steps are over."""
    state, step = _state(context, factor), _step(context)
    losses: list[float] = []
    accuracy: float | None = None
    context.seed(0)
    for done in range(1, _STEPS + 1):
        result = step(state, [batch])
        if not result.applied and not state.precision.skips:
            return Attempt(factor, float("inf"), None, done, True)
        losses.append(loss_in(result))
        metrics = context.parts.task.summarize(result.sums, result.num_samples) if result.sums else {}
        accuracy = metrics.get("accuracy")
        falls = sum(b < a for a, b in pairwise(losses)) >= 0.9 * (done - 1)
        now = Attempt(factor, fmean(losses[-_LAST:]) / blind, accuracy, done, True, falls)
        if now.knows:
            return now
        if patience.is_over:
            return Attempt(factor, now.share, accuracy, done, False)
    return now


def _state(context: CheckContext, factor: float) -> TrainState:
    """A model with its first weights, and the run's optimizer at a constant rate, without decay."""
    node = dict(context.parts.settings["optimizer"])
    node |= {"weight_decay": 0.0} if "weight_decay" in node else {}
    state = fresh_state(context, context.still, node, context.parts.rates.lr * factor)
    state.schedule = lambda update: (1.0, None)
    return state


def _step(context: CheckContext) -> Step:
    parts, node = context.parts, dict(context.parts.settings["loop"])
    clip: Clip = parts.make.at("loop.clip", node["clip"])
    offered = {"task": parts.task, "seed": parts.settings["seed"], "policy": Policy(clip, "skip", 1, 1.0)}
    offered |= {"info": parts.info, "accumulate": 1, "batch_changes": [], "penalties": {}}
    step: Step = parts.make.at("loop.step", node["step"], offered)
    return step
