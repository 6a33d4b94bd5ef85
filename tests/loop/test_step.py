"""The step against torch's own arithmetic: accumulation, clipping, skipping, several passes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toy import CLASSES, CPU, FEATURES, ToyData, ToyTask, adamw, mlp, momentum, new_state, new_step, same_bits

from trainrun import ranks
from trainrun.checkpoint.state import TrainState
from trainrun.loop import step as loop_step
from trainrun.loop.step import Clip, WindowGradients, are_finite
from trainrun.loss import CrossEntropy, as_loss
from trainrun.precision import Precision, ScaledPrecision
from trainrun.protocols import Batch, BatchSpec, Outcome, Position
from trainrun.regularization.ema import EMA
from trainrun.regularization.label_smoothing import LabelSmoothing
from trainrun.regularization.mixing import Mixup
from trainrun.regularization.penalty import L2
from trainrun.task.classification import Classification
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.seeds import stream

Optimizers = Callable[[Any, float], torch.optim.Optimizer]


def windows(data: ToyData, batch_size: int, accumulate: int, count: int) -> list[list[Batch]]:
    """Windows that end with the epoch, gathered here independently of the loop."""
    batches = data.train_batches(Position(), BatchSpec(batch_size, accumulate), seed=1)

    def gather() -> Any:
        window: list[Batch] = []
        for batch in batches:
            window.append(batch)
            if len(window) == accumulate or batch.position.offset == 0:
                yield window
                window = []

    return list(islice(gather(), count))


def fp16(init_scale: float = 2.0**10) -> ScaledPrecision:
    return ScaledPrecision(CPU, init_scale, growth_interval=4)


class OneBadSample(ToyData):
    """Sample 7 is not a number."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs[7] = math.nan


class NoNumber(ToyTask):
    """The loss is not a number."""

    def __call__(self, model: Any, batch: Any) -> Any:
        outcome = super().__call__(model, batch)
        return replace(outcome, terms={"loss": outcome.terms["loss"] * math.nan})


# Accumulation


@pytest.mark.parametrize("optimizer", [momentum, adamw], ids=["momentum", "adamw"])
@pytest.mark.parametrize("clip", [None, 0.3])
def test_accumulation_equals_the_large_batch_over_epochs_with_a_ragged_last_window(
    optimizer: Optimizers, clip: float | None
) -> None:
    data, epochs = ToyData(), 3
    weights, norms = [], []
    for batch_size, accumulate in ((12, 1), (4, 3), (6, 2), (3, 4)):
        state = new_state(mlp(), optimizer)
        step = new_step(data, ToyTask(), Clip(clip, None, None), accumulate=accumulate)
        results = [step(state, window) for window in windows(data, batch_size, accumulate, 4 * epochs)]
        assert [result.num_samples for result in results] == [12, 12, 12, 5] * epochs
        weights.append(torch.cat([p.detach().flatten() for p in state.model.parameters()]))
        norms.append([result.norm for result in results])
    for weight, norm in zip(weights[1:], norms[1:], strict=True):
        torch.testing.assert_close(weight, weights[0], rtol=0, atol=1e-6)
        assert norm == pytest.approx(norms[0], rel=1e-4)


