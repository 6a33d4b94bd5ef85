"""What one step asks of torch, beside a loop by hand: counts that no load changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torch.profiler import profile

from trainrun.assembly.build import Parts, build
from trainrun.config.compose.composer import Composer
from trainrun.data.resident import InMemoryData

STEPS = 4
MLP = ("data=digits", "model=mlp", "optimizer=adamw", "batch_size=64", "budget=9ep", "logger=none")


def cost(step: Callable[[], object]) -> tuple[float, float]:
    """(aten calls, allocations) of one step, after the first ones, which make an optimizer's state."""
    for _ in range(2):
        step()
    with profile(profile_memory=True) as profiled:
        for _ in range(STEPS):
            step()
    events = profiled.profiler.kineto_results.events()
    calls = sum(event.name().startswith("aten::") for event in events)
    allocations = sum(event.name() == "[memory]" and event.nbytes() > 0 for event in events)
    return calls / STEPS, allocations / STEPS


@pytest.mark.parametrize("clip", [1e-3, 1e9])
def test_a_step_asks_no_more_than_a_loop_by_hand(clip: float, tmp_path: Path) -> None:
    parts = build(Composer().checked([*MLP, f"loop.clip.norm={clip}"]).settings)
    loop, state = parts.loop(tmp_path, "run", None, parts.runtime.signals()), parts.state
    windows = loop.windows(state)

    def ours() -> None:
        state.meter.add(loop.step(state, next(windows)))

    calls, allocations = cost(ours)
    calls_by_hand, allocations_by_hand = cost(by_hand(parts, clip))
    assert calls <= calls_by_hand, "the step asks more of torch than before: see what was added to it"
    assert allocations <= allocations_by_hand + 2, "the step allocates more than before"


def by_hand(parts: Parts, clip: float) -> Callable[[], None]:
    """A step of the same model and data, with torch's fused AdamW and the gradient's norm."""
    model, data, rows = parts.state.model, parts.data, torch.arange(64)
    assert isinstance(data, InMemoryData)
    decayed, spared = (
        [p for p in model.parameters() if (p.ndim > 1) is is_matrix] for is_matrix in (True, False)
    )
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": spared, "weight_decay": 0.0}], fused=True)

    def step() -> None:
        inputs = data.inputs.index_select(0, rows).to(torch.float32).sub_(data.shift).mul_(data.scale)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(inputs), data.targets.index_select(0, rows)).backward()
        gradients = [p.grad for p in (*decayed, *spared) if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if norm > clip:
            torch._foreach_mul_(gradients, clip / norm)
        optimizer.step()

    return step
