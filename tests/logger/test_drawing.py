"""Pictures read back pixel by pixel."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from PIL import Image

from trainrun.logger import drawing

BLUE, WHITE = (31, 119, 180), (255, 255, 255)


def opened(picture: tuple[bytes, tuple[int, int]]) -> Image.Image:
    image = Image.open(io.BytesIO(picture[0]))
    assert image.size == picture[1] and image.format == "PNG" and image.mode == "RGB"
    return image


def runs_of(image: Image.Image, colour: tuple[int, int, int]) -> int:
    """How many pixels have a colour."""
    return sum(count for count, other in image.getcolors(1 << 24) or [] if other == colour)


def test_every_sample_is_there_enlarged_in_its_colours() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    image = opened(drawing.samples([bytes(colour) * 4 for colour in colours], (2, 2, 3), ["a", "b", "c"]))
    assert [runs_of(image, colour) for colour in colours] == [64 * 64] * 3
    grey = opened(drawing.samples([bytes([0, 90, 180, 255])], (2, 2, 1), ["\N{SNOWMAN}"]))
    assert [runs_of(grey, (value,) * 3) for value in (90, 180)] == [32 * 32] * 2


@pytest.mark.parametrize("names", [("cat", "dog", "cow"), ()], ids=["named", "numbered"])
def test_a_cell_is_as_dark_as_its_share_of_the_class(names: Sequence[str]) -> None:
    image = opened(drawing.confusion([[4, 0, 0], [2, 2, 0], [0, 0, 0]], names))
    cells = {
        colour: count for count, colour in image.getcolors(1 << 24) or [] if count > 400 and colour != WHITE
    }
    half = tuple(round(255 - (255 - part) / 2) for part in BLUE)
    assert set(cells) == {BLUE, half}
    assert cells[half] == pytest.approx(2 * cells[BLUE], rel=0.15)  # less what the figures cover


@pytest.mark.parametrize("count", [2, 20, 21, 41, 100])
def test_any_number_of_classes_has_a_picture_that_fits_a_screen(count: int) -> None:
    matrix = [[3 * (row == column) for column in range(count)] for row in range(count)]
    image = opened(drawing.confusion(matrix, [f"class {index} with a long name" for index in range(count)]))
    assert max(image.size) < 900
    assert runs_of(image, BLUE) > 20 * count
