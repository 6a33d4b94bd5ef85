"""The best weights by the monitored metric, what steers a run, and the test split at its end."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn
from toy import Scripted, Toy, ToyData, ToyTask, mlp, same_bits, scripted

from trainrun.checkpoint.reader import path_of
from trainrun.loop.evaluate import evaluate
from trainrun.loop.evaluator import Monitor
from trainrun.protocols import BatchSpec, Position
from trainrun.regularization.early_stopping import EarlyStopping
from trainrun.regularization.ema import EMA
from trainrun.regularization.swa import SWA
from trainrun.vocabulary.events import CheckpointSaved, Evaluated, Finished, Warned

pytestmark = pytest.mark.usefixtures("quick_disk")


def _test_loss(model: Any, data: ToyData | None = None) -> float:
    data = data or ToyData()
    test = data.splits["test"]
    with torch.no_grad():
        return float(F.cross_entropy(model.eval()(data.inputs[test]), data.targets[test]))


@pytest.mark.parametrize(
    ("values", "stop_at", "maximize", "ends"),
    [
        ([0.1, 0.5, 0.9, 0.2], 0.9, True, 12),
        ([0.1, 0.5, 0.9, 0.2], 0.95, True, 16),
        ([0.9, 0.5, 0.1, 0.2], 0.5, False, 8),
        ([math.nan, math.inf, 0.1, 0.2], 0.9, True, 8),  # infinite is above, not a number is nothing
        ([math.nan, math.nan, math.nan, math.nan], -1.0, True, 16),
    ],
)
def test_stop_at_ends_the_run_when_it_is_reached(
    tmp_path: Path, values: list[float], stop_at: float, maximize: bool, ends: int
) -> None:
    toy = Toy(
        tmp_path / "run", task=scripted(*values), stop_at=stop_at, monitor=Monitor("accuracy", maximize)
    )
    trained = toy.train()
    finished = trained.of(Finished)[0]
    assert finished.step == trained.state.step == ends
    assert finished.reason == ("stop_at" if ends < 16 else "budget")
    assert trained.of(CheckpointSaved)[-1].step == ends


def test_early_stopping_ends_after_patience_and_the_best_weights_are_judged(tmp_path: Path) -> None:
    stopper = {"stopper": lambda: EarlyStopping(patience=2, min_delta=0.0, restore_best=True)}
    toy = Toy(tmp_path / "run", task=scripted(0.3, 0.8, 0.8, 0.7, 0.9), state=stopper, eval_every=2)
    trained = toy.train()
    finished = trained.of(Finished)[0]
    assert (finished.reason, finished.step, finished.best, finished.best_step) == (
        "early_stopping",
        8,
        0.8,
        4,
    )
    at_best = Toy(tmp_path / "short", state={"total_steps": 4}, eval_every=2).train()
    expected = _test_loss(at_best.state.model)
    test = trained.of(Evaluated)[-1]
    assert (test.split, test.step) == ("test", 4)
    assert test.metrics["loss"] == pytest.approx(expected, rel=1e-5)
    assert test.metrics["loss"] != pytest.approx(_test_loss(trained.state.model), rel=1e-3)


@pytest.mark.parametrize("average", [False, True], ids=["raw", "ema"])
def test_what_is_judged_at_the_end_has_every_bit_of_a_copy_made_at_the_best_step(
    tmp_path: Path, average: bool
) -> None:
    copies: list[dict[str, torch.Tensor]] = []

    class Copying(Scripted):
        """Keeps a copy of the weights that each evaluation judges."""

        def __call__(self, model: Any, batch: Any) -> Any:
            if not model.training and (len(copies) == 0 or not same_bits(copies[-1], model.state_dict())):
                copies.append({name: value.clone() for name, value in model.state_dict().items()})
            return super().__call__(model, batch)

    parts: dict[str, Any] = {"stopper": lambda: EarlyStopping(patience=2, min_delta=0.0, restore_best=True)}
    parts |= {"weight_average": lambda: EMA(0.9)} if average else {}
    toy = Toy(
        tmp_path / "run",
        model=lambda: mlp(batch_norm=True),
        batch_size=6,
        task=lambda: Copying([0.3, 0.8, 0.7, 0.6]),
        state=parts,
        eval_every=2,
    )
    trained = toy.train()
    finished = trained.of(Finished)[0]
    assert (finished.step, finished.kept_step) == (8, 4)
    assert finished.kept_weights == ("ema" if average else "raw")
    assert len(copies) == 5  # of steps 2, 4, 6 and 8, and those of the test split
    assert same_bits(copies[4], copies[1])
    assert not same_bits(copies[4], copies[3])


def test_an_average_is_judged_with_batch_norm_of_its_own(tmp_path: Path) -> None:
    steps: list[Any] = []

    class Keeping(ToyTask):
        def __call__(self, model: Any, batch: Any) -> Any:
            if not model.training:
                steps[:] = [copy.deepcopy(model)]
            return super().__call__(model, batch)

    toy = Toy(
        tmp_path / "run",
        model=lambda: mlp(batch_norm=True),
        batch_size=6,
        task=Keeping,
        state={"weight_average": lambda: SWA(3, 2), "total_steps": 9},
        eval_every=9,
    )
    toy.train()
    theirs = copy.deepcopy(steps[0])
    inputs = [
        batch.inputs for batch in itertools.islice(ToyData().train_batches(Position(), BatchSpec(6, 1), 1), 7)
    ]
    update_bn(inputs, theirs.train())  # the first epoch: 41 samples in sixes and a five
    assert sum(map(len, inputs)) == 41
    torch.testing.assert_close(steps[0].state_dict(), theirs.state_dict())


def test_early_stopping_may_keep_the_last_weights(tmp_path: Path) -> None:
    stopper = {"stopper": lambda: EarlyStopping(patience=2, min_delta=0.0, restore_best=False)}
    trained = Toy(tmp_path / "run", task=scripted(0.8, 0.3, 0.2, 0.1), state=stopper, eval_every=2).train()
    assert (trained.of(Evaluated)[-1].split, trained.of(Evaluated)[-1].step) == ("test", 6)
    assert trained.of(Finished)[0].kept_step == 6


def test_a_best_checkpoint_that_was_lost_costs_a_warning_not_the_run(tmp_path: Path) -> None:
    toy = Toy(tmp_path / "run", task=scripted(0.8, 0.3), keep_last=1)
    began = toy.train(signal_at=14)
    assert began.state.best_step == 4
    best = path_of(toy.folder / "checkpoints", 4)
    (best / "state.pt").write_bytes(b"")
    trained = toy.but(task=scripted(0.1)).train()
    (warned,) = trained.of(Warned)
    assert "the last are evaluated" in warned.text and str(best) in warned.text
    test = trained.of(Evaluated)[-1]
    assert (test.split, test.step) == ("test", 16)
    assert trained.of(Finished)[0].best_step == 4


def test_without_kept_best_the_last_weights_are_judged(tmp_path: Path) -> None:
    trained = Toy(tmp_path / "run", task=scripted(0.8, 0.3, 0.2, 0.1), keep_best=0, keep_last=1).train()
    assert trained.of(Finished)[0].best_step == 4
    assert (trained.of(Evaluated)[-1].split, trained.of(Evaluated)[-1].step) == ("test", 16)


@pytest.mark.parametrize(
    ("values", "maximize", "best", "best_step"),
    [
        ([math.nan, 0.2, math.nan, 0.1], True, 0.2, 8),
        ([0.2, math.inf, 0.1, 0.3], True, 0.3, 16),
        ([0.2, -math.inf, 0.1, 0.3], False, 0.1, 12),
        ([0.5, 0.5, 0.5, 0.5], True, 0.5, 4),  # an equal one is not better,
        ([(0.5, 1.0), (0.5, 0.8), (0.5, 0.9), (0.4, 0.1)], True, 0.5, 8),  # but for its loss
        ([(0.5, math.nan), (0.5, 0.9), (0.5, math.nan), (0.5, math.inf)], True, 0.5, 8),
        ([math.nan] * 4, True, None, None),
    ],
)
def test_the_best_is_finite_and_first(
    tmp_path: Path, values: list[Any], maximize: bool, best: float | None, best_step: int | None
) -> None:
    toy = Toy(tmp_path / "run", task=scripted(*values), monitor=Monitor("accuracy", maximize))
    trained = toy.train()
    finished = trained.of(Finished)[0]
    assert (finished.best, finished.best_step) == (best, best_step)
    assert trained.of(Evaluated)[-1].step == (best_step or 16)


def test_no_validation_split_trains_to_the_end_and_judges_the_last_weights(tmp_path: Path) -> None:
    trained = Toy(tmp_path / "run", monitor=None, data=lambda: ToyData(val=0)).train()
    finished = trained.of(Finished)[0]
    assert trained.data.asked == ["test"]
    assert (finished.monitor, finished.best, finished.best_step, finished.step) == ("", None, None, 16)
    loss = trained.of(Evaluated)[0].metrics["loss"]
    assert loss == pytest.approx(_test_loss(trained.state.model, trained.data), rel=1e-5)


def test_an_average_is_what_is_judged_and_kept(tmp_path: Path) -> None:
    trained = Toy(
        tmp_path / "run", state={"weight_average": lambda: EMA(0.8)}, task=scripted(0.1, 0.2, 0.3, 0.4)
    ).train()
    assert {event.weights for event in trained.of(Evaluated)} == {"ema"}
    average = trained.state.weight_average.model
    test = trained.of(Evaluated)[-1]
    assert test.metrics["loss"] == pytest.approx(_test_loss(average), rel=1e-5)
    assert test.metrics["loss"] != pytest.approx(_test_loss(trained.state.model), rel=1e-3)


def test_evaluate_is_what_the_loop_reports(tmp_path: Path) -> None:
    trained = Toy(tmp_path / "run", state={"total_steps": 4}).train()
    metrics = evaluate(trained.state.model, ToyTask(), ToyData().eval_batches("val"), trained.state.precision)
    assert trained.of(Evaluated)[0].metrics == metrics


def test_the_best_few_are_kept_by_metric_then_loss_then_step(tmp_path: Path) -> None:
    values = (
        (0.5, 1.0),
        (0.7, 2.0),
        (0.7, 1.0),
        (0.2, 0.1),
        (0.7, 1.0),
        (0.6, 1.0),
        (math.nan, 0.1),
        (0.1, 1.0),
    )
    run = Toy(
        tmp_path / "run", task=scripted(*values), eval_every=2, save_every=100, keep_last=1, keep_best=3
    )
    stopped = run.train(signal_at=7)
    assert stopped.state.ranking == [[0.7, 1.0, 6], [0.7, 2.0, 4], [0.5, 1.0, 2]]
    rest = run.but(task=scripted(*values[stopped.state.step // 2 :]))
    trained = rest.train()
    assert trained.state.best_steps(3) == [6, 10, 4]
    assert trained.state.best_step == 6
    kept = {int(path.name[5:]) for path in (run.folder / "checkpoints").glob("step-*")}
    assert kept == {4, 6, 10, 16}
    assert [event.step for event in trained.of(CheckpointSaved)] == [10, 16]  # none of what is no better


def test_a_checkpoint_of_before_rankings_knows_its_best(tmp_path: Path) -> None:
    run = Toy(tmp_path / "run", task=scripted(0.5, 0.25), keep_best=2)
    trained = run.train()
    parts = trained.state.state_dict()
    assert parts["counters"].pop("ranking") == [[0.5, 1.0, 4], [0.25, 1.0, 8]]
    parts["contents"] = [name for name in parts["contents"] if "ranking" not in name]
    trained.state.load_state_dict(parts)
    assert trained.state.ranking == [[0.5, 1.0, 4]]
