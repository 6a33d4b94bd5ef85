"""The encoder is torch's with the same weights; patches are cut by hand; order matters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from trainrun.init import auto
from trainrun.model.transformer import Transformer
from trainrun.vocabulary.errors import ConfigError

D, H = 16, 2


def make(shape: tuple[int, ...], **changes: Any) -> Transformer:
    settings: dict[str, Any] = {"num_outputs": 5, "vocab_size": None, "per_token": False, "width": D}
    settings |= {"depth": 2, "heads": H, "patch": None, "dropout": 0.0}
    return Transformer(shape, **{**settings, **changes})


def torchs(model: Transformer) -> nn.TransformerEncoder:
    """torch's encoder with the weights of ours."""
    layer = nn.TransformerEncoderLayer(
        D, H, 4 * D, 0.0, nn.functional.gelu, batch_first=True, norm_first=True
    )
    encoder = nn.TransformerEncoder(layer, 2, model.norm, enable_nested_tensor=False)
    for ours, theirs in zip(model.body, encoder.layers, strict=True):
        (norm1, attention, projection, _), (norm2, up, _, down, _) = (residual.branch for residual in ours)
        theirs.norm1, theirs.norm2, theirs.linear1, theirs.linear2 = norm1, norm2, up, down
        theirs.self_attn.in_proj_weight, theirs.self_attn.in_proj_bias = attention.qkv.parameters()
        theirs.self_attn.out_proj.weight, theirs.self_attn.out_proj.bias = projection.parameters()
    return encoder


@pytest.mark.parametrize("per_token", [False, True])
def test_it_is_torchs_encoder_on_sequences(per_token: bool) -> None:
    model, x = make((7, 3), per_token=per_token), torch.randn(4, 7, 3)
    hidden = torchs(model)(x @ model.embed.weight.T + model.embed.bias + model.positions.weight)
    expected = model.head(hidden if per_token else hidden.mean(1))
    torch.testing.assert_close(model(x), expected)


def test_tokens_are_looked_up() -> None:
    model, x = make((7,), vocab_size=11, per_token=True), torch.randint(0, 11, (4, 7))
    hidden = torchs(model)(model.embed.weight[x] + model.positions.weight)
    torch.testing.assert_close(model(x), model.head(hidden))


def test_patches_are_cut_row_by_row_and_mapped_alike() -> None:
    model, x = make((3, 6, 4), patch=2), torch.randn(2, 3, 6, 4)
    patches = model.embed(x)
    weight, bias = model.embed.map.weight.flatten(1), model.embed.map.bias
    for row in range(3):
        for column in range(2):
            patch = x[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten(1)
            torch.testing.assert_close(patches[:, 2 * row + column], patch @ weight.T + bias)
    assert model(x).shape == (2, 5)


@pytest.mark.parametrize(
    ("shape", "places"),
    [
        ((1, 8, 8), 16),
        ((1, 28, 28), 49),
        ((3, 32, 32), 64),
        ((3, 224, 224), 64),
        ((1, 6, 4), 6),
        ((1, 5, 7), 35),
    ],
)
def test_the_smallest_patch_that_makes_at_most_64(shape: tuple[int, ...], places: int) -> None:
    assert make(shape).positions.num_embeddings == places


def test_the_order_of_places_matters_and_every_place_sees_the_last() -> None:
    model, x = make((7, 3), per_token=True), torch.randn(1, 7, 3)
    assert not torch.allclose(make((7, 3))(x), make((7, 3))(x.flip(1)))
    other = x.clone()
    other[:, -1] += 1
    assert not torch.allclose(model(x)[:, 0], model(other)[:, 0], atol=1e-7)


def test_auto_keeps_the_scale_of_numbers() -> None:
    model = make((1, 8, 8), width=256)
    auto(False)(model)
    embedded = model.embed(torch.randn(500, 1, 8, 8)).detach()
    assert float(embedded.std()) == pytest.approx(1.0, rel=0.1)
    assert float(model.positions.weight.detach().std()) == pytest.approx(0.02, rel=0.1)


def test_the_gradient_reaches_every_parameter() -> None:
    model = make((1, 8, 8))
    model(torch.randn(8, 1, 8, 8)).square().sum().backward()
    names = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not names


@pytest.mark.parametrize(
    ("shape", "changes", "text"),
    [
        ((30,), {}, r"model: transformer needs tokens, sequences"),
        ((7, 3), {"patch": 2}, r"model\.patch: is for pictures"),
        ((1, 8, 8), {"patch": 3}, r"model\.patch: must divide pictures of 8 x 8, got 3"),
    ],
)
def test_what_it_cannot_take_is_a_config_error(
    shape: tuple[int, ...], changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        make(shape, **changes)