@pytest.mark.parametrize("class_weights", [[0.2, 1.0, 5.0], "balanced"])
def test_accumulation_with_class_weights_is_torchs_weighted_mean_of_the_whole_window(
    class_weights: Any,
) -> None:
    data = ToyData()
    counts = tuple(torch.bincount(data.targets[data.splits["train"]]).tolist())
    data.info = replace(data.info, class_counts=counts)
    loss = CrossEntropy(class_weights, counts)
    task = Classification(metrics=[], loss=loss, info=data.info)
    state, step = new_state(mlp()), new_step(data, task, accumulate=3)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for window in windows(data, 4, 3, 8):
        result = step(state, window)
        optimizer.zero_grad()
        whole = data.batch(torch.cat([torch.as_tensor(batch.indices) for batch in window]))
        expected = F.cross_entropy(model(whole.inputs), whole.targets, weight=loss.class_weights)
        expected.backward()
        optimizer.step()
        mean = float(result.terms["loss"]) / float(result.counts["loss"])
        assert mean == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(state.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


# torch's own, of a whole window; mixtures as their papers have them, a sum of two.
WEIGHTED: dict[str, Callable[[], nn.Module]] = {
    "ours": lambda: CrossEntropy([0.2, 1.0, 5.0], ()),
    "torch's": lambda: as_loss(nn.CrossEntropyLoss(torch.tensor([0.2, 1.0, 5.0]))),
}


@pytest.mark.parametrize("loss", WEIGHTED)
@pytest.mark.parametrize("amount", [0.0, 0.1, 0.6])
def test_label_smoothing_with_class_weights_is_torchs_own_of_the_whole_window(
    loss: str, amount: float
) -> None:
    data = ToyData()
    task = Classification(metrics=[], loss=WEIGHTED[loss](), info=data.info)
    state = new_state(mlp())
    step = new_step(data, task, accumulate=3, batch_changes=[LabelSmoothing(amount)])
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for window in windows(data, 4, 3, 8):
        result = step(state, window)
        optimizer.zero_grad()
        whole = data.batch(torch.cat([torch.as_tensor(batch.indices) for batch in window]))
        expected = F.cross_entropy(
            model(whole.inputs), whole.targets, torch.tensor([0.2, 1.0, 5.0]), label_smoothing=amount
        )
        expected.backward()
        optimizer.step()
        mean = float(result.terms["loss"]) / float(result.counts["loss"])
        assert mean == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(state.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("amount", [None, 0.2])
@pytest.mark.parametrize("is_smoothed_first", [False, True])
def test_mixtures_with_class_weights_are_the_papers_sum_of_two(
    amount: float | None, is_smoothed_first: bool
) -> None:
    data, weights = ToyData(), torch.tensor([0.2, 1.0, 5.0])
    task = Classification(metrics=[], loss=CrossEntropy(weights.tolist(), ()), info=data.info)
    changes = [Mixup(1.0), *([] if amount is None else [LabelSmoothing(amount)])]
    step = new_step(data, task, batch_changes=changes[::-1] if is_smoothed_first else changes)
    window, model = windows(data, 12, 1, 1)[0], mlp()
    result = step(new_state(mlp()), window)
    plain = data.batch(torch.as_tensor(window[0].indices))
    mixed = new_step(data, task, batch_changes=[Mixup(1.0)]).changed(window[0], 0, 0)
    each = F.one_hot(plain.targets, CLASSES).float()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(stream(1 ^ 0x5EED, 0)))
    moved = plain.targets != plain.targets[order]
    share = float(mixed.targets[moved][0][plain.targets[moved][0]])
    torch.testing.assert_close(mixed.targets, share * each + (1 - share) * each[order])
    outputs = model(mixed.inputs)
    first, second = (
        F.cross_entropy(outputs, targets, weights, label_smoothing=amount or 0.0)
        for targets in (plain.targets, plain.targets[order])
    )
    expected = share * first + (1 - share) * second
    assert float(result.terms["loss"] / result.counts["loss"]) == pytest.approx(expected.item(), rel=1e-5)


def test_a_step_counts_what_it_was_given() -> None:
    data = ToyData()
    state, step = new_state(mlp()), new_step(data, ToyTask(), accumulate=3)
    for window in windows(data, 4, 3, 5):
        step(state, window)
    assert (state.step, state.applied, state.skipped, state.samples) == (5, 5, 0, 41 + 12)
    assert state.position == Position(epoch=1, offset=12)


def test_dropout_is_drawn_from_the_step_alone() -> None:
    data = ToyData()
    window = windows(data, 4, 3, 1)[0]

    def norm(step_index: int, disturbance: int, seed: int = 1) -> float:
        state = new_state(mlp(dropout=0.5))
        state.step = step_index
        torch.manual_seed(disturbance)
        return new_step(data, ToyTask(), accumulate=3, seed=seed)(state, window).norm

    assert norm(3, disturbance=0) == norm(3, disturbance=99)
    assert len({norm(0, 0), norm(1, 0), norm(2, 0), norm(0, 0, seed=2)}) == 4


def test_micro_batches_of_one_step_draw_differently() -> None:
    class Draws(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.draws = mlp(), []

        def forward(self, inputs: Tensor) -> Tensor:
            self.draws.append(float(torch.rand(())))
            return self.inner(inputs)

    data, model = ToyData(), Draws()
    state, step = new_state(model), new_step(data, ToyTask(), accumulate=3)
    for window in windows(data, 4, 3, 4):
        step(state, window)
    assert len(model.draws) == 3 * 3 + 2
    assert len(set(model.draws)) == len(model.draws)


# Clipping


@pytest.mark.parametrize("limit", [1e-3, 0.5, 1.0, 1e3])
def test_clipping_by_norm_is_torchs(limit: float) -> None:
    ours, theirs = _gradients(), _gradients()
    norm = float(torch.nn.utils.get_total_norm([p.grad for p in ours]))
    after = Clip(limit, None, None)([p.grad for p in ours], [], norm)
    torch.nn.utils.clip_grad_norm_(theirs, limit)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=0)
    clipped = torch.nn.utils.get_total_norm([p.grad for p in theirs])
    assert float(after) == pytest.approx(float(clipped), rel=1e-5)


@pytest.mark.parametrize("limit", [1e-3, 0.5, 1e3])
def test_clipping_by_value_is_torchs(limit: float) -> None:
    ours, theirs = _gradients(), _gradients()
    after = Clip(None, limit, None)([p.grad for p in ours], [], 1.0)
    torch.nn.utils.clip_grad_value_(theirs, limit)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours, theirs, strict=True))
    assert float(after) == float(torch.nn.utils.get_total_norm([p.grad for p in theirs]))


