"""One optimizer step: set learning rates, sum gradients over a window, clip (norm, value, AGC), update.

Fetch first, then weigh: what the losses average over is known before the first forward pass, so
a short last window is exact. Whether the gradient is finite is decided before the update; a step of
several passes (L-BFGS, SAM) is undone instead.
With several ranks each has its share of the window; what it averages over, gradients, terms and
sums are those of all, so that every rank makes the same update.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainrun import ranks
from trainrun.checkpoint.state import TrainState
from trainrun.loop.nonfinite import locate_nonfinite
from trainrun.loop.stand_in import stand_in
from trainrun.optimizer import needs_closure
from trainrun.protocols import Batch, DataInfo, Outcome, Parallel, StepResult, TaskProtocol, Window
from trainrun.regularization.kinds import BatchChange, Penalty
from trainrun.runtime import divided
from trainrun.runtime.machine import seed_forward, syncs_batch_norm
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Count, Positive, Rate
from trainrun.vocabulary.seeds import stream

_EXACT = 1 << 24  # whole numbers up to this are exact in float32, in which ranks sum
_Parts = dict[str, dict[str, Tensor]]  # the terms and the sums of a step, by name


class Clip:
    """Limits the gradient: by its norm, element by element, or unit by unit.

    `norm` is the largest L2 norm over all parameters (Pascanu et al., 2013), `value` the largest size
    of an element: torch's clip_grad_norm_ and clip_grad_value_. `agc` is the largest ratio of a unit's
    norm to that of its weights, which count as at least 0.001 (Brock et al., 2021).
    """

    def __init__(self, norm: Positive | None, value: Positive | None, agc: Positive | None) -> None:
        self.norm, self.value, self.agc = norm, value, agc

    def __bool__(self) -> bool:
        return (self.norm, self.value, self.agc) != (None, None, None)

    def __call__(self, gradients: list[Tensor], weights: list[Tensor], norm: float) -> float | Tensor:
        """Clip in place, given the gradient's norm; returns the norm afterwards."""
        if self.norm is not None and (factor := self.norm / (norm + 1e-6)) < 1:
            torch._foreach_mul_(gradients, factor)
            return norm * factor
        if self.value is not None:
            torch._foreach_clamp_min_(gradients, -self.value)
            torch._foreach_clamp_max_(gradients, self.value)
            return divided.whole(torch.nn.utils.get_total_norm(gradients))
        if self.agc is not None:
            for gradient, weight in zip(gradients, weights, strict=True):
                limit = self.agc * _unit_norms(weight).clamp_(min=1e-3)
                divided.local(gradient).mul_((limit / _unit_norms(gradient).clamp_(min=1e-6)).clamp_(max=1))
            return divided.whole(torch.nn.utils.get_total_norm(gradients))
        return norm


def _unit_norms(tensor: Tensor) -> Tensor:
    """(units, 1, ...): of each row of a matrix or kernel; of a vector the one of the whole."""
    if tensor.ndim < 2:
        return divided.whole(torch.linalg.vector_norm(tensor.detach(), keepdim=True))
    rows = divided.local(tensor.detach())  # of shards, too: they are divided by rows
    norms: Tensor = torch.linalg.vector_norm(rows, dim=tuple(range(1, tensor.ndim)), keepdim=True)
    return norms


@dataclass(frozen=True)
class Policy:
    """What is done to a gradient before it is applied, and to a step whose gradient is not finite.

    `nonfinite`: stop the run, skip the step, or roll back to the newest checkpoint with the learning
    rate multiplied by `rollback_lr`; at most `nonfinite_limit` steps in a row are skipped, and as many
    times a run is rolled back, before it stops. With fp16 the loss scaler skips steps by itself:
    neither the policy nor its limit applies.
    """

    clip: Clip
    nonfinite: Literal["stop", "skip", "rollback"]
    nonfinite_limit: Count
    rollback_lr: Rate


