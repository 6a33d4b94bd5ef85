"""GPT: it sees what lies before, its embedding is its output layer, and it can learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from trainrun.init import auto, default
from trainrun.model.gpt import GPT
from trainrun.vocabulary.errors import ConfigError

V, T, D, DEPTH = 11, 8, 16, 2


def make(**changes: Any) -> GPT:
    settings: dict[str, Any] = {"input_shape": (T,), "num_outputs": V, "vocab_size": V, "width": D}
    return GPT(**{**settings, "depth": DEPTH, "heads": 2, "dropout": 0.0, **changes})


def test_number_of_parameters_by_hand() -> None:
    per_block = 2 * 2 * D + (D * 3 * D + 3 * D) + (D * D + D) + (D * 4 * D + 4 * D) + (4 * D * D + D)
    assert sum(p.numel() for p in make().parameters()) == V * D + T * D + DEPTH * per_block + 2 * D


def test_nothing_that_comes_later_changes_an_output() -> None:
    model = make()
    x = torch.randint(0, V, (1, T), generator=torch.Generator().manual_seed(0))
    before = model(x)
    for t in range(T - 1):
        other = x.clone()
        other[:, t + 1 :] = (x[:, t + 1 :] + 1) % V
        torch.testing.assert_close(model(other)[:, : t + 1], before[:, : t + 1])
        assert not torch.allclose(model(other)[:, t + 1], before[:, t + 1])


def test_a_part_of_a_window_gives_the_same_outputs() -> None:
    model, x = make(), torch.randint(0, V, (2, T), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x[:, :3]), model(x)[:, :3])


def test_without_blocks_outputs_are_products_of_embeddings() -> None:
    model = make(depth=1)
    for residual in model.body[0]:
        for parameter in residual.parameters():
            torch.nn.init.zeros_(parameter)
    x = torch.randint(0, V, (2, T))
    hidden = F.layer_norm(model.tokens.weight[x] + model.positions.weight, (D,))
    torch.testing.assert_close(model(x), hidden @ model.tokens.weight.T)
    assert make(vocab_size=V + 1)(x).shape == (2, T, V)  # a token that is never an answer


def test_it_learns_what_follows_what() -> None:
    torch.manual_seed(0)
    model, follows = make(), torch.randperm(V)
    model.initialize()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(250):
        x = [torch.randint(0, V, (16,))]
        for _ in range(T):
            x.append(follows[x[-1]])
        windows = torch.stack(x, 1)
        loss = F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
    assert loss < 0.05


def test_auto_leaves_the_initial_weights_to_it_and_default_to_torch() -> None:
    torch.manual_seed(1)
    model = make(width=128)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    default(False)(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    auto(False)(model)
    (first, _), *_ = model.body
    for weight, std in ((model.tokens.weight, 0.02), (first.branch[2].weight, 0.02 / (2 * DEPTH) ** 0.5)):
        assert float(weight.detach().std()) == pytest.approx(std, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"vocab_size": None, "input_shape": (1, 8, 8)}, "model: gpt needs tokens"),
        ({"num_outputs": V + 1}, "the task needs 12"),
    ],
)
def test_what_it_cannot_take_is_a_config_error(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make(**changes)