def _gradients() -> list[Any]:
    generator = torch.Generator().manual_seed(3)
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((4, 3), (7,), (1, 2, 2))]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return parameters


def test_agc_limits_each_unit_by_the_size_of_its_weights() -> None:
    """Brock et al. (2021), equation 3, unit by unit: rows of matrices and kernels, vectors whole."""
    torch.manual_seed(0)
    shapes: list[tuple[int, ...]] = [(3, 4), (2, 3, 2, 2), (5,)]
    weights = [torch.randn(shape) for shape in shapes]
    weights[0][1] = 0.0  # counts as 0.001
    gradients = [torch.randn(shape) * 0.1 for shape in shapes]
    gradients[1][0] *= 1e-4  # small enough to be left alone
    wanted = [gradient.clone() for gradient in gradients]
    for weight, gradient in zip(weights, wanted, strict=True):
        units = zip(weight, gradient, strict=True) if weight.ndim > 1 else [(weight, gradient)]
        for w, g in units:
            most = 0.01 * max(float(w.norm()), 1e-3)
            g *= min(1.0, most / float(g.norm()))
    after = Clip(None, None, 0.01)(gradients, weights, 1.0)
    torch.testing.assert_close(gradients, wanted)
    assert float(after) == pytest.approx(float(torch.cat([g.flatten() for g in wanted]).norm()), rel=1e-5)


