"""What the loop does about gradients that are not finite: stop, skip, roll back, each with its limit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import Toy, ToyData, Trained, same_bits

from trainrun.protocols import Batch
from trainrun.regularization.ema import EMA
from trainrun.vocabulary.errors import DataError, NonFiniteError
from trainrun.vocabulary.events import Finished, NotFinite, RolledBack, StepsLogged

pytestmark = pytest.mark.usefixtures("quick_disk")


class BadAt(ToyData):
    """The windows of `steps` hold a NaN, each as often as `times` says."""

    def __init__(self, steps: tuple[int, ...], times: float = math.inf) -> None:
        super().__init__()
        self.left = dict.fromkeys(steps, times)

    def train_batches(self, position: Any, cut: Any, seed: int) -> Iterator[Batch]:
        windows_an_epoch = math.ceil(41 / 12)
        for batch in super().train_batches(position, cut, seed):
            epoch, offset = batch.position.epoch, batch.position.offset
            step = epoch * windows_an_epoch + math.ceil(offset / 12)
            if offset % 12 == 4 and self.left.get(step, 0) > 0:  # once a window
                self.left[step] -= 1
                batch = replace(batch, inputs=batch.inputs * math.nan)
            yield batch


def toy(folder: Path, policy: str, data: Callable[[], ToyData], **changes: Any) -> Toy:
    step = {"nonfinite": policy}
    return Toy(folder, data=data, step=step, save_every=5, log_every=1, **changes)


def lines(trained: Trained, kind: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, trained.metrics.splitlines()) if line["event"] == kind]


def test_an_error_closes_the_data_although_its_frames_still_hold_them(tmp_path: Path) -> None:
    closed = []

    class Watched(BadAt):
        def train_batches(self, position: Any, cut: Any, seed: int) -> Iterator[Batch]:
            try:
                yield from super().train_batches(position, cut, seed)
            finally:
                closed.append(True)

    with pytest.raises(DataError) as held:
        toy(tmp_path / "run", "stop", lambda: Watched((3,))).train()
    assert closed and held.tb  # so loader processes have ended


def test_stop_ends_the_run_and_leaves_only_good_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data: the inputs are not finite \(samples .*\), met at step 7"):
        toy(tmp_path / "run", "stop", lambda: BadAt((7,))).train()
    folder = tmp_path / "run" / "checkpoints"
    stored = [torch.load(path / "state.pt", weights_only=True)["model"] for path in folder.glob("step-*")]
    assert stored
    assert all(torch.isfinite(value).all() for weights in stored for value in weights.values())
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["step"], last["where"], last["answer"]) == (
        "nonfinite",
        7,
        "the inputs",
        "stop",
    )


def test_skip_goes_on_and_counts(tmp_path: Path) -> None:
    trained = toy(tmp_path / "run", "skip", lambda: BadAt((2, 3, 7, 9))).train()
    assert (trained.state.step, trained.state.skipped) == (16, 4)
    assert [event.step for event in trained.of(NotFinite)] == [2, 3, 7, 9]
    assert trained.of(Finished)[0].skipped == 4


def test_skipping_has_a_limit_of_steps_in_a_row(tmp_path: Path) -> None:
    assert toy(tmp_path / "three", "skip", lambda: BadAt((5, 6, 7))).train().of(Finished)
    with pytest.raises(
        NonFiniteError, match=r"at step 8; .*loop\.nonfinite_limit: 3 steps in a row were skipped"
    ):
        toy(tmp_path / "four", "skip", lambda: BadAt((5, 6, 7, 8))).train()


def half_the_rate(update: int) -> tuple[float, None]:
    return 0.5, None


def from_5_at_half_the_rate(update: int) -> tuple[float, None]:
    return (1.0 if update < 5 else 0.5), None


@pytest.mark.parametrize("weight_average", [None, lambda: EMA(0.9)], ids=["raw", "ema"])
def test_rollback_is_training_from_the_checkpoint_on_with_a_lower_rate(
    weight_average: Callable[[], EMA] | None, tmp_path: Path
) -> None:
    state = {"weight_average": weight_average} if weight_average else {}
    data = BadAt((7,), times=1)
    trained = toy(tmp_path / "run", "rollback", lambda: data, state=state, keep_best=0).train()
    assert [(e.step, e.to, e.lr_factor) for e in trained.of(RolledBack)] == [(7, 5, 0.5)]
    straight = toy(tmp_path / "straight", "stop", ToyData, keep_best=0)
    straight = straight.but(state={**state, "schedule": lambda: from_5_at_half_the_rate}).train()
    assert same_bits(trained.weights, straight.weights)
    assert [log.step for log in trained.of(StepsLogged)] == [*range(1, 7), *range(6, 17)]
    assert [log.loss for log in trained.of(StepsLogged)][6:] == [
        log.loss for log in straight.of(StepsLogged)
    ][5:]


def test_a_rollback_before_the_first_checkpoint_goes_to_the_beginning(tmp_path: Path) -> None:
    trained = toy(tmp_path / "run", "rollback", lambda: BadAt((2,), times=1)).train()
    assert [(e.step, e.to) for e in trained.of(RolledBack)] == [(2, 0)]
    half = toy(tmp_path / "half", "stop", ToyData, state={"schedule": lambda: half_the_rate}).train()
    assert same_bits(trained.weights, half.weights)


def test_rolling_back_has_a_limit_and_the_record_tells_of_each(tmp_path: Path) -> None:
    run = toy(tmp_path / "run", "rollback", lambda: BadAt((7,)), keep_best=0)
    with pytest.raises(NonFiniteError, match=r"loop\.nonfinite_limit: 3 rollbacks did not help"):
        run.train()
    metrics = list(map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()))
    rollbacks = [
        (record["step"], record["to"], record["lr_factor"])
        for record in metrics
        if record["event"] == "rollback"
    ]
    assert rollbacks == [(7, 5, 0.5), (7, 4, 0.25), (7, 5, 0.125)]  # 5 may be spoilt
    answers = [record["answer"] for record in metrics if record["event"] == "nonfinite"]
    assert answers == ["rollback"] * 3 + ["stop"]


def test_what_a_rollback_changed_survives_an_interruption(tmp_path: Path) -> None:
    def run(name: str, times: int = 1) -> Toy:
        return toy(tmp_path / name, "rollback", lambda: BadAt((7,), times), keep_best=0)

    straight = run("straight").train()
    run("stopped").train(signal_at=12)
    resumed = run("stopped", times=0).train()
    assert (resumed.state.rollbacks, resumed.state.lr_factor) == (1, 0.5)
    assert resumed.metrics == straight.metrics
    assert same_bits(resumed.weights, straight.weights)


def test_a_spoilt_checkpoint_is_gone_back_from_and_what_was_best_then_is_unknown_again(
    tmp_path: Path,
) -> None:
    """From step 7 on all is bad until the run has been before its first evaluation, at step 4."""
    data = BadAt((7,), times=2)
    trained = toy(tmp_path / "run", "rollback", lambda: data, eval_every=4).train()
    assert [(e.step, e.to) for e in trained.of(RolledBack)] == [(7, 5), (7, 4)]
    data = BadAt((3, 7), times=1)
    trained = toy(tmp_path / "again", "rollback", lambda: data, eval_every=2, keep_best=0).train()
    assert [(e.step, e.to) for e in trained.of(RolledBack)] == [(3, 2), (7, 6)]
    data = BadAt((3,), times=2)
    trained = toy(tmp_path / "first", "rollback", lambda: data, eval_every=2).train()
    assert [(e.step, e.to) for e in trained.of(RolledBack)] == [(3, 2), (3, 0)]
    assert trained.state.best is not None and trained.of(Finished)
