"""One size tried: its pace, what is held beside the steps, and what counts as a lack of memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainrun.assembly.build import Parts, build
from trainrun.config.compose.composer import Composer
from trainrun.tune import trial
from trainrun.tune.trial import StepTiming, survey, time_evaluation, together, train
from trainrun.vocabulary.errors import NonFiniteError

SMALL = ("data=iris", "model=mlp", "model.width=8", "model.depth=1")


def parts(*words: str) -> Parts:
    return build(Composer().checked([*SMALL, *words]).settings)


def test_a_survey_says_what_the_run_is() -> None:
    result = survey(parts("batch_size=8", "loop.accumulate=3"))
    assert (result.batch_size, result.window, result.samples_per_step) == (8, 24, 24)
    assert (result.device, result.on_gpu, result.has_batch_norm, result.is_full) == (
        "cpu",
        False,
        False,
        False,
    )
    assert result.split in ("val", "test") and result.split_size and result.eval_batch_size == 1024
    full = survey(parts("batch_size=full", "model.norm=batch", "optimizer.lr_scaling=sqrt"))
    assert full.is_full and full.has_batch_norm and full.scales_lr
    assert full.window == full.samples_per_step


def test_training_is_whole_steps_that_move_no_weight_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_LONG_S", 0.01)
    run = parts("batch_size=8", "loop.accumulate=3", "optimizer.lr=0.1")
    before = [p.detach().clone() for p in run.state.model.parameters()]
    result = train(run)
    assert result.samples_per_s > 0 and result.peak_bytes > 0 and result.reserved_bytes is None
    assert not result.lengths_differ
    state = run.state
    assert state.applied == state.step >= 3 and state.optimizer.state  # made, with all that it holds
    after = [p.detach() for p in run.state.model.parameters()]
    moved = [float((a - b).abs().max()) for a, b in zip(before, after, strict=True)]
    assert 0 < max(moved) <= 1.1 * 0.1 * 1e-3 * state.step  # adam: about lr a step


def test_judging_has_gradients_and_the_optimizers_state_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_LONG_S", 0.01)
    run = parts("data.eval_batch_size=4", "regularization=ema")
    result = time_evaluation(run, "val")
    assert result.samples_per_s > 0
    assert run.state.step == 1 and run.state.optimizer.state
    assert all(p.grad is not None for p in run.state.model.parameters())


def test_together_steps_judges_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_LONG_S", 0.01)
    happened: list[str] = []
    run = parts("batch_size=30")
    eval_batches = run.data.eval_batches

    def record(split: str, *more: Any) -> Any:
        happened.append(f"{split} at {run.state.step}")
        return eval_batches(split, *more)

    monkeypatch.setattr(run.data, "eval_batches", record)
    together(run, "val")
    step = int(happened[0].removeprefix("val at "))
    assert 2 <= step < run.state.step
    happened.clear()
    together(parts("batch_size=30"), "")
    assert not happened


def test_pace_is_the_median_of_whole_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(trial.time, "perf_counter", lambda: now[0])
    pace = StepTiming(torch.device("cpu"))
    pace.begin()
    for samples, seconds in ((8, 1.0), (8, 2.0), (3, 100.0), (8, 4.0)):
        now[0] += seconds
        pace.passed(samples)
    result = pace.measured(False)
    assert result.samples_per_s == 4.0  # of 8, 4 and 2 samples a second
    lower, upper = 2.0, 8.0  # quartiles of three: the outer ones
    assert result.noise == pytest.approx((upper - lower) / 4.0 / 3**0.5)
    assert pace.is_enough


def test_lbfgs_is_given_as_much_as_it_will_keep() -> None:
    run = parts("optimizer=lbfgs", "batch_size=full")
    count = sum(p.numel() for p in run.state.model.parameters())
    history = trial._history(run.state.optimizer)
    assert (
        history is not None
        and history.numel() == 2 * run.state.optimizer.param_groups[0]["history_size"] * count
    )
    assert trial._history(parts().state.optimizer) is None


def test_a_gradient_that_is_not_finite_is_an_error() -> None:
    run = parts()
    with torch.no_grad():
        next(iter(run.state.model.parameters())).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="trainrun check"):
        train(run)


def test_a_save_holds_a_copy_of_the_state_and_it_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_LONG_S", 0.01)
    run = parts("model.width=100", "batch_size=30")
    held: list[Any] = []
    saved = trial._saved
    monkeypatch.setattr(trial, "_saved", lambda state: held.append(saved(state)) or held[-1])
    train(run)
    (body, snapshot), weights = held[0], sum(p.nbytes for p in run.state.model.parameters())
    assert body.getbuffer().nbytes >= 3 * weights  # with two moments of adam for each weight
    assert sum(t.nbytes for t in snapshot._memory) >= 3 * weights
