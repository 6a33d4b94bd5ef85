"""A step that is made to fail in one known place must name that place, and change nothing."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import ranked
import torch
from torch import Tensor, nn
from toy import CLASSES, FEATURES, ToyData, ToyTask, mlp, momentum, new_state, new_step, same_bits

from trainrun.checkpoint.state import TrainState
from trainrun.protocols import NonFiniteReport, Outcome

SAMPLES = [3, 5, 8]


def finding(model: nn.Module, data: ToyData | None = None, task: Any = None) -> NonFiniteReport:
    """Of a step over SAMPLES, in two micro-batches."""
    data = data or ToyData()
    state, step = new_state(model, momentum), new_step(data, task or ToyTask(), accumulate=2)
    before = copy.deepcopy(model.state_dict())
    result = step(state, [data.batch(torch.tensor(part)) for part in (SAMPLES[:1], SAMPLES[1:])])
    assert not result.applied and result.finding is not None
    after = dict(model.named_parameters())
    assert same_bits(after, {name: before[name] for name in after})
    assert not any(module._forward_hooks for module in model.modules())
    return result.finding


class At(nn.Module):
    """Gives back what it gets, but for samples whose first feature is 100: there it fails in its own way."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        marked = (x[:, :1] == 100).float()
        if self.how == "output":
            return x / (1 - marked)
        return x + marked * ((x - x) * 1.0).abs().sqrt()  # 0 forward, 0 x infinity backward


def marked(sample: int) -> ToyData:
    data = ToyData()
    data.inputs[sample, 0] = 100.0
    return data


def test_bad_inputs_are_named_with_their_samples() -> None:
    data = ToyData()
    data.inputs[5, 2] = math.inf
    report = finding(mlp(), data)
    assert (report.where, list(report.samples)) == ("the inputs", [5])


def test_a_bad_weight_is_named() -> None:
    model = mlp()
    with torch.no_grad():
        model[3].bias[1] = math.nan
    data = ToyData()
    report = new_step(data, ToyTask())(new_state(model), [data.batch(torch.tensor(SAMPLES))]).finding
    assert report is not None
    assert (report.where, list(report.samples)) == ("the weight 3.bias", SAMPLES)


def test_the_first_module_whose_output_is_bad_is_named_with_the_sample() -> None:
    model = nn.Sequential(nn.Sequential(nn.Identity(), At("output")), nn.Linear(FEATURES, CLASSES))
    report = finding(model, marked(8))
    assert (report.where, list(report.samples)) == ("the output of 0.1 (At)", [8])


def test_the_tasks_own_arithmetic_is_named_where_outputs_are_finite() -> None:
    class Roots(ToyTask):
        def __call__(self, model: nn.Module, batch: Any) -> Outcome:
            outcome = super().__call__(model, batch)
            return Outcome({"loss": (outcome.terms["loss"] - 1e9).sqrt()}, outcome.sums, outcome.outputs)

    assert finding(mlp(), task=Roots()).where == "the task's loss, of outputs that are finite"


def test_a_gradient_is_named_where_all_before_was_finite() -> None:
    model = nn.Sequential(nn.Linear(FEATURES, FEATURES), At("gradient"), nn.Linear(FEATURES, CLASSES))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(FEATURES))
        model[0].bias.zero_()
    assert finding(model, marked(5)).where == "the gradient of 0.bias"  # not of 2: it came first, and whole


def test_a_norm_that_overflows_is_told_from_a_bad_gradient() -> None:
    class Steep(ToyTask):
        def __call__(self, model: nn.Module, batch: Any) -> Outcome:
            outcome = super().__call__(model, batch)
            return Outcome({"loss": outcome.terms["loss"] * 1e30}, outcome.sums, outcome.outputs)

    report = finding(mlp(), task=Steep())
    assert report.where.startswith("the sum of the squares of the gradient")
    assert list(report.samples) == SAMPLES


class Sometimes(nn.Module):
    """Fails by its own draw, which another draw would not show."""

    def forward(self, x: Tensor) -> Tensor:
        return x / (torch.rand(()) > 0.1)