@pytest.mark.parametrize("clip", [Clip(0.2, None, None), Clip(None, 0.05, None)], ids=["norm", "value"])
def test_a_clipped_step_is_torchs_and_says_both_norms(clip: Clip) -> None:
    data = ToyData()
    state, step = new_state(mlp(), adamw), new_step(data, ToyTask(), clip)
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), 0.05, weight_decay=0.01)
    for window in windows(data, 8, 1, 6):
        result = step(state, window)
        optimizer.zero_grad()
        F.cross_entropy(model(window[0].inputs), window[0].targets).backward()
        before = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
        if clip.norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip.norm)
        else:
            torch.nn.utils.clip_grad_value_(model.parameters(), clip.value)
        after = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
        optimizer.step()
        assert result.norm == pytest.approx(float(before), rel=1e-5)
        assert float(result.norm_after) == pytest.approx(float(after), rel=1e-5)
    for ours, theirs in zip(state.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


# Half precision


def test_fp16_with_loss_scaling_learns_on_a_cpu_as_fp32_does() -> None:
    data = ToyData()
    losses = []
    for precision in (Precision("fp32", None, CPU), fp16()):
        state, step = new_state(mlp(), precision=precision), new_step(data, ToyTask(), accumulate=3)
        results = [step(state, window) for window in windows(data, 4, 3, 24)]
        losses.append([float(r.terms["loss"]) / r.num_samples for r in results])
        assert state.skipped == 0
    assert losses[1] == pytest.approx(losses[0], abs=0.02)
    assert losses[1][-1] < 0.5 * losses[1][0]


def test_fp16_gradients_are_those_of_the_unscaled_loss() -> None:
    data = ToyData()
    window = windows(data, 12, 1, 1)[0]
    norms = []
    for precision in (Precision("fp32", None, CPU), fp16(2.0**12)):
        state = new_state(mlp(), precision=precision)
        norms.append(new_step(data, ToyTask())(state, window).norm)
    assert norms[1] == pytest.approx(norms[0], rel=0.01)


# What is not finite


def _everything(state: TrainState) -> dict[str, Any]:
    return copy.deepcopy(
        {
            "weights": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict()["state"],
            "average": state.weight_average.state_dict() if state.weight_average else {},
        }
    )


@pytest.mark.parametrize("optimizer", [momentum, adamw], ids=["momentum", "adamw"])
@pytest.mark.parametrize("steps_before", [0, 2])
def test_a_step_that_the_scaler_skips_leaves_no_trace_but_its_count(
    optimizer: Optimizers, steps_before: int
) -> None:
    data = ToyData()
    asked: list[int] = []

    def schedule(update: int) -> tuple[float, None]:
        asked.append(update)
        return 1 / (1 + update), None

    weight_average = EMA(0.9)
    state = new_state(
        mlp(batch_norm=True), optimizer, precision=fp16(), weight_average=weight_average, schedule=schedule
    )
    step = new_step(data, ToyTask())
    cut = windows(data, 8, 1, steps_before + 2)
    for window in cut[:steps_before]:
        step(state, window)
    before, scale = _everything(state), state.precision.scale
    state.precision.scale = 2.0**200  # overflows whatever the gradient
    result = step(state, cut[steps_before])
    assert not result.applied and not math.isfinite(result.norm)
    assert same_bits(_everything(state), before)
    assert (state.step, state.applied, state.skipped) == (steps_before + 1, steps_before, 1)
    assert state.precision.scale == 2.0**199
    state.precision.scale = scale
    assert step(state, cut[steps_before + 1]).applied
    assert asked == [*range(steps_before + 1), steps_before]  # the skipped one did not advance it
    assert state.optimizer.param_groups[0]["lr"] == 0.05 / (1 + steps_before)


@pytest.mark.parametrize("with_closure", [False, True], ids=["sgd", "lbfgs"])
@pytest.mark.parametrize("policy", ["stop", "skip", "rollback"])
def test_a_gradient_that_is_not_finite_changes_no_weight_and_names_the_samples(
    with_closure: bool, policy: str
) -> None:
    data = OneBadSample()
    optimizer = lbfgs if with_closure else momentum
    state, step = new_state(mlp(), optimizer), new_step(data, ToyTask(), nonfinite=policy)
    before = _everything(state)
    result = step(state, [data.batch(torch.tensor([6, 7, 8]))])
    assert same_bits(_everything(state), before)
    assert (result.applied, state.step, state.applied) == (False, 1, 0)
    assert result.finding is not None and list(result.finding.samples) == [7]


@pytest.mark.parametrize("with_closure", [False, True], ids=["sgd", "lbfgs"])
def test_nonfinite_skip_goes_on_as_if_the_step_had_not_been(with_closure: bool) -> None:
    data = OneBadSample()
    optimizer = lbfgs if with_closure else momentum
    good = [data.batch(torch.arange(start, start + 8)) for start in (8, 16, 24)]
    bad = data.batch(torch.arange(8))
    weights = []
    for sequence in ([good[0], bad, good[1], bad, good[2]], good):
        state = new_state(mlp(batch_norm=True), optimizer)
        step = new_step(data, ToyTask(), nonfinite="skip")
        results = [step(state, [batch]) for batch in sequence]
        assert [r.applied for r in results] == [batch is not bad for batch in sequence]
        assert (state.applied, state.skipped) == (3, len(sequence) - 3)
        weights.append(state.model.state_dict())
    assert same_bits(*weights)


def test_a_model_without_a_gradient_is_said_in_words() -> None:
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.ones(()))
            self.used = nn.Linear(FEATURES, CLASSES)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.used(inputs)

    model, data = Deaf(), ToyData()
    state = new_state(model)
    state.optimizer = torch.optim.SGD([{"params": [model.unused], "name": "all", "base_lr": 0.1}], 0.1)
    with pytest.raises(ConfigError, match="no parameter gets a gradient"):
        new_step(data, ToyTask())(state, windows(data, 8, 1, 1)[0])


