"""A step of two networks against a plain loop with two of torch's own optimizers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.toy import CPU, Constant
from trainrun.checkpoint.state import TrainState
from trainrun.loop.adversarial import _DRAWS, AdversarialStep
from trainrun.loop.step import Clip, Policy
from trainrun.model.gan import GAN
from trainrun.optimizer.sam import CompositeOptimizer
from trainrun.parallel.ddp import DDP
from trainrun.precision import Precision
from trainrun.protocols import Batch, DataInfo, Position
from trainrun.runtime.machine import seed_forward
from trainrun.task.gan import Adversarial

INFO = DataInfo("small", (1, 8, 8), "classes", 10, {})
RATES = {"generator": 2e-3, "discriminator": 1e-3}


def windows(count: int, cut: tuple[int, ...] = (6,)) -> list[list[Batch]]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for number in range(count):
        inputs = torch.rand(6, 1, 8, 8, generator=generator) * 2 - 1
        ends = Position(0, 6 * number + 6)
        made.append([Batch(part, None, torch.arange(len(part)), ends) for part in inputs.split(cut)])
    return made


def adam(parameters: Any, name: str) -> torch.optim.Adam:
    groups = [{"params": list(parameters), "name": name, "base_lr": RATES[name], "module": name}]
    return torch.optim.Adam(groups, RATES[name], betas=(0.5, 0.999))


def gan(norm: str = "batch") -> GAN:
    torch.manual_seed(0)
    return GAN((1, 8, 8), 8, 5, norm)  # type: ignore[arg-type]


def new_state(model: GAN) -> TrainState:
    parts = [adam(getattr(model, name).parameters(), name) for name in RATES]
    optimizer = CompositeOptimizer(parts, [*RATES])
    return TrainState(model, optimizer, Constant(), Precision("fp32", None, CPU), 9)


def new_step(
    clip: Clip | None = None, accumulate: int = 1, steps: int = 1, kind: Any = "dcgan"
) -> AdversarialStep:
    policy = Policy(clip or Clip(None, None, None), "stop", 3, 0.5)
    return AdversarialStep(
        Adversarial(INFO, kind, 10.0, steps), policy, (), {}, INFO, accumulate, 1, DDP(1, None)
    )


@pytest.mark.parametrize("discriminator_steps", [1, 3])
def test_it_is_the_usual_loop_of_two_optimizers(discriminator_steps: int) -> None:
    ours, theirs = gan(), gan()
    state, step = new_state(ours), new_step(steps=discriminator_steps)
    for window in windows(6):
        step(state, window)

    optimizers = {
        name: torch.optim.Adam(getattr(theirs, name).parameters(), RATES[name], (0.5, 0.999))
        for name in RATES
    }
    theirs.train()
    for number, [batch] in enumerate(windows(6)):
        ones, zeros = torch.ones(6, 1), torch.zeros(6, 1)
        seed_forward(1 ^ _DRAWS["discriminator"], number, CPU)
        with torch.no_grad():
            fake = theirs.generator(torch.randn(6, 5))
        bce = F.binary_cross_entropy_with_logits
        loss = bce(theirs.discriminator(batch.inputs), ones) + bce(theirs.discriminator(fake), zeros)
        optimizers["discriminator"].zero_grad()
        loss.backward()
        optimizers["discriminator"].step()
        if (number + 1) % discriminator_steps == 0:
            seed_forward(1 ^ _DRAWS["generator"], number, CPU)
            optimizers["generator"].zero_grad()
            bce(theirs.discriminator(theirs.generator(torch.randn(6, 5))), ones).backward()
            optimizers["generator"].step()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    assert (state.step, state.applied, state.samples, state.position) == (6, 6, 36, Position(0, 36))
    generators = state.optimizer.modules["generator"]  # type: ignore[attr-defined]
    [updates] = {
        int(memory["step"]) for p, memory in generators.state.items() if p in set(ours.generator.parameters())
    }
    assert updates == 6 // discriminator_steps


def test_a_cut_window_gives_the_whole_ones_gradient_without_batch_norm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Noise is drawn by micro-batch, so that here it is the same for all: none."""
    monkeypatch.setattr(torch, "randn", lambda *shape, device=None: torch.ones(*shape))
    results = []
    for cut, accumulate in (((6,), 1), ((4, 2), 2)):
        model = gan("none")
        model.generator = nn.Sequential(nn.Linear(5, 64), nn.Unflatten(1, (1, 8, 8)), nn.Tanh())
        with torch.no_grad():
            for parameter in model.generator.parameters():
                parameter.fill_(0.01)
        state = new_state(model)
        for window in windows(3, cut):
            result = new_step(accumulate=accumulate)(state, window)
        results.append((model.state_dict(), float(result.terms["loss"]), result.norm))
    (whole, loss, norm), (parts, loss_of_parts, norm_of_parts) = results
    assert loss_of_parts == pytest.approx(loss, rel=1e-5) and norm_of_parts == pytest.approx(norm, rel=1e-4)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-5)


def test_the_gradients_are_clipped_apart() -> None:
    model = gan()
    state, limit = new_state(model), 1e-3
    result = new_step(Clip(limit, None, None))(state, windows(1)[0])
    assert float(result.norm_after) == pytest.approx(limit, rel=1e-3) and result.norm > limit
    of_generator = torch.nn.utils.get_total_norm([p.grad for p in model.generator.parameters()])
    assert float(of_generator) == pytest.approx(limit, rel=1e-3)
    assert all(p.grad is None for p in model.discriminator.parameters())


def test_a_gradient_that_is_not_finite_changes_nothing_and_is_located() -> None:
    model, [[batch]] = gan(), windows(1)
    before = copy.deepcopy(model.state_dict())
    state = new_state(model)
    batch.inputs[2, 0, 0, 0] = float("nan")
    result = new_step()(state, [batch])
    assert not result.applied and (state.step, state.applied, state.skipped) == (1, 0, 1)
    assert result.finding is not None and result.finding.where == "the inputs"
    weights = dict(model.named_parameters())
    assert all(torch.equal(weights[name], before[name]) for name in weights)


@pytest.mark.parametrize("kind", ["dcgan", "wgan_gp"])
def test_bf16_trains(kind: str) -> None:
    state = new_state(gan("group"))
    state.precision = Precision("bf16", torch.bfloat16, CPU)
    for window in windows(2):
        assert new_step(kind=kind)(state, window).applied
