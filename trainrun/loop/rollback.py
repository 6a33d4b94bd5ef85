"""After a NaN gradient: stop, skip the step, or roll back to a checkpoint with a lower learning rate."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

from trainrun import ranks
from trainrun.checkpoint.fetch import load_state
from trainrun.checkpoint.state import TrainState
from trainrun.checkpoint.store import Checkpoints
from trainrun.loop.clock import Clock
from trainrun.loop.step import Policy
from trainrun.protocols import NonFiniteReport
from trainrun.vocabulary.errors import DataError, NonFiniteError, TrainrunError
from trainrun.vocabulary.events import CheckpointSaved, NotFinite, RolledBack, shown


def handle_nonfinite(
    state: TrainState, report: NonFiniteReport, policy: Policy, checkpoints: Checkpoints, clock: Clock
) -> Iterator[NotFinite | CheckpointSaved | RolledBack]:
    """Do what the policy says about a step whose gradient is not finite.

    Raises NonFiniteError where the run ends, DataError where it ends because of what the data hold.
    """
    step = state.step
    so_far = {"stop": math.inf, "skip": state.skipped_in_a_row - 1, "rollback": state.rollbacks}
    goes_on = so_far[policy.nonfinite] < policy.nonfinite_limit
    yield NotFinite(
        step=step,
        norm=report.norm,
        where=report.where,
        samples=report.samples,
        answer=policy.nonfinite if goes_on else "stop",
        replay=report.replay,
    )
    if not goes_on:
        raise _error(step, report, policy)
    if policy.nonfinite == "rollback":
        yield from checkpoints.wait()
        _roll_back(state, policy, checkpoints)
        clock.restart(state)
        yield RolledBack(step=step, to=state.step, lr_factor=state.lr_factor)


def _roll_back(state: TrainState, policy: Policy, checkpoints: Checkpoints) -> None:
    """Load the newest checkpoint, or an older one than the last rollback's; lower the learning rate.

    The planned `total_steps` stays.
    """
    if ranks.is_main_process() and state.rolled_back_to is not None:
        checkpoints.forget_for_older(state.rolled_back_to)
    state.optimizer.zero_grad()
    state.optimizer.state.clear()  # the stored moments would lie in memory beside those that they replace
    stored = (checkpoints.load_newest(warnings.warn) if ranks.is_main_process() else None) or {}
    stored.pop("metrics_bytes", None)  # the record tells of all that happened
    total, rollbacks, lr_factor = state.total_steps, state.rollbacks, state.lr_factor
    load_state(state, stored)
    state.total_steps, state.rolled_back_to = total, state.step
    state.rollbacks, state.lr_factor = rollbacks + 1, lr_factor * policy.rollback_lr


def _error(step: int, report: NonFiniteReport, policy: Policy) -> TrainrunError:
    if policy.nonfinite == "stop" and report.where in ("the inputs", "the targets"):
        text = f"{report.where} are not finite ({shown(report.samples)}), met at step {step}"
        return DataError(f"data: {text}; no weight was changed; fix them, or leave them out")
    text = f"the gradient's norm is {report.norm} at step {step}; "
    text += f"first not finite: {report.where} ({shown(report.samples)})"
    if policy.nonfinite != "stop":
        limit = "steps in a row were skipped" if policy.nonfinite == "skip" else "rollbacks did not help"
        text += f"; loop.nonfinite_limit: {policy.nonfinite_limit} {limit}"
    advice = "lower optimizer.lr, clip with loop.clip.norm=1, or set loop.nonfinite=rollback"
    return NonFiniteError(f"{text}; no weight was changed by it; {advice}")
