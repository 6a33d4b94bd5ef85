"""With activation checkpointing a model computes the same bits, and keeps less."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from toy import same_bits

from trainrun.model.activation_checkpointing import checkpoint_activations
from trainrun.model.gpt import GPT
from trainrun.model.layers import DropPath
from trainrun.model.mlp import MLP
from trainrun.model.resnet import ResNet
from trainrun.model.transformer import Transformer
from trainrun.vocabulary.errors import ConfigError

NUMBERS = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TOKENS = torch.arange(48).view(6, 8) % 10


def mlp() -> nn.Module:
    return MLP((3, 8, 8), 2, width=8, depth=3, activation="relu", norm="batch", dropout=0.3, residual=True)


def gpt() -> nn.Module:
    return GPT((8,), 10, 10, width=8, depth=3, heads=2, dropout=0.3)


def transformer() -> nn.Module:
    return Transformer((3, 8, 8), 2, None, False, width=8, depth=2, heads=2, patch=4, dropout=0.3)


def resnet() -> nn.Module:
    model = ResNet((3, 8, 8), 2, depth=14, width=4, norm="batch", dropout=0.3)
    for module in model.modules():
        if isinstance(module, DropPath):
            module.p = 0.3
    return model


class Pairs(nn.Module):
    """A block of several inputs and outputs, by name too, whose buffers change and are read."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor, *, context_fn: dict[str, Tensor], debug: bool) -> tuple[Tensor, Any]:
        assert isinstance(self.calls, Tensor)
        self.calls += 1  # type: ignore[misc]
        y = self.dropout(self.linear(x)) * self.calls.clone() + context_fn["y"]
        return y.tanh(), {"y": y.sin(), "debug": debug}


class OfPairs(nn.Module):
    """The first block runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Pairs(), Pairs()])

    def forward(self, x: Tensor) -> Tensor:
        x, y = x[:, 0, :4, :4], {"y": torch.ones(4)}
        for layer in (*self.layers, self.layers[0]):
            x, y = layer(x, context_fn=y, debug=True)
        return x + y["y"]


def passed(model: nn.Module, inputs: Tensor, bf16: bool) -> dict[str, Any]:
    """All that two micro-batches leave behind, and how many bytes the graph of the second kept."""
    kept: dict[int, int] = {}
    weights = {p.data_ptr() for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if (storage := tensor.untyped_storage()).data_ptr() not in weights | {inputs.data_ptr()}:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    losses = []
    torch.manual_seed(3)
    for part in inputs.chunk(2):
        kept.clear()
        with saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, bf16):
            losses.append(model(part).float().square().mean())
        losses[-1].backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.eval()
    with torch.no_grad():
        outputs = model(inputs)
    result = {"losses": losses, "gradients": gradients, "state": model.state_dict(), "outputs": outputs}
    return result | {"drawn": torch.rand(1), "kept": sum(kept.values())}


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("make", [mlp, gpt, transformer, resnet, OfPairs])
def test_the_bits_are_the_same_and_less_is_kept(make: Any, bf16: bool) -> None:
    torch.manual_seed(0)
    plain = make()
    less = copy.deepcopy(plain)
    checkpoint_activations(less, "auto")
    inputs = TOKENS if make is gpt else NUMBERS
    expected, got = passed(plain, inputs, bf16), passed(less, inputs, bf16)
    assert got.pop("kept") < 0.8 * expected.pop("kept")
    assert same_bits(got, expected), "losses, gradients, running statistics, and what is drawn next"
    assert [*got["state"]] == [*expected["state"]]


def test_a_copy_trains_its_own_weights() -> None:
    """As the copies of weight averages, and of a model that searches try."""
    model = gpt()
    checkpoint_activations(model, "body.*")
    clone = copy.deepcopy(model)
    with torch.no_grad():
        clone.body[1][1].branch[1].weight.zero_()  # type: ignore[index, union-attr]
    clone(TOKENS).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in clone.body.parameters())
    model.eval(), clone.eval()
    assert not torch.equal(model(TOKENS), clone(TOKENS))


def test_hooks_of_a_block_run_once_and_those_within_it_to_their_end() -> None:
    """Sharding unshards in the former; the latter come in pairs, as LoRA's on attention."""
    model, calls = gpt(), []
    checkpoint_activations(model, "body.0")
    block = model.get_submodule("body.0")
    block.register_forward_hook(lambda *_: calls.append("block"))
    last = [*block.modules()][-1]
    last.register_forward_pre_hook(lambda *_: calls.append("begin"))
    last.register_forward_hook(lambda *_: calls.append("end"))
    model(TOKENS).sum().backward()
    assert calls == ["begin", "end", "block", "begin", "end"]


def test_what_matches_nothing_is_an_error_with_names_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"runtime\.activation_checkpointing: matches no module.*body"):
        checkpoint_activations(gpt(), "blocks.*")