# Several passes


def lbfgs(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, 1.0, max_iter=6, history_size=4, line_search_fn="strong_wolfe")


def double(data: ToyData) -> ToyData:
    data.inputs = data.inputs.double()
    return data


@pytest.mark.parametrize("cut", [(41, 1), (14, 3)], ids=["one batch", "three micro-batches"])
def test_lbfgs_is_torchs_on_the_full_batch(cut: tuple[int, int]) -> None:
    data = double(ToyData())
    state = new_state(mlp().double(), lbfgs, lr=1.0)
    step = new_step(data, ToyTask(), accumulate=cut[1])
    model = mlp().double()
    optimizer = lbfgs(model.parameters(), 1.0)
    train = data.splits["train"]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data.inputs[train]), data.targets[train])
        loss.backward()
        return loss

    for window in windows(data, *cut, 4):
        result = step(state, window)
        first = optimizer.step(closure)
        assert float(result.terms["loss"]) / 41 == pytest.approx(first.item(), rel=1e-10)
    for ours, theirs in zip(state.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_several_passes_use_one_draw_of_dropout_and_update_running_statistics_once() -> None:
    data = ToyData()
    window = windows(data, 12, 1, 1)[0]
    state = new_state(mlp(dropout=0.5, batch_norm=True), lbfgs, schedule=lambda update: (1.0, None))
    once = copy.deepcopy(state.model).train()
    masks: list[Tensor] = []
    state.model[3].register_forward_hook(lambda module, args, output: masks.append(output == 0))
    new_step(data, ToyTask())(state, window)
    assert len(masks) > 2
    assert all(torch.equal(mask, masks[0]) for mask in masks)
    once(window[0].inputs)
    for ours, theirs in zip(state.model[1].buffers(), once[1].buffers(), strict=True):
        assert torch.equal(ours, theirs)


class FailsAtPass(ToyTask):
    """Gives a loss that is not finite at the n-th forward pass."""

    def __init__(self, fails_at: int) -> None:
        super().__init__()
        self.fails_at, self.passes = fails_at, 0

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        outcome = super().__call__(model, batch)
        self.passes += 1
        factor = math.inf if self.passes == self.fails_at else 1.0
        return Outcome({"loss": outcome.terms["loss"] * factor}, outcome.sums)


@pytest.mark.parametrize("fails_at", [1, 2, 4])
def test_several_passes_are_undone_if_any_is_not_finite(fails_at: int) -> None:
    data = ToyData()
    state = new_state(mlp(batch_norm=True), lbfgs)
    new_step(data, ToyTask(), nonfinite="skip")(state, windows(data, 12, 1, 1)[0])  # gives L-BFGS a memory
    before = _everything(state)
    result = new_step(data, FailsAtPass(fails_at), nonfinite="skip")(state, windows(data, 12, 1, 2)[1])
    assert not result.applied
    assert same_bits(_everything(state), before)
    assert (state.step, state.applied) == (2, 1)


@pytest.mark.parametrize(("value", "finite"), [(1e30, True), (math.nan, False), (-math.inf, False)])
def test_weights_are_finite_up_to_the_largest_float(value: float, finite: bool) -> None:
    weights = [nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.tensor([1.0, value])), torch.ones(0)]
    assert are_finite(weights) is finite


