"""Layers are listed with the shapes they give and the parameters they have, and left as they were."""

from __future__ import annotations

import torch
from torch import nn

from trainrun.assembly.layers import layer_rows


def make() -> nn.Module:
    body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Sequential(nn.ReLU()))
    return nn.Sequential(body, nn.Flatten(), nn.Linear(8 * 4 * 4, 5))


def rows_of(model: nn.Module, inputs: torch.Tensor) -> list[list[str]]:
    return layer_rows(model, lambda: model(inputs))


def test_shapes_and_sizes_by_hand() -> None:
    conv, norm, head = 8 * 3 * 9 + 8, 2 * 8, 128 * 5 + 5
    assert rows_of(make(), torch.zeros(2, 3, 4, 4)) == [
        ["0.0", "Conv2d", "8 x 4 x 4", str(conv)],
        ["0.1", "BatchNorm2d", "8 x 4 x 4", str(norm)],
        ["0.2", "Sequential", "8 x 4 x 4", ""],  # what lies in it is too deep to be shown
        ["0", "Sequential", "8 x 4 x 4", str(conv + norm)],
        ["1", "Flatten", "128", ""],
        ["2", "Linear", "5", str(head)],
        ["whole", "Sequential", "5", str(conv + norm + head)],
    ]


def test_the_first_of_several_outputs_is_shown() -> None:
    assert rows_of(nn.LSTM(3, 4, batch_first=True), torch.zeros(2, 5, 3))[-1][2] == "5 x 4"


def test_the_model_is_left_as_it_was() -> None:
    model = make()
    model[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows_of(model, torch.randn(2, 3, 4, 4))
    assert [m.training for m in model] == [False, True, True]
    assert not any(m._forward_hooks for m in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_compiled_layers_are_listed_too() -> None:
    model = make()
    expected = rows_of(model, torch.zeros(2, 3, 4, 4))
    model.compile(backend="eager")
    assert rows_of(model, torch.zeros(2, 3, 4, 4)) == expected
