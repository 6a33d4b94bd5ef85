"""Probes see the evaluated weights, and leave training as if they had never run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toy import Toy, ToyData, mlp, new_state, same_bits

from trainrun.loop.probes import Probe, ProbeError, digests, run_probes, sandbox
from trainrun.regularization.ema import EMA
from trainrun.vocabulary.events import Evaluated, Probed, RolledBack

pytestmark = pytest.mark.usefixtures("quick_disk")


def probe(function: Callable[..., Any], name: str = "my.probe") -> Probe:
    return Probe(name, function, function.__module__)


def careless(model: nn.Module, batches: Any, step: int) -> dict[str, Any]:
    """Does everything that it can get away with."""
    random.seed(step), np.random.seed(step), torch.manual_seed(step)
    torch.set_grad_enabled(True)
    model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    first, head = next(model.parameters()).requires_grad_(True), model.get_submodule("3")
    head.register_forward_hook(lambda module, inputs, outputs: outputs * 0)
    head.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 0,))
    for batch in batches:
        F.cross_entropy(model(batch.inputs), batch.targets).backward()
    first.grad = torch.ones_like(first)
    return {"draw": torch.rand(1), "draws": {"numpy": np.random.rand(), "python": random.random()}}


def accuracy(model: nn.Module, batches: Any, step: int) -> dict[str, Any]:
    assert not model.training and not torch.is_grad_enabled()
    hits = [(model(batch.inputs).argmax(1) == batch.targets).double() for batch in batches]
    again = [batch.targets for batch in batches]
    return {"again": torch.cat(hits).mean(), "step_seen": step, "count": len(torch.cat(again))}


def test_training_with_probes_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    plain = Toy(tmp_path / "plain", model=lambda: mlp(dropout=0.5)).train()
    probed = Toy(
        tmp_path / "probed",
        model=lambda: mlp(dropout=0.5),
        probes=(probe(accuracy), probe(careless, "my.other")),
    ).train()
    plain.state.seconds = probed.state.seconds  # which are the clock's
    plain.state.seconds_by_part = probed.state.seconds_by_part
    assert same_bits(probed.state.state_dict(), plain.state.state_dict())
    lines = [line for line in probed.metrics.splitlines() if b'"probe"' not in line]
    assert b"\n".join([*lines, b""]) == plain.metrics
    assert [(event.step, event.numbers["again"]) for event in probed.of(Probed)] == [
        (event.step, event.metrics["accuracy"]) for event in probed.of(Evaluated) if event.split == "val"
    ]
    assert {event.numbers["count"] for event in probed.of(Probed)} == {len(ToyData().splits["val"])}
    assert all(event.numbers["step_seen"] == event.step for event in probed.of(Probed))


def test_a_stopped_run_goes_on_to_the_same_records(tmp_path: Path) -> None:
    def draws(model: nn.Module, batches: Any, step: int) -> dict[str, Any]:
        return {"draw": torch.rand(1) * step, "numpy": np.random.rand()}

    whole = Toy(tmp_path / "whole", probes=(probe(draws),))
    halved = whole.but(folder=tmp_path / "halved")
    halved.train(signal_at=9)
    assert halved.train().metrics == whole.train().metrics
    numbers = [event.numbers for event in whole.but(folder=tmp_path / "again").train().of(Probed)]
    assert len({value["numpy"] for value in numbers}) == 1  # the same draws each time


def test_the_sandbox_restores_modes_draws_gradients_and_hooks() -> None:
    model: Any = mlp(dropout=0.5, batch_norm=True)
    model[3].eval()
    model[0].weight.requires_grad_(False)
    model[0].bias.grad = gradient = torch.ones(8)
    kept = model[4].register_forward_hook(lambda *_: None)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()

    def misbehave() -> None:
        with sandbox([model], 5):
            assert model[0].bias.grad is None
            assert not any(module.training for module in model.modules())
            careless(model, [], 3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        misbehave()
    assert [module.training for module in model] == [True, True, True, False, True]
    assert model[0].bias.grad is gradient and model[0].weight.grad is None
    assert [p.requires_grad for p in model.parameters()] == [False, *[True] * 5]
    assert random.getstate() == states[0]
    assert same_bits(np.random.get_state()[1].tolist(), states[1][1].tolist())
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.is_grad_enabled()
    assert not model[3]._forward_hooks and not model[3]._forward_pre_hooks
    assert list(model[4]._forward_hooks) == [kept.id]


def test_the_average_is_seen_and_the_raw_weights_are_watched(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    def see(model: nn.Module, batches: Any, step: int) -> dict[str, Any]:
        seen.append(next(model.parameters()).clone())
        return {}

    state = new_state(mlp(), weight_average=EMA(0.5))
    state.weight_average.update(state.model)
    with torch.no_grad():
        state.model[0].weight.add_(1)
    assert run_probes([probe(see)], state, ToyData()).numbers == {}
    assert torch.equal(seen[0], next(state.eval_model.parameters()))
    assert not torch.equal(seen[0], state.model[0].weight)

    def raw(model: nn.Module, batches: Any, step: int) -> dict[str, Any]:
        state.model[0].weight[0, 0] += 1
        return {}

    with pytest.raises(ProbeError, match=r"^loop\.probes: my\.probe changed .*\(0\.weight\)"):
        run_probes([probe(raw)], state, ToyData())


def scale(model: nn.Module, batches: Any, step: int) -> dict[str, Any]:
    model[4].weight[0, 0] *= 1 + 1e-6
    return {}


def norms(model: nn.Module, batches: Any, step: int) -> dict[str, Any]:
    model.train()
    for batch in batches:
        model(batch.inputs)
    return {}


def swapped(model: nn.Module, batches: Any, step: int) -> dict[str, Any]:
    model[4] = nn.Linear(8, 3)
    return {}


def fails(model: nn.Module, batches: Any, step: int) -> dict[str, Any]:
    raise SystemExit("enough")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (scale, r"changed the model that is trained \(4\.weight\) at step 0"),
        (norms, r"changed the model that is trained \(1\.running_mean\)"),
        (swapped, r"changed the model that is trained \(4\.weight\)"),
        (fails, r"failed at step 0: SystemExit: enough \(test_probes\.py:\d+\)"),
        (lambda model, batches, step: None, "must return a dict .*, got None; does it lack a return"),
        (lambda model, batches, step: {"x": None}, "'x' must be a number"),
        (lambda model, batches, step: {"x": torch.full((2, 3, 4, 4), 0.5)}, "'x' must be .* has the shape"),
    ],
)
def test_what_a_probe_must_not_do_ends_the_run_with_its_name(function: Any, message: str) -> None:
    model = nn.Sequential(mlp()[0], nn.BatchNorm1d(8), nn.Tanh(), nn.Identity(), nn.Linear(8, 3))
    with pytest.raises(ProbeError, match=rf"^loop\.probes: my\.probe {message}") as raised:
        run_probes([probe(function)], new_state(model), ToyData())
    assert raised.value.exit_code == 1


def test_two_probes_that_return_the_same_name_are_told() -> None:
    same = [probe(lambda model, batches, step: {"x": 1}, name) for name in ("my.a", "my.b")]
    with pytest.raises(ProbeError, match=r"my\.b 'x' must be .*is the name of another result"):
        run_probes(same, new_state(mlp()), ToyData())


def test_every_tensor_has_a_digest_that_one_bit_changes() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to(torch.bfloat16)
    model.register_buffer("hidden", torch.zeros(0), persistent=False)
    before = digests([model])
    assert len(before) == 2 + 5 + 1
    model[1].num_batches_tracked += 1
    changed = {name for name, digest in digests([model]).items() if before[name] != digest}
    assert changed == {"1.num_batches_tracked"}


def test_a_rollback_runs_them_again(tmp_path: Path) -> None:
    class Bad(ToyData):
        def train_batches(self, *args: Any) -> Iterator[Any]:
            for number, batch in enumerate(super().train_batches(*args)):
                if number == 20:
                    batch.inputs[0] = torch.nan
                yield batch

    steps = {"nonfinite": "rollback"}
    trained = Toy(tmp_path / "run", data=Bad, step=steps, probes=(probe(accuracy),), keep_best=0).train()
    events = [type(event).__name__ for event in trained.events if isinstance(event, (Probed, RolledBack))]
    assert events.count("Probed") > 1
