"""A run that was stopped and resumed is the run that never was: same weights, same metrics.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import CPU, Toy, adamw, mlp, momentum, same_bits

from trainrun.checkpoint.state import TrainState
from trainrun.loop.evaluator import Monitor
from trainrun.loop.step import Clip
from trainrun.precision import ScaledPrecision
from trainrun.protocols import Position
from trainrun.regularization.early_stopping import EarlyStopping
from trainrun.regularization.ema import EMA
from trainrun.regularization.penalty import L2
from trainrun.scheduler import FromTorch, Plateau, cosine, plateau
from trainrun.vocabulary.events import Finished, Interrupted

pytestmark = pytest.mark.usefixtures("quick_disk")
LOSS = Monitor("loss", maximize=False)


def lbfgs(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, lr, max_iter=3, history_size=3)


def reduce_on_plateau() -> Plateau:
    values = {"factor": 0.3, "patience": 0, "threshold": 0.1, "cooldown": 1}
    return plateau(base_lr=0.05, maximize=False, **values, warmup=3, warmup_start=0.1, min_lr=1e-4)


def torch_one_cycle() -> FromTorch:
    arguments = {"max_lr": 0.1, "total_steps": 20}
    return FromTorch(torch.optim.lr_scheduler.OneCycleLR, 0.05, False, arguments)


def overflowing() -> ScaledPrecision:
    """Its first steps are skipped, and it keeps growing into overflow."""
    return ScaledPrecision(CPU, 2.0**22, growth_interval=1)


BATCH_NORM = {"model": lambda: mlp(dropout=0.4, batch_norm=True), "batch_size": 3, "accumulate": 4}
KINDS: dict[str, dict[str, Any]] = {
    "momentum, ragged windows": {
        "model": lambda: mlp(dropout=0.4),
        "state": {"optimizer": momentum},
    },
    "adamw, batch norm, dropout": {**BATCH_NORM, "state": {"optimizer": adamw}},
    "average": {**BATCH_NORM, "state": {"weight_average": lambda: EMA(0.9)}},
    "fp16 that skips": {**BATCH_NORM, "state": {"optimizer": adamw, "precision": overflowing}},
    "plateau": {"monitor": LOSS, "eval_every": 2, "state": {"schedule": reduce_on_plateau, "lr": 0.05}},
    "cosine": {"state": {"schedule": lambda: cosine(16, 0.05, 4, 0.0, 1e-3)}},
    "a scheduler of torch's": {"state": {"schedule": torch_one_cycle}},
    "l-bfgs": {"batch_size": 41, "accumulate": 1, "state": {"optimizer": lbfgs, "lr": 0.5}},
    "clipping and penalty": {"step": {"clip": Clip(0.4, None, None), "penalties": {"l2": L2(0.01)}}},
    "early stopping": {
        "monitor": LOSS,
        "eval_every": 2,
        "state": {"lr": 0.9, "stopper": lambda: EarlyStopping(3, 0.0, restore_best=True)},
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_is_arithmetic_not_replay(tmp_path: Path, kind: str) -> None:
    toy = Toy(tmp_path / "straight", **KINDS[kind])
    straight = toy.train()
    last = straight.state.step
    for stop in (1, 3, 4, 7, 11):  # 3 is a log, 4 an evaluation and the end of an epoch, 5 a save
        if stop >= last:
            continue
        again = toy.but(folder=tmp_path / f"stopped at {stop}")
        stopped = again.train(signal_at=stop)
        assert isinstance(stopped.events[-1], Interrupted)
        assert stopped.state.step == stop
        resumed = again.train()
        assert isinstance(resumed.events[-1], Finished)
        assert same_bits(resumed.weights, straight.weights), f"stopped at {stop}"
        assert resumed.metrics == straight.metrics, f"stopped at {stop}"


def test_these_runs_do_what_their_names_say(tmp_path: Path) -> None:
    """Else the test above would prove nothing of them."""
    ends = {kind: Toy(tmp_path / kind, **KINDS[kind]).train().state for kind in KINDS}
    assert 0 < ends["fp16 that skips"].skipped < 16
    assert ends["plateau"].schedule.scale < 1
    assert ends["early stopping"].stop_reason == "early_stopping"
    assert ends["average"].weight_average.updates == 16
    assert all(state.skipped == 0 for kind, state in ends.items() if kind != "fp16 that skips")


@pytest.mark.parametrize("stops", [[1, 2, 3, 4, 5], [5, 9, 13], [2, 2, 16]])
def test_a_run_may_be_stopped_any_number_of_times(tmp_path: Path, stops: list[int]) -> None:
    toy = Toy(tmp_path / "straight", **KINDS["average"])
    straight = toy.train()
    again = toy.but(folder=tmp_path / "stopped")
    for stop in stops:
        again.train(signal_at=stop)
    resumed = again.train()
    assert same_bits(resumed.weights, straight.weights)
    assert resumed.metrics == straight.metrics


def test_what_was_done_after_the_last_checkpoint_is_done_again_not_twice(tmp_path: Path) -> None:
    """A process that dies without a word: lines after the checkpoint are forgotten and written again."""
    toy = Toy(tmp_path / "straight", log_every=1, save_every=5)
    straight = toy.train()
    died = toy.but(folder=tmp_path / "died")
    died.train(signal_at=9)
    for step in (8, 9):  # as if neither the best of step 8 nor the signal's save had been committed
        for path in (died.folder / "checkpoints").glob(f"step-{step:09d}/*"):
            path.unlink()
        for path in (died.folder / "checkpoints").glob(f"step-{step:09d}"):
            path.rmdir()
    lines = (died.folder / "metrics.jsonl").read_bytes()
    assert b'"step": 9,' in lines
    resumed = died.train()
    assert resumed.metrics == straight.metrics
    assert same_bits(resumed.weights, straight.weights)


# Every part matters: a state that forgets one of them is caught by the promise above.

FORGETTABLE: Mapping[str, tuple[int, str, Callable[[Any], object]]] = {
    "optimizer's memory": (7, "adamw, batch norm, dropout", lambda s: s.optimizer.state.clear()),
    "running statistics": (7, "adamw, batch norm, dropout", lambda s: s.model[1].reset_running_stats()),
    "position": (7, "cosine", lambda s: setattr(s, "position", Position())),
    "applied": (7, "cosine", lambda s: setattr(s, "applied", 0)),
    "step": (7, "momentum, ragged windows", lambda s: setattr(s, "step", s.step - 1)),
    "average": (7, "average", lambda s: s.weight_average.start(mlp(dropout=0.4, batch_norm=True))),
    "its count of updates": (7, "average", lambda s: setattr(s.weight_average, "updates", 0)),
    "loss scale": (7, "fp16 that skips", lambda s: setattr(s.precision, "scale", 2.0**22)),
    "plateau": (9, "plateau", lambda s: setattr(s.schedule, "scale", 1.0)),
    "patience": (9, "early stopping", lambda s: setattr(s.stopper, "waited", 0)),
    "open log window": (7, "cosine", lambda s: s.meter.read_log()),
    "best": (13, "cosine", lambda s: setattr(s, "ranking", [])),
    "logged_at": (6, "cosine", lambda s: setattr(s, "logged_at", 3)),
}


@pytest.mark.parametrize("what", FORGETTABLE)
def test_whatever_is_forgotten_shows(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, kind, forget = FORGETTABLE[what]
    toy = Toy(tmp_path / "straight", **KINDS[kind])
    straight = toy.train()
    again = toy.but(folder=tmp_path / "stopped")
    again.train(signal_at=stop)
    load = TrainState.load_state_dict

    def forgetful(state: TrainState, parts: Mapping[str, Any]) -> None:
        load(state, parts)
        forget(state)

    monkeypatch.setattr(TrainState, "load_state_dict", forgetful)
    resumed = again.train()
    assert resumed.metrics != straight.metrics or not same_bits(resumed.weights, straight.weights)
