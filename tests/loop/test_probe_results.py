"""What probes return: pictures to the last pixel, and everything that is refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainrun.loop.probe_results import ProbeResults, picture_of


def decoded(value: Any) -> np.ndarray:
    png, size = picture_of(value)
    image = Image.open(io.BytesIO(png))
    assert image.size == size
    return np.asarray(image)


def results(returned: Any) -> Any:
    sorted_results = ProbeResults()
    sorted_results.add(returned)
    return sorted_results.event(3)


BYTES = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (BYTES, BYTES),
        (torch.from_numpy(BYTES).permute(2, 0, 1), BYTES),
        (torch.from_numpy(BYTES).permute(2, 0, 1).float() / 255, BYTES),
        (torch.from_numpy(BYTES).permute(2, 0, 1).double().requires_grad_() / 255, BYTES),
        (BYTES[:, :, 0], BYTES[:, :, 0]),
        (BYTES[None, :, :, 0], BYTES[:, :, 0]),
        (BYTES[:, :, :1], BYTES[:, :, 0]),
        (torch.tensor([[-1.0, 0.5, 2.0, float("nan")]]), np.array([[0, 128, 255, 0]])),
        (torch.tensor([[0.0, 1.0]], dtype=torch.bfloat16), np.array([[0, 255]])),
        (np.array([[True, False]]), np.array([[255, 0]])),
        (Image.fromarray(BYTES), BYTES),
    ],
)
def test_a_picture_keeps_its_pixels(value: Any, expected: np.ndarray) -> None:
    assert np.array_equal(decoded(value), expected)


def test_a_figure_is_drawn_and_closed() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure = pyplot.figure(figsize=(2, 1), dpi=50)
    assert decoded(figure).shape[:2] == (50, 100)
    assert not pyplot.fignum_exists(figure.number)


def test_kinds_are_told_apart() -> None:
    event = results(
        {
            "number": torch.tensor([2.5]),
            "whole": np.int64(3),
            "yes": True,
            "vector": [1, 2],
            "nested": {"a": 1.0, "text": "b"},
            "text": "two\nlines",
            "rows": [{"i": torch.tensor(1), "name": "x"}, {"i": np.float32(0.5), "more": None}],
            "none": [],
        }
    )
    whole = {"number": 2.5, "whole": 3.0, "yes": 1.0, "vector/0": 1.0, "vector/1": 2.0, "nested/a": 1.0}
    assert event.numbers == whole
    assert event.texts == {"nested/text": "b", "text": "two\nlines"}
    assert event.tables == {"rows": [{"i": 1, "name": "x"}, {"i": 0.5, "more": None}], "none": []}
    assert (event.step, event.pictures) == (3, {})


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (3, "must return a dict such as .*, got int"),
        ({"step": 1}, "'step', which the run records itself"),
        ({1: 1}, "called 1, which is no text"),
        ({" ": 1}, "which is no text"),
        ({"x": None}, "'x' must be a number, a picture.*returns None"),
        ({"x": torch.zeros(2, 4, 4)}, r"'x' .*has the shape \(2, 4, 4\); a picture is \(3, H, W\)"),
        ({"x": torch.zeros(0, 4)}, r"has the shape \(0, 4\)"),
        ({"x": torch.zeros(4, 4, dtype=torch.int64)}, "holds int64; pixels are uint8"),
        ({"x": b"raw"}, "a bytes"),
        ({"x": 1, "y": {"": {}}, "x/0": 2, "z": lambda: 0}, "'z' must be"),
        ({"a": {"b": 1}, "a/b": 2}, "'a/b' .*is the name of another result"),
    ],
)
def test_what_cannot_be_logged_is_refused_by_name(returned: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        results(returned)
