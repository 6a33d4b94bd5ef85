"""The order of things, the cadences, and what ends a run."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toy import ACCURACY, FEATURES, Toy, ToyData, ToyTask, mlp, same_bits, scripted

from trainrun.checkpoint.store import Checkpoints
from trainrun.loop.step import Clip, Step
from trainrun.precision import ScaledPrecision
from trainrun.protocols import StepResult
from trainrun.regularization.penalty import L2
from trainrun.scheduler import cosine
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.events import (
    CheckpointSaved,
    Evaluated,
    Finished,
    Interrupted,
    Progressed,
    Sampled,
    StepsLogged,
)

pytestmark = pytest.mark.usefixtures("quick_disk")


def order_of(trained: Any) -> list[tuple[int, str]]:
    names = {
        StepsLogged: "log",
        Evaluated: "eval",
        CheckpointSaved: "save",
        Finished: "end",
        Interrupted: "stop",
    }
    return [(e.step, names[type(e)]) for e in trained.events if not isinstance(e, Progressed)]


@pytest.fixture
def prompt_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A save is told at the step that began it."""
    monkeypatch.setattr(Checkpoints, "finished", Checkpoints.wait)


@pytest.mark.usefixtures("prompt_saves")
def test_events_come_in_one_order_at_their_cadence(tmp_path: Path) -> None:
    toy = Toy(tmp_path / "run", task=scripted(0.5, 0.4, 0.6, 0.1), log_every=2, eval_every=4, save_every=6)
    trained = toy.but(state={"total_steps": 13}).train()
    assert order_of(trained) == [
        *[(2, "log"), (4, "log"), (4, "eval"), (4, "save")],  # the first metric is the best so far
        *[(6, "log"), (6, "save"), (8, "log"), (8, "eval"), (10, "log")],
        *[(12, "log"), (12, "eval"), (12, "save")],  # better, and due anyway: one save
        *[(13, "log"), (13, "eval"), (13, "save")],  # the last step does everything
        *[(12, "eval"), (13, "end")],  # the test split, with the weights of step 12
    ]
    assert [event.split for event in trained.of(Evaluated)] == ["val"] * 4 + ["test"]


@pytest.mark.usefixtures("prompt_saves")
@pytest.mark.parametrize("total", [1, 12])
def test_nothing_happens_twice_where_cadences_meet_the_end(tmp_path: Path, total: int) -> None:
    toy = Toy(tmp_path / "run", state={"total_steps": total}, log_every=1, eval_every=total, save_every=1)
    assert order_of(toy.train())[-5:] == [
        *[(total, "log"), (total, "eval"), (total, "save")],
        *[(total, "eval"), (total, "end")],  # the test split
    ]


def test_the_loss_that_is_logged_is_the_mean_over_samples(tmp_path: Path) -> None:
    losses: list[tuple[int, float]] = []

    class Spy(ToyTask):
        def __call__(self, model: Any, batch: Any) -> Any:
            outcome = super().__call__(model, batch)
            if model.training:
                losses.append((len(batch), outcome.terms["loss"].item()))
            return outcome

    trained = Toy(tmp_path / "run", task=Spy, log_every=4, state={"total_steps": 8}).train()
    per_epoch = 3 * 3 + 2  # micro-batches of an epoch; a log window here is an epoch
    for log, part in zip(trained.of(StepsLogged), (losses[:per_epoch], losses[per_epoch:]), strict=True):
        assert sum(size for size, _ in part) == 41
        assert log.loss == pytest.approx(sum(loss for _, loss in part) / 41, rel=1e-6)
    assert [log.epoch for log in trained.of(StepsLogged)] == [1.0, 2.0]