def test_the_step_is_looked_at_with_its_own_draws() -> None:
    data, model = ToyData(), nn.Sequential(Sometimes(), nn.Linear(FEATURES, CLASSES))
    state, step = new_state(model), new_step(data, ToyTask(), nonfinite="skip")
    places = []
    for _ in range(100):
        result = step(state, [data.batch(torch.tensor(SAMPLES))])
        places += [result.finding.where] if result.finding else []
    assert 3 < len(places) < 30
    assert set(places) == {"the output of 0 (Sometimes)"}


def test_running_statistics_are_those_before() -> None:
    data = marked(5)
    data.inputs[5] = math.nan
    model = mlp(batch_norm=True)
    state, step = new_state(model), new_step(data, ToyTask(), nonfinite="skip")
    before = copy.deepcopy(model.state_dict())
    step(state, [data.batch(torch.tensor(SAMPLES))])
    assert same_bits(model.state_dict(), before)


class Overflow(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 0


def test_looking_leaves_running_statistics_as_the_step_left_them() -> None:
    """Neither those of a second forward pass, nor those of before the first."""
    model, data = nn.Sequential(mlp(batch_norm=True), Overflow()), ToyData()
    once, batch = copy.deepcopy(model), data.batch(torch.tensor(SAMPLES))
    once(batch.inputs)
    report = new_step(data, ToyTask())(new_state(model, momentum), [batch]).finding
    assert report is not None and report.where == "the output of 1 (Overflow)"
    buffers = dict(once.named_buffers())
    assert buffers and same_bits({name: report.replay["model"][name] for name in buffers}, buffers)
    assert same_bits(dict(model.named_buffers()), buffers)


def test_what_is_kept_shows_it_again() -> None:
    model = nn.Sequential(nn.Linear(FEATURES, FEATURES), At("output"), nn.Linear(FEATURES, CLASSES))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(FEATURES))
        model[0].bias.zero_()
    replay = finding(model, marked(8)).replay
    again = copy.deepcopy(model)
    with torch.no_grad():
        again[0].weight.zero_()
    again.load_state_dict(replay["model"])
    outputs = [again(batch["inputs"]) for batch in replay["batches"]]
    assert [list(map(int, batch["indices"])) for batch in replay["batches"]] == [[3], [5, 8]]
    assert [bool(torch.isfinite(output).all()) for output in outputs] == [True, False]


def test_ranks_agree_on_what_one_of_them_saw() -> None:
    with ranked.serving() as in_ranks:
        reports = in_ranks.values(2, ranked.break_sample, 7)
    assert reports[0] == reports[1]
    where, samples, _, batches = reports[0]
    assert (where, samples) == ("the inputs", [7])
    assert sorted(chain.from_iterable(batches)) == list(range(8))


def test_a_state_counts_what_was_skipped_in_a_row() -> None:
    data = ToyData()
    data.inputs[7] = math.nan
    state: TrainState = new_state(mlp())
    step, counted = new_step(data, ToyTask(), nonfinite="skip"), []
    for sample in (1, 7, 7, 2, 7):
        step(state, [data.batch(torch.tensor([sample]))])
        counted.append(state.skipped_in_a_row)
    assert counted == [0, 1, 2, 0, 1]


def test_any_kind_of_inputs_can_be_kept(tmp_path: Path) -> None:
    class Graph:
        pass

    class AnyInputs(ToyTask):
        def __call__(self, model: nn.Module, batch: Any) -> Outcome:
            return super().__call__(model, replace(batch, inputs=batch.inputs["x"][0]))

    data = ToyData()
    batch = data.batch(torch.tensor(SAMPLES))
    batch = replace(batch, inputs={"x": (batch.inputs * math.nan, "text"), "graph": Graph()})
    report = new_step(data, AnyInputs())(new_state(mlp()), [batch]).finding
    assert report is not None
    torch.save(dict(report.replay), tmp_path / "replay.pt")
    stored = torch.load(tmp_path / "replay.pt", weights_only=True)["batches"][0]
    assert stored["inputs"]["x"][1] == "text" and "Graph" in stored["inputs"]["graph"]
