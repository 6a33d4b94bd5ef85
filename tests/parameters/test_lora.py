"""LoRA by peft: the formula W + (alpha / rank) B A, what is trained, and the shape after merging."""

from __future__ import annotations

import copy
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from trainrun.parameters import Parameters
from trainrun.parameters.names import head_of
from trainrun.vocabulary.errors import ConfigError

pytestmark = pytest.mark.skipif(
    find_spec("peft") is None, reason="needs the extra: pip install 'trainrun[lora]'"
)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4), nn.Linear(4, 3))


def adapted(model: nn.Module, **lora: object) -> nn.Module:
    Parameters(False, 1.0, {}, None, lora).adapt(model)
    return model


def test_adapters_compute_the_formula_and_merge_into_it() -> None:
    from trainrun.parameters.lora import merge

    model, x = net().eval(), torch.randn(7, 5)
    plain = copy.deepcopy(model)
    adapted(model, rank=2, targets="0", alpha=8)
    assert torch.equal(model(x), plain(x))  # B is 0 at first
    weights = dict(model.named_parameters())
    with torch.no_grad():
        weights["0.lora_B.default.weight"].normal_()
    a, b = weights["0.lora_A.default.weight"].detach(), weights["0.lora_B.default.weight"].detach()
    expected = plain[0].weight.detach() + 8 / 2 * b @ a
    before = model(x)
    merge(model)
    assert model.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(model[0].weight, expected)
    torch.testing.assert_close(model(x), before)


def test_only_adapters_and_the_head_are_trained() -> None:
    model = adapted(net(), rank=2, targets=["0", "3"])
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    adapters = {f"{layer}.lora_{side}.default.weight" for layer in "03" for side in "AB"}
    assert trained == adapters | {"4.weight", "4.bias"}
    configs = Parameters(False, 1.0, {"backbone": {"freeze": True}}, None, None).param_configs(model, None)
    assert {config.name for config in configs if not config.frozen} == trained


def test_the_head_gets_no_adapter_even_where_a_pattern_matches_it() -> None:
    model = adapted(net(), rank=2, targets="*")
    assert {name.partition(".")[0] for name, _ in model.named_parameters() if "lora_" in name} == {"0", "3"}
    assert head_of(model) == {"4.weight", "4.bias"}


def test_attention_of_torch_is_adapted_and_merged_whole() -> None:
    from trainrun.parameters.lora import merge

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.attention(x, x, x, need_weights=False)[0])
            return out

    torch.manual_seed(0)
    model, x = Net(), torch.randn(3, 4, 8)
    plain = copy.deepcopy(model)
    adapted(model, rank=2, targets="*attention*")
    base = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in base.items())
    outputs = model.eval()(x)
    torch.testing.assert_close(
        copy.deepcopy(model)(x), outputs, rtol=0, atol=0
    )  # as an average of weights does
    assert all(torch.equal(dict(model.named_parameters())[name], value) for name, value in base.items())
    assert not torch.allclose(outputs, plain.eval()(x))
    merge(model)
    assert model.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(model(x), outputs)


def test_a_pattern_without_a_match_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"lora\.targets: \*attn\* matches no layer; nearest is"):
        adapted(net(), rank=2, targets=["0", "*attn*"])
    with pytest.raises(ConfigError, match="there is none but the head"):
        adapted(nn.Sequential(nn.Linear(2, 2)), rank=2, targets="*")