def test_the_norm_and_the_share_of_clipped_steps_are_logged(tmp_path: Path) -> None:
    plain = Toy(tmp_path / "plain", log_every=1).train().of(StepsLogged)
    assert all(log.clipped is None and log.grad_norm_after is None for log in plain)
    clipped = (
        Toy(tmp_path / "clipped", step={"clip": Clip(0.5, None, None)}, log_every=1).train().of(StepsLogged)
    )
    whole = (
        Toy(tmp_path / "whole", step={"clip": Clip(0.5, None, None)}, log_every=16).train().of(StepsLogged)[0]
    )
    for log in clipped:
        assert log.clipped == float(log.grad_norm > 0.5)
        assert log.grad_norm_after == pytest.approx(min(log.grad_norm, 0.5), rel=1e-5)
    assert 0 < whole.clipped < 1
    for name in ("grad_norm", "grad_norm_after", "clipped"):
        assert getattr(whole, name) == pytest.approx(sum(getattr(log, name) for log in clipped) / 16)


def test_the_penalty_is_logged_beside_the_loss_not_in_it(tmp_path: Path) -> None:
    once = Toy(tmp_path / "plain", log_every=1, state={"total_steps": 1})
    plain = once.train().of(StepsLogged)[0]
    log = once.but(folder=tmp_path / "l2", step={"penalties": {"l2": L2(0.01)}}).train().of(StepsLogged)[0]
    squares = sum((p**2).sum().item() for p in mlp().parameters() if p.ndim > 1)
    assert log.metrics["penalty"] == pytest.approx(0.01 * squares, rel=1e-5)
    share = log.metrics["penalty"] / (log.metrics["penalty"] + log.loss)
    assert log.metrics["penalty_share"] == pytest.approx(share)
    assert 0 <= log.metrics["near_zero"] < 0.05
    assert log.loss == plain.loss
    assert "penalty" not in plain.metrics


def test_a_penalty_beside_a_negative_loss_has_a_share_too(tmp_path: Path) -> None:
    class Lower(ToyTask):
        """A loss lower by 3 a sample, as a likelihood's may be."""

        def __call__(self, model: Any, batch: Any) -> Any:
            outcome = super().__call__(model, batch)
            return replace(outcome, terms={"loss": outcome.terms["loss"] - 3 * len(batch)})

    toy = Toy(tmp_path / "run", task=Lower, step={"penalties": {"l2": L2(0.01)}}, log_every=1)
    log = toy.but(state={"total_steps": 1}).train().of(StepsLogged)[0]
    assert log.loss < 0
    penalty = log.metrics["penalty"]
    assert log.metrics["penalty_share"] == pytest.approx(penalty / (penalty - log.loss))


# What training does not notice


def test_evaluating_and_logging_do_not_change_training(tmp_path: Path) -> None:
    runs = []
    for number, (log_every, eval_every, save_every, monitor) in enumerate(
        [(1, 1, 1, ACCURACY), (7, 5, 3, ACCURACY), (100, 100, 100, None)]
    ):
        toy = Toy(
            tmp_path / str(number),
            model=lambda: mlp(dropout=0.3, batch_norm=True),
            batch_size=3,  # no micro-batch of one: batch norm cannot take it
            accumulate=4,
            log_every=log_every,
            eval_every=eval_every,
            save_every=save_every,
            monitor=monitor,
        )
        runs.append(toy.train())
    assert same_bits(runs[1].weights, runs[0].weights)
    assert same_bits(runs[2].weights, runs[0].weights)
    assert runs[2].of(Evaluated)[0].split == "test"


def test_the_same_seed_repeats_and_another_differs(tmp_path: Path) -> None:
    first, second, other = (
        Toy(tmp_path / str(n), seed=seed, model=lambda: mlp(dropout=0.3)).train()
        for n, seed in enumerate((1, 1, 2))
    )
    assert first.metrics == second.metrics
    assert same_bits(first.weights, second.weights)
    assert other.metrics != first.metrics


# How a run ends


def test_the_schedule_spans_exactly_the_run(tmp_path: Path) -> None:
    asked = []
    schedule = cosine(total_steps=16, base_lr=0.05, warmup=0, warmup_start=0.0, min_lr=0.0)

    def spy(update: int) -> Any:
        asked.append(update)
        return schedule(update)

    trained = Toy(tmp_path / "run", state={"schedule": lambda: spy, "total_steps": 16}, log_every=1).train()
    rates = [log.lr["all"] for log in trained.of(StepsLogged)]
    expected = [0.05 * (1 + math.cos(math.pi * n / 16)) / 2 for n in range(16)]
    assert asked == list(range(16))
    assert rates == pytest.approx(expected, abs=1e-15)
    assert schedule(16)[0] == pytest.approx(0, abs=1e-15)


