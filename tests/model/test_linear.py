"""The linear model."""

from __future__ import annotations

import torch

from trainrun.model.linear import Linear


def test_it_is_one_affine_map_of_the_flattened_input() -> None:
    model = Linear((1, 4, 5), 3)
    assert sum(p.numel() for p in model.parameters()) == 20 * 3 + 3
    x = torch.randn(2, 1, 4, 5)
    torch.testing.assert_close(model(x), x.reshape(2, 20) @ model.head.weight.T + model.head.bias)
