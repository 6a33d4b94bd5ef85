"""How each symptom is recognised: a run's curves in, the evidence in numbers out, or None.

The thresholds are set so that runs with the default settings pass; tests/benchmarks/doctor.py holds
them against 60 healthy runs and against broken ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from trainrun.doctor.curves import FEW, Curve, RecordedRun
from trainrun.run.history import step_of
from trainrun.terminal.numbers import number

POOR = {"accuracy": 0.6, "r2": 0.1}  # below, whatever the task, hardly anything was learned


def not_finite(run: RecordedRun) -> str | None:
    """A step's gradient was not finite, or a logged number was none."""
    if run.nonfinite:
        first, times = run.nonfinite[0], len(run.nonfinite)
        again = f", and {times - 1} more times" if times > 1 else ""
        where, answer = _word(first.get("where")), _word(first.get("answer"))
        return f"step {step_of(first)}{again}; first not finite: {where}; the run's answer: {answer}"
    bad = (r for r in (*run.train, *run.val) if r.get("nonfinite") and r.get("loss") is None)
    record = next(bad, None)
    return f"the loss is no number at step {step_of(record)}" if record else None


def failed(run: RecordedRun) -> str | None:
    """The run ended with an error."""
    code, reason = run.status.get("exit_code"), _word(run.status.get("reason"))
    return f"exit {code} at step {run.step}: {reason}" if run.status.get("state") == "failed" else None


def fp16_overflow(run: RecordedRun) -> str | None:
    """More than 1 step in 100, and more than a loss scale takes to settle, was skipped under fp16."""
    counts, steps = run.curve("train", "skipped").values, run.step
    skipped = int(counts[-1]) if counts else 0
    is_fp16 = "fp16" in str(run.setting("precision._target_"))
    if not is_fp16 or skipped < 15 or not 0.01 * steps <= skipped <= steps:
        return None
    return f"{skipped} of {steps} steps ({skipped / steps:.0%}) were skipped: their gradient overflowed"


def tiny_batch_norm(run: RecordedRun) -> str | None:
    """Batch norm takes its statistics from 3 samples or fewer."""
    batch, outcome = run.number("batch_size"), ""
    if run.setting("model.norm") != "batch" or batch is None or batch > 3:
        return None
    failure = _word(run.status.get("reason")) if run.status.get("state") == "failed" else ""
    train, val = run.curve("train", run.metric), run.curve("val", run.metric)
    if failure:
        outcome = f"; it failed: {failure}"
    elif train and val:
        outcome = f"; {run.metric} {number(train.last)} in training, {number(val.last)} in validation"
    return f"model.norm=batch sees {batch:g} sample{'s' if batch > 1 else ''} at a time{outcome}"


def dead_units(run: RecordedRun) -> str | None:
    """Most ReLU units gave 0 for every sample of the steps that were looked at."""
    dead = run.curve("train", "dead_units")
    if not dead or dead.last < (0.5 if is_poor(run) else 0.8):
        return None
    init = str(run.setting("init._target_")).rpartition(".")[2]
    also = f"; init={init} starts all units alike" if init in ("zeros", "constant") else ""
    return f"{dead.last:.0%} of the ReLU units give 0 for a whole batch{also}"


def vanishing(run: RecordedRun) -> str | None:
    """Many saturating layers without norm or residual connections, and hardly anything was learned."""
    depth, activation = run.number("model.depth"), run.setting("model.activation")
    bare = run.setting("model.norm") in (None, "none") and not run.setting("model.residual")
    if not (depth and depth >= 8 and bare and activation in ("sigmoid", "tanh") and is_poor(run)):
        return None
    loss = run.curve("train", "loss")
    moved = f"; the loss went from {number(loss.values[0])} to {number(loss.last)}" if loss else ""
    return f"{depth:g} {activation} layers without norm or residual connections{moved}"


def diverged(run: RecordedRun) -> str | None:
    """The training loss fell and then rose for good, or ends above where it began."""
    loss = run.curve("train", "loss").smooth
    if len(loss) < FEW:
        return None
    lowest = min(loss.values)
    low = loss.values.index(lowest)
    start, end, after = max(loss.values[: low + 1]), loss[low:].last, loss[low:]
    rose = end - lowest > max(0.5 * (start - lowest), 5 * loss.noise, 0.5 * abs(lowest), 0.02)
    if not rose or low > 0.9 * len(loss):
        return None
    middle = (lowest + end) / 2
    turn = next(step for step, value in zip(after.steps, after.values, strict=True) if value > middle)
    was = f"from {number(lowest)} at step {loss.steps[low]} to {number(end)}"
    return f"at step {turn}: the training loss rose {was}"


