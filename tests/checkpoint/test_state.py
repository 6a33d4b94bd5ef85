"""What is stored is everything, loads whole or not at all, and fits or is refused in words."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from toy import CPU, ToyData, ToyTask, adamw, mlp, momentum, new_state, new_step, same_bits

from trainrun.checkpoint.state import TrainState, require_same_data
from trainrun.precision import ScaledPrecision
from trainrun.protocols import BatchSpec, Position
from trainrun.regularization.early_stopping import EarlyStopping
from trainrun.regularization.ema import EMA
from trainrun.scheduler import cosine, plateau
from trainrun.vocabulary.errors import DataError, ResumeError


def full_state(**changes: Any) -> TrainState:
    """A state with every part there is."""
    parts: dict[str, Any] = {
        "optimizer": adamw,
        "precision": ScaledPrecision(CPU, 2.0**10, 4),
        "weight_average": EMA(0.9),
        "stopper": EarlyStopping(3, 0.0, restore_best=True),
        "schedule": plateau(0.05, True, 0.5, 1, 0.0, 0, warmup=0, warmup_start=0.0, min_lr=0.0),
        "data": {"name": "toy", "fingerprint": "abcd", "sizes": {"train": 41, "val": None}},
        "fitted": {"shift": torch.zeros(2)},
    }
    return new_state(mlp(batch_norm=True), **(parts | changes))


def trained(state: TrainState, steps: int = 3) -> TrainState:
    data = ToyData()
    step, batches = new_step(data, ToyTask()), data.train_batches(Position(), BatchSpec(8, 1), 1)
    for _ in range(steps):
        state.meter.add(step(state, [next(batches)]))
    if state.stopper is not None:
        state.stopper.observe(0.5, True)
        state.schedule.observe(0.5)
    return state


def stored(state: TrainState) -> dict[str, Any]:
    """Through a file, as a checkpoint does."""
    body = io.BytesIO()
    torch.save(state.state_dict(), body)
    body.seek(0)
    parts = torch.load(body, weights_only=True)
    assert isinstance(parts, dict)
    return parts


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested containers, inner ones too."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from leaves(value, (*path, key))


def test_a_fresh_state_becomes_the_stored_one_to_the_last_bit() -> None:
    state = trained(full_state())
    state.best, state.best_step, state.evaluated_at = 0.5, 2, 2
    fresh = full_state(total_steps=99)
    fresh.load_state_dict(stored(state))
    assert same_bits(fresh.state_dict(), state.state_dict())
    assert (fresh.step, fresh.applied, fresh.total_steps) == (3, 3, 16)


STORED = stored(trained(full_state()))


def test_a_state_that_lacks_anything_is_refused_before_anything_is_copied() -> None:
    fresh = full_state()
    before, accepted = copy.deepcopy(fresh.state_dict()), []
    places = list(leaves(STORED))
    for place in places:
        parts = copy.deepcopy(STORED)
        holder: Any = parts
        for key in place[:-1]:
            holder = holder[key]
        del holder[place[-1]]
        try:
            fresh.load_state_dict(parts)
            accepted.append(place)
        except ResumeError:
            pass
    assert len(places) > 100
    assert accepted == []
    assert same_bits(fresh.state_dict(), before)


def test_what_is_missing_is_named() -> None:
    parts = copy.deepcopy(STORED)
    del parts["optimizer"]["state"]["state"][3]["exp_avg"]
    with pytest.raises(ResumeError, match="not whole; see optimizer/state/state/3/exp_avg"):
        full_state().load_state_dict(parts)


class Wider(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 3))


def test_what_the_data_fitted_is_all_there_but_for_what_came_later() -> None:
    state = full_state(fitted={"shift": torch.zeros(2), "target_notation": {"decimal": "comma"}})
    parts = stored(state)
    state.check_fitted(parts)
    del parts["fitted"]["target_notation"]  # a table's run from before notations were known
    state.check_fitted(parts)
    del parts["fitted"]["shift"]
    with pytest.raises(ResumeError, match="is not whole; see fitted"):
        state.check_fitted(parts)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda: full_state(weight_average=None), "parts differ from this run's: averager"),
        (lambda: full_state(stopper=None), "parts differ from this run's: stopper"),
        (lambda: _with_model(Wider()), r"0.weight \(8, 5\) torch.float32, this run trains 0.weight \(9, 5\)"),
        (lambda: _with_model(mlp(batch_norm=True).double()), "float32, this run trains .*float64"),
        (lambda: _with_model(nn.Sequential(mlp(batch_norm=True))), "trained 0.weight .* trains 0.0.weight"),
        (lambda: _with_model(mlp()), "this run trains"),
        (lambda: _with_two_groups(), "does not fit this run: .*parameter group"),
    ],
)
def test_a_state_of_another_run_is_refused_in_words(other: Any, said: str) -> None:
    with pytest.raises(ResumeError, match=said):
        other().load_state_dict(STORED)


def _with_model(model: nn.Module) -> TrainState:
    return new_state(
        model,
        adamw,
        precision=ScaledPrecision(CPU, 2.0**10, 4),
        weight_average=EMA(0.9),
        stopper=EarlyStopping(3, 0.0, restore_best=True),
        data=STORED["data"],
        fitted={"shift": torch.zeros(2)},
    )


def _with_two_groups() -> TrainState:
    state = full_state()
    group = state.optimizer.param_groups[0]
    parameters = group["params"]
    group["params"] = parameters[:2]
    state.optimizer.add_param_group({"params": parameters[2:], "name": "rest", "base_lr": 0.05})
    return state


# Fused kernels trust what they are given: shapes and layouts from a file must not reach them.


def fused_state() -> TrainState:
    return trained(new_state(mlp(), lambda p, lr: torch.optim.AdamW(p, lr, fused=True)))


@pytest.mark.parametrize(
    "moment",
    [torch.zeros(3), torch.zeros(99, 99), torch.zeros(()), "zeros", 0.0],
    ids=["shorter", "larger", "one number", "text", "float"],
)
def test_a_moment_of_another_shape_is_refused(moment: Any) -> None:
    parts = stored(fused_state())
    parts["optimizer"]["state"]["state"][0]["exp_avg"] = moment
    with pytest.raises(ResumeError, match="exp_avg of trained parameter 0 has another shape"):
        fused_state().load_state_dict(parts)


def test_moments_are_laid_out_as_their_weights_lie() -> None:
    parts, fresh = stored(fused_state()), fused_state()
    memory = parts["optimizer"]["state"]["state"][0]
    values = memory["exp_avg_sq"].clone()
    memory["exp_avg"] = torch.zeros(1).expand(memory["exp_avg"].shape)  # one number on the disk
    memory["exp_avg_sq"] = memory["exp_avg_sq"].t().contiguous().t()
    fresh.load_state_dict(parts)
    weight = next(fresh.model.parameters())
    for name, value in fresh.optimizer.state[weight].items():
        if name != "step":
            assert value.stride() == weight.stride()
            assert value.untyped_storage().nbytes() >= weight.nbytes
    assert torch.equal(fresh.optimizer.state[weight]["exp_avg_sq"], values)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("counters", "step", "many"),
        ("counters", "samples", -1),
        ("counters", "seconds", None),
        ("position", "offset", -5),
        ("position", "epoch", 0.5),
        ("precision", "scale", "large"),
        ("model", "0.weight", "zeros"),
        ("averager", "updates", -3),
        ("averager", "model", 7),
        ("stopper", "waited", []),
    ],
)
def test_a_value_of_another_kind_is_refused_before_anything_is_copied(
    part: str, name: str, value: Any
) -> None:
    parts, fresh = copy.deepcopy(STORED), full_state()
    before = copy.deepcopy(fresh.state_dict())
    parts[part][name] = value
    parts["contents"] = [p for p in parts["contents"] if not f"{p}/".startswith(f"{part}/{name}/")]
    parts["contents"].append(f"{part}/{name}")
    with pytest.raises(ResumeError, match=f"{part}/{name} "):
        fresh.load_state_dict(parts)
    assert same_bits(fresh.state_dict(), before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "ef01"}, r"has seen toy \(41 train, abcd\); here are toy \(41 train, ef01\)"),
        ({"fingerprint": ""}, r"here are toy \(41 train, no fingerprint\)"),
        ({"sizes": {"train": 40, "val": 1}}, r"here are toy \(40 train, 1 val, abcd\)"),
        ({"name": "other"}, r"here are other \(41 train, abcd\)"),
    ],
)
def test_other_data_are_refused_before_anything_is_copied(change: dict[str, Any], said: str) -> None:
    state = full_state(data=STORED["data"] | change)
    before = copy.deepcopy(state.state_dict())
    with pytest.raises(DataError, match=said):
        state.load_state_dict(STORED)
    assert same_bits(state.state_dict(), before)


@pytest.mark.parametrize(("stored", "current"), [("12ab", "12ab"), ("12ab", None), (None, "12ab")])
def test_files_are_compared_where_both_know_them(stored: str | None, current: str | None) -> None:
    """Runs of before files had a fingerprint go on."""
    data = {"name": "toy", "fingerprint": "abcd", "sizes": {"train": 41}}
    require_same_data(*(data | ({"files": files} if files else {}) for files in (stored, current)))


def test_other_files_are_other_data() -> None:
    data = {"name": "toy", "fingerprint": "abcd", "sizes": {"train": 41}}
    with pytest.raises(
        DataError, match=r"seen toy \(41 train, abcd, files 12ab\); here .* files 34cd\); bring"
    ):
        require_same_data(data | {"files": "12ab"}, data | {"files": "34cd"})


def test_a_frozen_parameter_is_not_among_the_trained_and_that_is_noticed() -> None:
    state = full_state()
    state.optimizer.param_groups[0]["params"].pop()
    with pytest.raises(ResumeError, match="6 trained parameters, this run has 5"):
        state.load_state_dict(STORED)


def test_an_optimizer_value_changed_since_takes_effect_and_the_others_stay() -> None:
    def state(lr: float, weight_decay: float) -> TrainState:
        return new_state(mlp(), lambda p, lr: torch.optim.AdamW(p, lr, weight_decay=weight_decay), lr)

    before = trained(state(0.05, 0.01))
    before.optimizer.param_groups[0]["betas"] = (0.77, 0.999)  # as a schedule of the momentum does
    after = state(0.05, 0.3)
    after.load_state_dict(stored(before))
    group = after.optimizer.param_groups[0]
    assert (group["weight_decay"], group["base_lr"]) == (0.3, 0.05)
    assert group["betas"] == (0.9, 0.999)  # until the schedule sets them, if it is still that one
    faster = state(0.5, 0.01)
    faster.load_state_dict(stored(before))
    assert (faster.optimizer.param_groups[0]["base_lr"], group["weight_decay"]) == (0.5, 0.3)
    assert same_bits(after.optimizer.state_dict()["state"], before.optimizer.state_dict()["state"])
    again = state(0.5, 0.01)  # and the change is part of the next checkpoint
    again.load_state_dict(stored(faster))
    assert again.optimizer.param_groups[0]["base_lr"] == 0.5


def test_a_schedule_of_another_kind_starts_without_the_memory_of_the_old() -> None:
    replaced = full_state(schedule=cosine(16, 0.05, 0, 0.0, 0.0))
    replaced.load_state_dict(STORED)
    assert replaced.applied == 3
    back = full_state()
    back.load_state_dict(stored(replaced))
    assert back.schedule.best is None


def test_skipped_is_what_was_tried_and_not_applied() -> None:
    state = new_state(mlp(), momentum)
    state.step, state.applied = 7, 5
    assert state.skipped == 2


def test_what_a_replaced_schedule_had_set_goes_back_to_what_is_configured() -> None:
    state = new_state(mlp(), momentum)
    state.optimizer.param_groups[0]["momentum"] = 0.7  # as a one-cycle schedule left it
    again = new_state(mlp(), momentum)
    again.load_state_dict(stored(state))
    assert again.optimizer.param_groups[0]["momentum"] == 0.9
