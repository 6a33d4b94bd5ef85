"""The blocks of a model: repeated ones in any container, or those that a pattern names."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from trainrun.model.blocks import blocks_of
from trainrun.model.gpt import GPT
from trainrun.model.mlp import MLP
from trainrun.model.resnet import ResNet
from trainrun.vocabulary.errors import ConfigError


def names(model: nn.Module, pattern: str = "auto") -> list[str]:
    return blocks_of(model, pattern, "parallel.blocks")


def gpt(depth: int) -> GPT:
    return GPT((8,), 10, 10, width=8, depth=depth, heads=2, dropout=0.0)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out


def test_first_party_models_are_cut_into_their_layers() -> None:
    assert names(gpt(3)) == ["body.0", "body.1", "body.2"]
    assert names(gpt(2)) == ["body.0", "body.1"], "as many residual parts lie in each"
    mlp = MLP((4,), 2, width=8, depth=3, activation="relu", norm="none", dropout=0.1, residual=False)
    assert names(mlp) == ["body.1", "body.2", "body.3"]
    resnet = ResNet((3, 8, 8), 2, depth=14, width=4, norm="batch", dropout=0.0)
    assert names(resnet) == [f"body.{i}" for i in range(6)], "also those that change the width"


def test_equal_blocks_of_all_containers_count() -> None:
    """As torchvision's stages, an encoder beside a decoder, and a neck of another kind."""
    model = nn.Module()
    model.encoder = nn.ModuleList([Layer() for _ in range(3)])
    model.neck = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2)))
    model.decoder = nn.Sequential(Layer(), nn.ReLU(), Layer())
    assert names(model) == ["encoder.0", "encoder.1", "encoder.2", "decoder.0", "decoder.2"]


def test_a_pattern_names_the_outermost_modules_that_can_be_called() -> None:
    model = gpt(3)
    assert names(model, "body.*") == ["body.0", "body.1", "body.2"]
    assert names(model, "body.[01]") == ["body.0", "body.1"]
    assert names(model, "*.0.branch") == [f"body.{i}.0.branch" for i in range(3)]
    assert names(model, "*") == ["tokens", "positions", "dropout", "body", "norm"]
    lists = nn.ModuleDict({"a": nn.ModuleList([Layer()])})
    assert names(lists, "*") == ["a.0"]


def test_where_nothing_is_found_the_message_has_names_that_exist() -> None:
    with pytest.raises(
        ConfigError, match=r"parallel.blocks: matches no module, got blocks\.\*; modules are .*body\.0"
    ):
        names(gpt(2), "blocks.*")
    with pytest.raises(ConfigError, match="finds no repeated blocks, got auto"):
        names(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), "auto")
    with pytest.raises(ConfigError, match="modules are none"):
        names(nn.Linear(2, 2), "auto")


def test_a_shared_block_is_listed_once() -> None:
    shared = Layer()
    assert names(nn.Sequential(Layer(), shared, shared)) == ["0", "1"]