class Step:
    """(state, window) -> StepResult: gradients, clipping, update, average, counters."""

    def __init__(
        self,
        task: TaskProtocol,
        policy: Policy,
        batch_changes: Sequence[BatchChange],
        penalties: Mapping[str, Penalty],
        info: DataInfo,
        accumulate: int,
        seed: int,
        parallel: Parallel,
    ) -> None:
        self.task, self.policy, self.info, self.parallel = task, policy, info, parallel
        self.batch_changes, self.penalties = batch_changes, penalties
        self.accumulate, self.seed = accumulate, seed
        self.stands_in = False  # in a pass that is made because other ranks make it
        self._draws = torch.Generator()  # for the batch changes, reseeded before each
        self._names: list[tuple[str, str]] = []  # of the numbers that ranks sum, once they have agreed

    def __call__(self, state: TrainState, window: Window) -> StepResult:
        set_learning_rates(state)
        changed = [self.changed(batch, state.step, micro) for micro, batch in enumerate(window)]
        passes = WindowGradients(self, state, changed)
        update = _multi_pass_update if needs_closure(state.optimizer) else _single_pass_update
        result = update(state, passes)
        if not result.applied and not state.precision.skips:
            forward = None if passes.all_ranks_pass else passes.forward
            report = locate_nonfinite(state.model, changed, result.norm, forward)
            result = replace(result, finding=report)
        self.account(state, window, result)
        return result

    def count(self, step: int, micro: int) -> int:
        """Which micro-batch of the run is this rank's `micro`-th of a step.

        Ranks take them in turn, so that it draws what one rank would have drawn for it.
        """
        return (step * self.accumulate + micro) * ranks.size() + ranks.rank()

    def changed(self, batch: Batch, step: int, micro: int) -> Batch:
        """What the regularisers make of a step's `micro`-th micro-batch."""
        if self.batch_changes:  # an empty share, too: its sums have the same names
            self._draws.manual_seed(stream(self.seed ^ 0x5EED, self.count(step, micro)))
        for change in self.batch_changes:
            batch = change.change_batch(batch, self.info, self._draws)
        return batch

    def agreed(self, names: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """(part, name) of the numbers that a step sums over the ranks; `names` is empty of an empty share."""
        if not self._names:
            self._names = ranks.broadcast_object(names)
        if names and names != self._names:
            wanted, got = (", ".join(map("/".join, listed)) for listed in (self._names, names))
            text = f"gives {got} for one batch and {wanted} for another, which ranks cannot add up"
            raise ConfigError.of("task", text)
        return self._names

    def account(self, state: TrainState, window: Window, result: StepResult) -> None:
        """Count the step, and move the state on to the next window."""
        state.precision.record(result.applied)
        state.skipped_in_a_row = 0 if result.applied else state.skipped_in_a_row + 1
        if result.applied:
            state.applied += 1
            if state.weight_average is not None:
                state.weight_average.update(state.model)
        state.step += 1
        state.samples += result.num_samples
        state.position = window[-1].position


class WindowGradients:
    """Forward and backward over one window; may be repeated with the same random draws."""

    def __init__(self, step: Step, state: TrainState, window: Window) -> None:
        self.step, self.state, self.window = step, state, window
        self.parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
        self.all_ranks_pass = syncs_batch_norm(state.model)  # which takes a batch without samples
        if step.parallel.shards and not self.all_ranks_pass:
            self.all_ranks_pass = True
            self.window = [batch if len(batch) else stand_in(batch) for batch in window]
        num_samples = float(sum(len(batch) for batch in window))
        self._mine = counts = {"": num_samples, **total([*map(step.task.count, window)])}
        self._counts = self._expected(counts) if ranks.size() > 1 else counts
        self._counting: Callable[[], dict[str, float | Tensor]] | None = None
        if not self._counts:
            self._counting = ranks.start_total(counts)  # while the first forward pass runs

    @property
    def counts(self) -> dict[str, float | Tensor]:
        """What each term is averaged over, of all ranks; beside them "", the number of samples."""
        if not self._counts and self._counting is not None:
            self._counts = self._counting()
        return self._counts

    def _expected(self, counts: Mapping[str, float | Tensor]) -> dict[str, float | Tensor]:
        """The counts of all ranks where the order of the data tells them, else nothing.

        On CPUs, where a meeting costs as much as a small model's forward pass. That the data have kept
        their order is seen when the gradients are summed.
        """
        size, state = self.step.info.sizes["train"], self.state
        is_plain = counts.keys() == {"", "loss"} and isinstance(counts["loss"], float)
        is_plain = is_plain and getattr(self.step.task, "counts_samples", False)
        if size is None or not is_plain or state.precision.device.type != "cpu":
            return {}
        begins, ends = state.position, self.window[-1].position
        count = (ends.offset if ends.epoch == begins.epoch else size) - begins.offset
        return dict.fromkeys(("", "loss"), float(count)) if count <= _EXACT else {}

    def gradients(self) -> tuple[Tensor, StepResult]:
        """Fill every parameter's gradient, clipped where its norm is finite.

        Returns the loss, penalties included, and what the step comes to if this is its only pass.
        """
        state, parallel = self.state, self.step.parallel
        for parameter in self.parameters:
            parameter.grad = None
        state.set_modes()
        terms, sums, losses = [], [], []
        for micro, batch in enumerate(self.window):
            if not len(batch) and not self.all_ranks_pass:
                continue  # a rank without samples adds zeros
            is_last, self.step.stands_in = micro == len(self.window) - 1, not len(batch)
            with parallel.micro_batch(state.model, self.parameters, is_last, not len(batch)):
                outcome = self.forward(micro, batch)
                share = reduce(add, [term / self.counts[name] for name, term in outcome.terms.items()])
                state.precision.backward(share if len(batch) else 0 * share)
            if not len(batch):
                continue
            terms.append({name: term.detach() for name, term in outcome.terms.items()})
            sums.append(outcome.sums)
            losses.append(share.detach())
            del outcome, share  # and with them the outputs, before the next forward pass
        loss = reduce(add, losses) if losses else torch.zeros((), device=state.precision.device)
        loss, parts = self._over_ranks(loss, {"terms": total(terms), "sums": total(sums)})
        penalties: dict[str, Tensor] = {}
        for name, penalty in self.step.penalties.items():
            value = divided.whole(penalty.penalty(state.model))
            state.precision.backward(value)
            penalties[name] = value.detach()
            loss = loss + penalties[name]
        norm, norm_after = self._unscale_and_clip()
        applied = math.isfinite(norm)
        counts = dict(self.counts)
        num_samples = int(counts.pop(""))
        result = StepResult(num_samples, parts["terms"], counts, parts["sums"], norm, norm_after, applied)
        return loss, replace(result, penalties=penalties)

    def forward(self, micro: int, batch: Batch) -> Outcome:
        """Draws what this micro-batch of this step draws, whatever ran before."""
        seed_forward(self.step.seed, self.step.count(self.state.step, micro), self.state.precision.device)
        with self.state.precision.autocast():
            return self.step.task(self.state.model, batch)

    def _over_ranks(self, loss: Tensor, parts: _Parts) -> tuple[Tensor, _Parts]:
        """Sum gradients, the loss, and the numbers of `parts` over the ranks."""
        if ranks.size() == 1:
            return loss, parts
        names = self.step.agreed([(part, name) for part, numbers in parts.items() for name in numbers])
        numbers = [loss, *(parts[part].get(name, torch.zeros_like(loss)) for part, name in names)]
        if self._counting is None:
            loss, *sums = self._sum_with_count(numbers)
        else:
            loss, *sums = self.step.parallel.sum_gradients(self.parameters, numbers)
        summed: _Parts = {part: {} for part in parts}
        for (part, name), number in zip(names, sums, strict=True):
            summed[part][name] = number
        return loss, summed

    def _sum_with_count(self, numbers: list[Tensor]) -> list[Tensor]:
        """Sum the gradients, and with them the counts; the mean is mended if these were not as expected."""
        along = torch.tensor([self._mine[""], self._mine["loss"], *ranks.asked()])
        loss, *sums = self.step.parallel.sum_gradients(self.parameters, [*numbers, *along])
        num_samples, count, *asked = torch.stack(sums[-len(along) :]).tolist()
        ranks.agree(asked)
        factor = float(self.counts["loss"]) / count if count else math.nan
        self._counts = {"": num_samples, "loss": count}
        if factor != 1:
            torch._foreach_mul_([p.grad for p in self.parameters if p.grad is not None], factor)
            loss = loss * factor
        return [loss, *sums[: -len(along)]]

    def _unscale_and_clip(self) -> tuple[float, float | Tensor]:
        """Unscale and clip the gradients; returns the norm before and after.

        Reading the norm is the one read of the device in a pass.
        """
        weights = [p for p in self.parameters if p.grad is not None]
        gradients = [p.grad for p in weights if p.grad is not None]
        if not gradients:
            raise ConfigError.of("model", "no parameter gets a gradient from the loss")
        self.state.precision.unscale(gradients)
        norm = float(self.step.parallel.norm(gradients))
        return norm, self.step.policy.clip(gradients, weights, norm) if math.isfinite(norm) else norm


def _single_pass_update(state: TrainState, passes: WindowGradients) -> StepResult:
    """Make the usual step where the gradients are finite."""
    may_skip = state.precision.skips or passes.step.policy.nonfinite == "skip"
    before = _buffers(state.model) if may_skip else []
    _, result = passes.gradients()
    if result.applied:
        state.optimizer.step()
    elif before:
        _restore_buffers(state.model, before)  # an overflow would stay in running statistics for good
    return result


class _NotFiniteError(Exception):
    """An evaluation inside a multi-pass step gave a gradient that is not finite."""


def _multi_pass_update(state: TrainState, passes: WindowGradients) -> StepResult:
    """Make a step that evaluates its window several times (L-BFGS, SAM); undo it if any is not finite.

    Only the first evaluation updates running statistics and is what gets logged.
    """
    weights = [p.detach().clone() for p in passes.parameters]
    memory, before = copy.deepcopy(state.optimizer.state_dict()), _buffers(state.model)
    results: list[StepResult] = []
    statistics: list[Tensor] = []  # running ones, as the first evaluation left them

    def evaluate_window() -> Tensor:
        loss, result = passes.gradients()
        results.append(result)
        if not result.applied:
            raise _NotFiniteError
        if len(results) == 1:
            statistics.extend(_buffers(state.model))
        return loss

    with suppress(_NotFiniteError):
        state.optimizer.step(evaluate_window)  # type: ignore[arg-type]
    last = results[-1]
    is_finite = are_finite([*map(divided.local, passes.parameters)])
    if passes.step.parallel.shards:  # each rank has seen its own shards
        is_finite = not any(ranks.largest([not is_finite]))
    if last.applied and is_finite:
        _restore_buffers(state.model, statistics)
        return results[0]
    with torch.no_grad():
        torch._foreach_copy_([*map(divided.local, passes.parameters)], [*map(divided.local, weights)])
    state.optimizer.load_state_dict(memory)
    _restore_buffers(state.model, before)
    return replace(last, norm=math.nan if last.applied else last.norm, applied=False)


def are_finite(tensors: Sequence[Tensor]) -> bool:
    """By one read of the device: NaN is the largest of all sizes, too, and no finite one overflows."""
    filled = [tensor for tensor in tensors if tensor.numel()]
    return math.isfinite(float(torch.nn.utils.get_total_norm(filled, math.inf)))


def _buffers(model: nn.Module) -> list[Tensor]:
    return [buffer.detach().clone() for buffer in model.buffers()]


def _restore_buffers(model: nn.Module, values: list[Tensor]) -> None:
    for buffer, value in zip(model.buffers(), values, strict=True):
        buffer.copy_(value)


def set_learning_rates(state: TrainState) -> None:
    """Set each group's learning rate, momentum where the schedule has one, and what else is scheduled."""
    if state.numbers is not None:
        state.numbers.set(state.applied, state.total_steps)
    shared, by_module = state.schedule(state.applied), getattr(state.schedule, "modules", {})
    for group in state.optimizer.param_groups:
        own = by_module.get(group.get("module"))
        factor, momentum = own(state.applied) if own else shared
        group["lr"] = group["base_lr"] * factor * state.lr_factor
        if momentum is None:
            continue
        if "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
        elif "momentum" in group:
            group["momentum"] = momentum


def total(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up, key by key, the sum over micro-batches."""
    total: dict[str, Any] = dict(parts[0]) if parts else {}
    for part in parts[1:]:
        for name, value in part.items():
            total[name] = total[name] + value
    return total
