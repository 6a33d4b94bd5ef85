"""The estimate of activations, against what one whole micro-batch keeps."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from trainrun.assembly.build import Parts, build
from trainrun.config.compose.composer import Composer
from trainrun.model.activation_checkpointing import plain_forwards
from trainrun.protocols import Position
from trainrun.runtime.machine import seeded

ON = "runtime.activation_checkpointing=auto"


def parts_of(*words: str) -> Parts:
    words = ("data.limit=200", "batch_size=48", "runtime.threads=1", *words)
    return build(Composer().checked([*words]).settings)


def kept_by(parts: Parts) -> int:
    """The bytes, beside weights, of all that one micro-batch saves for its backward pass."""
    state, kept = parts.state, dict[int, int]()
    weights = {p.data_ptr() for p in state.model.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        if (storage := tensor.untyped_storage()).data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = next(iter(parts.data.train_batches(Position(), parts.batch_spec, 0)))
    with saved_tensors_hooks(pack, lambda tensor: tensor), state.precision.autocast():
        graph = parts.task(state.model, batch)
        del graph
    return sum(kept.values())


@pytest.mark.parametrize(
    "words",
    [
        ["model=mlp", "model.depth=6", "model.norm=batch", "model.dropout=0.1"],
        ["model=mlp", "model.depth=4", "model.width=300", "precision=bf16"],  # casts of the weights, once
        ["model=transformer", "model.patch=2"],
        ["model=resnet", "model.depth=14", "model.width=8"],
    ],
)
def test_the_estimate_is_near_what_is_kept(words: list[str]) -> None:
    plain, parts = parts_of(*words), parts_of(*words, ON)
    assert plain.activations is None
    assert (estimate := parts.activations) is not None
    assert estimate.num_blocks == len(plain_forwards(parts.state.model))
    assert estimate.plain == pytest.approx(kept_by(plain), rel=0.1)
    assert kept_by(parts) < estimate.checkpointed < estimate.plain, "and one block's at a time"
    text = dict(parts.plan)["memory"]
    assert " of activations; activations are an estimate, " in text
    assert text.endswith(f" without checkpointing of {estimate.num_blocks} blocks")


def test_estimating_leaves_no_trace() -> None:
    """Weights, running statistics and draws are those of a run without it."""
    words = ["model=resnet", "model.depth=8", "model.width=4", "model.dropout=0.1"]
    with seeded(1):
        plain, drawn = parts_of(*words), torch.rand(1)
    with seeded(1):
        parts, also = parts_of(*words, ON), torch.rand(1)
    assert torch.equal(drawn, also)
    ours, theirs = parts.state.model.state_dict(), plain.state.model.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert len(plain_forwards(parts.state.model)) == 3


def test_a_pass_that_fails_costs_no_more_than_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = parts_of("model=mlp", ON)
    from trainrun.assembly.activations import activations_of

    monkeypatch.setattr(type(parts.task), "__call__", lambda *_: 1 / 0)
    assert activations_of(parts) is None
    assert len(plain_forwards(parts.state.model)) == 2, "blocks are as they were"
    monkeypatch.setattr(parts.data, "train_batches", lambda *_: islice((), 0))
    assert activations_of(parts) is None