def lr_too_high(run: RecordedRun) -> str | None:
    """Hardly anything was learned, and the loss leapt or swings, or steps are as large as the weights."""
    loss, val = run.curve("train", "loss"), run.curve("val", "loss")
    if not loss or not is_poor(run) or run.metric == "loss" or lr_too_low(run):
        return None
    signs, curve = [], (val or loss).smooth
    late, worst = curve.last, max((*loss.values, *val.values))
    # A leap counts where the loss came back to where guessing is.
    is_back = len(curve) >= FEW and curve.values[len(curve) // 3] < 1.2 * late  # no slow descent
    if is_back and worst > 1.5 * late and is_guessing(run):
        signs.append(f"the loss leapt to {number(worst)} and stays at {number(late)}")
    if len(loss) >= FEW and loss.noise > 0.25 * loss.last and loss.last > 0.3 * max(loss.values):
        signs.append(f"the loss swings by {number(loss.noise)} around {number(loss.last)}")
    ratio = run.curve("train", "update_ratio").values
    if ratio and (usual := median(ratio[: len(ratio) // 2 + 1])) > 0.1:
        signs.append(f"a step changes the weights by {usual:.0%} of their size")
    return "; ".join([*signs, _reached(run)]) if signs else None


def lr_too_low(run: RecordedRun) -> str | None:
    """Steps are thousands of times smaller than the weights, and the loss has hardly moved."""
    loss, ratio = run.curve("train", "loss"), run.curve("train", "update_ratio", pick=max).values
    if len(loss) < FEW or not ratio or max(ratio) > 4e-4:
        return None  # a few logs may all lie where the schedule ends
    if run.setting("init_from") and not is_poor(run):
        return None  # weights that were good already are moved with care
    if loss.values[0] > 0 and 1 - loss.last / loss.values[0] > 0.5:
        return None
    moved = f"the loss went from {number(loss.values[0])} to {number(loss.last)}"
    size = f"at most {max(ratio):.1e} of their size, usual is about 1e-3"
    return f"a step changes the weights by {size}; {moved}"


def constant_loss(run: RecordedRun) -> str | None:
    """The loss moves by less than 3 % over the whole run, and hardly anything was learned."""
    loss, part = run.curve("train", "loss"), "training"
    if len(loss) < FEW:
        loss, part = run.curve("val", "loss"), "validation"
    if len(loss) < FEW or not is_poor(run):
        return None
    low, high = min(loss.smooth.values), max(loss.smooth.values)
    if high <= 0 or high - low > 0.03 * high:
        return None
    classes = round(math.exp(min(loss.last, 12.0)))
    near = 2 <= classes <= 1000 and abs(loss.last - math.log(classes)) < 0.015 * loss.last
    cost = f"; guessing among {classes} classes costs ln {classes} = {math.log(classes):.3f}" if near else ""
    return f"the {part} loss stays between {number(low)} and {number(high)}{cost}"


def val_at_chance(run: RecordedRun) -> str | None:
    """Training learns, and validation never does: its loss only rises, and its metric stays poor."""
    train, val = run.curve("train", "loss"), run.curve("val", "loss").smooth
    if len(train) < 1 or len(val) < FEW or not is_poor(run):
        return None
    start, end = val.values[0], val.last
    rises = end > 1.02 * min(val.values) and end > 0.98 * start
    if not rises or train.last >= 0.9 * max(train.values[0], start):
        return None
    rise = f"that of validation went from {number(start)} to {number(end)}"
    return f"the training loss fell to {number(train.last)} while {rise}; {_reached(run)}"


def overfitting(run: RecordedRun) -> str | None:
    """The validation loss rises while training improves; the metric falls, or stays far behind training."""
    val, metric, train = run.curve("val", "loss"), run.curve("val", run.metric), run.curve("train", "loss")
    if len(val) < 6 or run.metric == "loss":
        return None
    lowest, end = min(val.smooth.values), val.smooth.last
    lowest_at = val.values.index(min(val.values))
    improves = not train or train.last <= fmean(train.values)
    if not improves or end < 1.25 * lowest or lowest_at > 0.8 * len(val):
        return None
    best, ends, trained = max(metric.smooth.values), metric.last, run.curve("train", run.metric)
    if best - ends > max(0.04, 2 * metric.noise, 2 * _sampling_error(metric)):
        how = f"{run.metric} falls from {number(best)} to {number(ends)}"
    elif run.metric == "accuracy" and trained and trained.last - ends > 0.2:
        how = f"{run.metric} is {number(ends)}, in training {number(trained.last)}"
    else:
        return None
    step = val.steps[lowest_at]
    epoch = next((record.get("epoch") for record in run.val if record.get("step") == step), None)
    since = f"epoch {epoch:g}" if isinstance(epoch, (int, float)) else f"step {step}"
    return f"from {since}: the validation loss rises from {number(lowest)} to {number(end)} and {how}"


def oscillating(run: RecordedRun) -> str | None:
    """In the second half the training loss leaps by a third of its level and of what it fell."""
    loss = run.curve("train", "loss")
    if len(loss) < 8 or loss.noise < 0.33 * max(loss.last, loss.values[0] - loss.last):
        return None
    return f"in the second half the training loss leaps by {number(loss.noise)} around {number(loss.last)}"


def clipping_binds(run: RecordedRun) -> str | None:
    """Nearly every step is clipped, and to less than 40 %: the limit sets the length of steps."""
    clipped = run.curve("train", "clipped").values
    if run.number("loop.clip.norm") is None and run.number("loop.clip.value") is None:
        return None
    if len(clipped) < 2 or median(clipped) < 0.95:
        return None
    norms = (run.curve("train", key).values for key in ("grad_norm", "grad_norm_after"))
    before, after = (median(values or (0.0,)) for values in norms)
    if after > 0.4 * before:
        return None
    usual = f"usual norm {number(before)}, after clipping {number(after)}"
    return f"{median(clipped):.0%} of the steps are clipped; {usual}"


def plateau(run: RecordedRun) -> str | None:
    """The training loss stands still in the second half while the learning rate does not fall."""
    loss, rate = run.curve("train", "loss"), run.curve("train", "lr")
    if len(loss) < 8 or not rate or rate.last < 0.5 * max(rate.values):
        return None
    half, first = loss.smooth[len(loss) // 2 :], loss.values[0]
    middle = len(half) // 2
    before, after = fmean(half.values[:middle]), fmean(half.values[middle:])
    still = abs(before - after) < max(0.02 * before, half.noise)
    if not still or before < 0.2 * first or first < 1.05 * before:
        return None
    return f"the training loss stays at {number(after)} from step {half.steps[0]} on; lr {rate.last:.2g}"


def underfitting(run: RecordedRun) -> str | None:
    """Training and validation end equally poor, and the training loss has come to rest."""
    loss, val = run.curve("train", "loss"), run.curve("val", "loss")
    if len(loss) < FEW or len(val) < FEW or run.metric not in POOR or not is_poor(run):
        return None
    if loss.last < 0.5 * loss.values[0] or val.last > 1.3 * loss.last:
        return None
    ends = f"the loss ends at {number(loss.last)} in training and {number(val.last)} in validation"
    return f"{ends}; {_reached(run)}"


def starved(run: RecordedRun) -> str | None:
    """A third of the time of the steps, and more than some seconds, went into waiting for data."""
    waits, times = (run.curve("timing", key).values for key in ("data_wait", "time"))
    gaps = [later - earlier for earlier, later in pairwise(times)]  # some with a pause, or judging
    if not gaps or not waits:
        return None
    share = median(waits)
    if share < 0.3 or share * median(gaps) * len(gaps) < 5:
        return None
    return f"waiting for data takes {share:.0%} of the time of a step"


def noisy_validation(run: RecordedRun) -> str | None:
    """In the second half the validation metric leaps from one evaluation to the next."""
    metric = run.curve("val", run.metric)
    if len(metric) < 8 or run.metric == "loss" or metric.noise < 0.07 or is_poor(run):
        return None
    half = metric.values[len(metric) // 2 :]
    leap = f"in the second half {run.metric} leaps by {number(metric.noise)} from one evaluation to the next"
    return f"{leap}, between {number(min(half))} and {number(max(half))}"


def is_poor(run: RecordedRun) -> bool:
    """Whether hardly anything was learned, by the best that validation, else training, has shown."""
    if run.metric in POOR:
        return _best(run) < POOR[run.metric]
    loss = (run.curve("val", "loss") or run.curve("train", "loss")).values
    return bool(loss) and min(loss) > 0.9 * loss[0]


def is_guessing(run: RecordedRun) -> bool:
    """Whether validation ends where guessing is: at an accuracy of exp(-loss), not a multiple of it."""
    metric, loss = run.curve("val", run.metric), run.curve("val", "loss")
    if run.metric == "accuracy" and metric and loss:
        return metric.last < 1.7 * math.exp(-max(loss.last, -9.0))
    return is_poor(run)


def _sampling_error(metric: Curve) -> float:
    """Standard deviation of a share of so few samples as its steps betray: the smallest is one sample."""
    different = sorted(set(metric.values))
    smallest = min((b - a for a, b in pairwise(different) if b - a > 1e-6), default=0.0)
    share = min(max(metric.last, 0.0), 1.0)
    return math.sqrt(share * (1 - share) * min(smallest, 1.0))


def _best(run: RecordedRun) -> float:
    values = (run.curve("val", run.metric) or run.curve("train", run.metric)).smooth.values
    if not values:
        return math.nan
    return max(values) if run.higher_is_better else min(values)


def _reached(run: RecordedRun) -> str:
    return f"{run.metric} reached {number(_best(run))}"


def _word(value: Any) -> str:
    """Of a file that may come from anybody: one line that a terminal can be given."""
    text = "" if value is None or isinstance(value, Mapping) else str(value)
    return "".join(character if character.isprintable() else "?" for character in text)[:200]
