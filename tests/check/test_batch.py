"""The picture of a batch is a PNG; what cannot be drawn is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from trainrun.check.batch import picture
from trainrun.check.context import CheckContext
from trainrun.vocabulary.errors import ConfigError


@pytest.mark.parametrize(
    "words", [("augment=crop_flip", "augment.shift=0.2"), ("regularization=cutmix",), ("data=wine",)]
)
def test_it_is_a_picture(
    words: tuple[str, ...], make_context: Callable[..., CheckContext], tmp_path: Path
) -> None:
    said = picture(make_context(*words), tmp_path / "a.png")
    assert "32 training samples" in said
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG" and min(image.size) > 200


def test_tokens_are_refused(make_context: Callable[..., CheckContext], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc " * 600)
    context = make_context("data=text", "data.path=a.txt", "data.block_size=16", "model=gpt")
    with pytest.raises(ConfigError, match="no pictures or numbers"):
        picture(context, tmp_path / "a.png")
