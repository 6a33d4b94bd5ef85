"""`trainrun show model/NAME` ends with the layers that the model has for the data it is shown with."""

from __future__ import annotations

import sys

import pytest

from trainrun.cli import show


def test_a_package_that_a_model_lacks_is_told_on_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert show._layers("timm")[1:] == ["model: timm is not installed; install it with: pip install timm"]


def test_which_pages_have_layers() -> None:
    assert show._layers("model/linear") == show._layers("model=linear") == show._layers("linear") != []
    assert show._layers("model") == show._layers("optimizer/adamw") == []


def test_a_models_page_ends_with_its_shapes_and_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert show.run(["model/linear"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("model=linear")
    *_, heads, head, whole = text.rstrip().splitlines()
    assert heads.split() == ["layer", "kind", "output", "parameters"]
    assert head.split() == ["head", "Linear", "10", "650"]  # (8 x 8 + 1) x 10
    assert whole.split() == ["whole", "Linear", "10", "650"]
