"""The picture of a batch: what its labels and grey values are, and that it is a PNG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from trainrun.check.batch import labels_of, picture, shown
from trainrun.check.bench import Bench
from trainrun.errors import ConfigError
from trainrun.protocols import Batch, DataInfo, Position

INFO = DataInfo("toy", (1, 2, 2), "classes", 3, {}, ("ant", "bee", "cat"))


def labels(targets: torch.Tensor, kind: str) -> list[str]:
    info = DataInfo("toy", (1, 2, 2), kind, 3, {}, () if kind == "values" else INFO.class_names)
    return labels_of(Batch(torch.zeros(len(targets), 1), targets, range(len(targets)), Position()), info)


def test_labels_are_names() -> None:
    assert labels(torch.tensor([2, 0]), "classes") == ["cat", "ant"]
    assert labels(torch.tensor([[0.3, 0.0, 0.7], [0.0, 1.0, 0.0]]), "classes") == [
        "cat 70%, ant 30%",
        "bee 100%",
    ]
    assert labels(torch.tensor([[1, 0, 1], [0, 0, 0]]), "labels") == ["ant, cat", "none"]
    assert labels(torch.tensor([[1.5], [-2.0]]), "values") == ["1.5", "-2"]


def test_grey_values_go_from_black_to_white(bench: Callable[..., Bench]) -> None:
    of = bench("data=digits", "model=linear")
    inputs = of.batch.inputs
    stored = of.parts.data.inputs[of.batch.indices] / 16  # digits have values from 0 to 16
    assert torch.allclose(shown(inputs, of.parts.info), stored.float(), atol=1e-5)
    plain = shown(torch.tensor([[[[-3.0, 1.0], [5.0, 3.0]]]]), INFO)
    assert plain.flatten().tolist() == [0.0, 0.5, 1.0, 0.75]


@pytest.mark.parametrize(
    "words", [("augment=crop_flip", "augment.shift=0.2"), ("regularization=cutmix",), ("data=wine",)]
)
def test_it_is_a_picture(words: tuple[str, ...], bench: Callable[..., Bench], tmp_path: Path) -> None:
    said = picture(bench(*words), tmp_path / "a.png")
    assert "32 training samples" in said
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG" and min(image.size) > 200


def test_tokens_are_refused(bench: Callable[..., Bench], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc " * 600)
    of = bench("data=text", "data.path=a.txt", "data.block_size=16", "model=gpt")
    with pytest.raises(ConfigError, match="no pictures or numbers"):
        picture(of, tmp_path / "a.png")
