"""Transformer blocks compute what torch's own layer and a loop over places compute."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from trainrun.model.attention import Attention, block, initialize
from trainrun.vocabulary.errors import ConfigError

N, T, D, H = 3, 7, 16, 4


def brute_force(layer: Attention, x: Tensor) -> Tensor:
    """One place, one head, one sum at a time."""
    out, size = torch.zeros_like(x), D // H
    for n in range(N):
        q, k, v = layer.qkv(x[n]).split(D, 1)
        for h in range(H):
            part = slice(h * size, (h + 1) * size)
            for t in range(T):
                visible = range(t + 1) if layer.causal else range(T)
                scores = torch.stack([q[t, part] @ k[s, part] / math.sqrt(size) for s in visible])
                weights = scores.exp() / scores.exp().sum()
                out[n, t, part] = sum(w * v[s, part] for w, s in zip(weights, visible, strict=True))
    return out


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_a_weighted_mean_over_what_a_place_sees(causal: bool) -> None:
    layer, x = Attention(D, H, causal, 0.0), torch.randn(N, T, D, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), brute_force(layer, x))


@pytest.mark.parametrize("causal", [False, True])
def test_a_block_is_torchs_encoder_layer_with_the_same_weights(causal: bool) -> None:
    ours = block(D, H, causal, 0.0)
    theirs = nn.TransformerEncoderLayer(
        D, H, 4 * D, 0.0, nn.functional.gelu, batch_first=True, norm_first=True
    )
    (norm1, attention, projection, _), (norm2, up, _, down, _) = (residual.branch for residual in ours)
    pairs = {
        "norm1": norm1,
        "self_attn.in_proj_": attention.qkv,
        "self_attn.out_proj": projection,
        "norm2": norm2,
        "linear1": up,
        "linear2": down,
    }
    state = {}
    for name, layer in pairs.items():
        for kind, value in layer.named_parameters():
            state[f"{name}{kind}" if name.endswith("_") else f"{name}.{kind}"] = value.detach()
    theirs.load_state_dict(state)
    x = torch.randn(N, T, D, generator=torch.Generator().manual_seed(1))
    mask = nn.Transformer.generate_square_subsequent_mask(T) if causal else None
    torch.testing.assert_close(ours(x), theirs(x, src_mask=mask, is_causal=causal))


def test_dropout_acts_on_attentions_weights_in_training_alone() -> None:
    layer, x = Attention(D, H, False, 0.5), torch.randn(N, T, D)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_initial_weights_are_gpt2s() -> None:
    depth, width = 3, 256
    model = nn.Sequential(nn.Embedding(50, width), *(block(width, 4, True, 0.0) for _ in range(depth)))
    torch.manual_seed(0)
    initialize(model)
    ends = [residual.branch[2 if i == 0 else 3] for layer in model[1:] for i, residual in enumerate(layer)]
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Embedding)):
            expected = 0.02 / math.sqrt(2 * depth) if layer in ends else 0.02
            assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.03)
        if isinstance(layer, nn.Linear):
            assert not layer.bias.any()


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match=r"model\.heads: must divide model\.width=16, got 3"):
        Attention(16, 3, False, 0.0)