# Penalties, rates, batch changes


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_penalty_counts_once_an_update_however_the_window_is_cut(accumulate: int) -> None:
    strength, data = 0.02, ToyData()
    state = new_state(mlp())
    step = new_step(data, ToyTask(), accumulate=accumulate, penalties={"l2": L2(strength)})
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for window in windows(data, 12 // accumulate, accumulate, 5):
        result = step(state, window)
        whole = data.batch(torch.cat([torch.as_tensor(batch.indices) for batch in window]))
        optimizer.zero_grad()
        penalty = strength * sum((p**2).sum() for p in model.parameters() if p.ndim > 1)
        (F.cross_entropy(model(whole.inputs), whole.targets) + penalty).backward()
        optimizer.step()
        assert float(result.penalties["l2"]) == pytest.approx(penalty.item(), rel=1e-5)
    for ours, theirs in zip(state.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_the_schedule_sets_rates_relative_to_each_group_and_momentum_in_its_place() -> None:
    data = ToyData()
    for optimizer, key in ((momentum, "momentum"), (adamw, "betas")):
        state = new_state(mlp(), optimizer, schedule=lambda update: (0.5**update, 0.8 + 0.01 * update))
        parameters = state.optimizer.param_groups[0]["params"]
        state.optimizer.param_groups[0]["params"] = parameters[:2]
        state.optimizer.add_param_group({"params": parameters[2:], "name": "slow", "base_lr": 0.005})
        step = new_step(data, ToyTask())
        for update, window in enumerate(windows(data, 8, 1, 3)):
            step(state, window)
            for group in state.optimizer.param_groups:
                assert group["lr"] == group["base_lr"] * 0.5**update
                set_to = group[key][0] if key == "betas" else group[key]
                assert set_to == 0.8 + 0.01 * update
                assert key != "betas" or group["betas"][1] == 0.999


def test_without_momentum_in_the_schedule_the_optimizers_own_stays() -> None:
    data = ToyData()
    state = new_state(mlp(), momentum)
    new_step(data, ToyTask())(state, windows(data, 8, 1, 1)[0])
    assert state.optimizer.param_groups[0]["momentum"] == 0.9


def test_batch_changes_draw_from_step_and_micro_batch_alone() -> None:
    class Noise:
        def __init__(self) -> None:
            self.drawn: list[float] = []

        def change_batch(self, batch: Batch, info: Any, generator: torch.Generator) -> Batch:
            self.drawn.append(float(torch.rand((), generator=generator)))
            return batch

    data, draws = ToyData(), []
    for start in (0, 2):  # from the beginning, and resumed at step 2
        noise, state = Noise(), new_state(mlp())
        state.step = start
        step = new_step(data, ToyTask(), accumulate=3, batch_changes=[noise])
        for window in windows(data, 4, 3, 4)[start:]:
            step(state, window)
        draws.append(noise.drawn)
    assert len(set(draws[0])) == 3 + 3 + 3 + 2
    assert draws[1] == draws[0][6:]


def test_an_empty_share_of_a_mixed_window_sums_what_the_others_sum() -> None:
    data = ToyData()
    task = Classification([], CrossEntropy(None, None), data.info)
    step, state = new_step(data, task, batch_changes=[Mixup(1.0)]), new_state(mlp())
    names = []
    for count in (4, 0):
        batch = Batch(data.inputs[:count], data.targets[:count], range(count), Position())
        (changed,) = WindowGradients(step, state, [step.changed(batch, 0, 0)]).window
        names.append(list(task(state.model.train(), changed).sums))
    assert names == [["correct_mixed"]] * 2


def test_counts_that_float32_cannot_hold_are_summed_before_the_loss_is_weighed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside the gradients they would be sums in float32."""
    assert int(torch.tensor(float(loop_step._EXACT + 1))) == loop_step._EXACT
    data = ToyData()
    state, step, window = new_state(mlp()), new_step(data, ToyTask()), windows(data, 12, 1, 1)[0]
    monkeypatch.setattr(ranks, "size", lambda: 2)
    assert WindowGradients(step, state, window)._counting is None
    monkeypatch.setattr(loop_step, "_EXACT", 11)
    assert WindowGradients(step, state, window)._counting is not None
