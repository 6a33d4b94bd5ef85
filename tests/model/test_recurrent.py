"""LSTM and GRU are torch's stacked ones with the same weights, initialised by gate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from trainrun.init import auto, default
from trainrun.model.recurrent import Recurrent
from trainrun.vocabulary.errors import ConfigError

WIDTH, CELLS = 6, {"lstm": nn.LSTM, "gru": nn.GRU}


def make(shape: tuple[int, ...], cell: str, **changes: Any) -> Recurrent:
    settings: dict[str, Any] = {"num_outputs": 4, "vocab_size": None, "per_token": False, "width": WIDTH}
    return Recurrent(shape, cell=cell, **{**settings, "depth": 2, "norm": "none", "dropout": 0.0, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("per_token", [False, True])
def test_layers_are_torchs_stack(cell: str, per_token: bool) -> None:
    model = make((7, 3), cell, per_token=per_token)
    theirs = CELLS[cell](3, WIDTH, num_layers=2, batch_first=True)
    for number, layer in enumerate(model.layers):
        for name, parameter in layer.named_parameters():
            theirs.get_parameter(name.replace("_l0", f"_l{number}")).data.copy_(parameter)
    x = torch.randn(5, 7, 3)
    hidden, _ = theirs(x)
    torch.testing.assert_close(model(x), model.head(hidden if per_token else hidden[:, -1]))


@pytest.mark.parametrize("cell", CELLS)
def test_layer_norm_stands_between_the_layers_and_before_the_head(cell: str) -> None:
    model, x = make((7, 3), cell, norm="layer"), torch.randn(5, 7, 3)
    hidden = x
    for layer in model.layers:
        hidden = nn.functional.layer_norm(layer(hidden)[0], (WIDTH,))
    torch.testing.assert_close(model(x), model.head(hidden[:, -1]))


def test_tokens_are_looked_up_and_only_what_lies_before_counts() -> None:
    model, x = make((7,), "lstm", vocab_size=9, per_token=True), torch.randint(0, 9, (2, 7))
    other = x.clone()
    other[:, 4:] = (x[:, 4:] + 1) % 9
    torch.testing.assert_close(model(other)[:, :4], model(x)[:, :4])
    assert not torch.allclose(model(other)[:, 4:], model(x)[:, 4:])


def test_pictures_are_read_row_by_row() -> None:
    model, x = make((2, 4, 5), "gru"), torch.randn(3, 2, 4, 5)
    rows = torch.stack([torch.cat([x[:, 0, h], x[:, 1, h]], 1) for h in range(4)], 1)
    assert torch.equal(model.embed(x), rows)
    assert model(x).shape == (3, 4)


@pytest.mark.parametrize("cell", CELLS)
def test_auto_leaves_the_initial_weights_to_it(cell: str) -> None:
    model = make((7, 3), cell)
    auto(False)(model)
    for layer in model.layers:
        for gate in layer.weight_hh_l0.detach().split(WIDTH):
            torch.testing.assert_close(gate @ gate.T, torch.eye(WIDTH), atol=1e-5, rtol=0)
        bound = (6 / (layer.input_size + WIDTH)) ** 0.5
        assert 0.8 * bound < float(layer.weight_ih_l0.detach().abs().max()) <= bound
        biases = layer.bias_ih_l0.detach() + layer.bias_hh_l0.detach()
        expected = torch.zeros(len(biases))
        if cell == "lstm":
            expected[WIDTH : 2 * WIDTH] = 1  # torch's order of gates: input, forget, cell, output
        assert torch.equal(biases, expected)


def test_default_is_torchs_own() -> None:
    model = make((7, 3), "lstm", width=64)
    default(False)(model)
    largest = [float(p.detach().abs().max()) for p in model.layers.parameters()]
    assert all(0.9 / 8 < value <= 1 / 8 for value in largest)


def test_a_table_is_refused() -> None:
    with pytest.raises(ConfigError, match="model: gru needs tokens, sequences"):
        make((30,), "gru")