def test_the_test_split_is_read_once_and_only_after_training(tmp_path: Path) -> None:
    trained = Toy(tmp_path / "run").train()
    assert trained.data.asked == ["val"] * 4 + ["test"]
    again = Toy(tmp_path / "run").train()  # complete already: only the judgement is repeated
    assert again.data.asked == ["test"]
    assert order_of(again) == order_of(trained)[-2:]


def test_no_test_split_is_never_asked_for(tmp_path: Path) -> None:
    trained = Toy(tmp_path / "run", data=lambda: ToyData(test=0)).train()
    assert "test" not in trained.data.asked
    assert isinstance(trained.events[-1], Finished)


def test_a_signal_finishes_the_step_saves_and_says_so(tmp_path: Path) -> None:
    trained = Toy(tmp_path / "run").train(signal_at=7)
    assert order_of(trained)[-2:] == [(7, "save"), (7, "stop")]
    assert trained.events[-1].signal == "SIGTERM"
    assert trained.state.step == 7
    assert "test" not in trained.data.asked


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (3.0, "must return a StepResult, got float"),
        (None, "must return a StepResult, got NoneType"),
        (StepResult(1, {}, {}, {}, 0.0, 0.0, True), r"has not counted its window; call self\.account"),
    ],
)
def test_a_step_of_the_users_own_that_forgets_its_part_is_told(
    result: Any, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a count the loop would never end."""
    monkeypatch.setattr(Step, "__call__", lambda self, state, window: result)
    with pytest.raises(ConfigError, match=rf"loop\.step: .*{text}"):
        Toy(tmp_path / "run").train()


def test_skipped_steps_are_counted_in_every_log(tmp_path: Path) -> None:
    state = {"precision": lambda: ScaledPrecision(torch.device("cpu"), 2.0**60, growth_interval=50)}
    trained = Toy(tmp_path / "run", state={**state, "total_steps": 60}, log_every=1).train()
    logs = trained.of(StepsLogged)
    skipped = trained.state.skipped
    assert 0 < skipped < 60
    assert [log.skipped for log in logs] == sorted(log.skipped for log in logs)
    assert logs[-1].skipped == trained.of(Finished)[0].skipped == skipped
    assert logs[0].skipped == 1
    for before, log in itertools.pairwise(logs):
        assert math.isnan(log.grad_norm) == (log.skipped > before.skipped)  # no update, so no norm


def test_progress_is_shown_and_recorded_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainrun.loop.clock.PROGRESS_EVERY_S", 0.0)
    trained = Toy(tmp_path / "run").train()
    assert [event.step for event in trained.of(Progressed)] == list(range(1, 17))
    assert b"progress" not in trained.metrics
    monkeypatch.undo()
    assert Toy(tmp_path / "quiet").train().metrics == trained.metrics


class Writing(ToyTask):
    """Writes a text of the first output for zeros, and draws random numbers on the way."""

    def sample(self, model: nn.Module) -> str:
        assert not model.training
        torch.rand(7)
        return f"{float(model(torch.zeros(1, FEATURES))[0, 0]):.6f}"


def test_a_sample_follows_each_evaluation_and_changes_nothing(tmp_path: Path) -> None:
    plain, writing = Toy(tmp_path / "plain").train(), Toy(tmp_path / "writing", task=Writing)
    whole = writing.train()
    assert same_bits(plain.weights, whole.weights)
    steps = [event.step for event in whole.of(Evaluated) if event.split == "val"]
    assert [event.step for event in whole.of(Sampled)] == steps
    assert len({event.text for event in whole.of(Sampled)}) == len(steps)  # of other weights each
    assert [
        line for line in whole.metrics.splitlines() if b"sample" not in line
    ] == plain.metrics.splitlines()
    cut = writing.but(folder=tmp_path / "cut")
    cut.train(signal_at=8)
    assert cut.train().metrics == whole.metrics
