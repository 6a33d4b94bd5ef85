"""Small pictures for views, as PNG: training samples, and which class was taken for which."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

_SIDE = 64  # pixels, at least, of a sample's longer side
_LINE = 13  # pixels, a line of text
_LETTER = 6.2  # pixels, about
_NUMBERED = 20  # classes, up to which each cell says its count
_NAMED = 40  # classes, up to which rows have names; with more a cell is smaller than a letter
_INK = (60, 60, 60)
_BLUE = (31, 119, 180)

Size = tuple[int, int]


def samples(
    pictures: Sequence[bytes], shape: tuple[int, int, int], labels: Sequence[str]
) -> tuple[bytes, Size]:
    """A PNG with every picture above its label, and its (width, height)."""
    from PIL import Image

    height, width, channels = shape
    zoom = max(1, math.ceil(_SIDE / max(height, width)))
    across = min(len(pictures), max(1, math.ceil(math.sqrt(len(pictures)))))
    down = math.ceil(len(pictures) / across)
    wide, high = width * zoom + 4, height * zoom + _LINE + 4
    image, draw = _sheet(across * wide, down * high)
    for index, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = index % across * wide + 2, index // across * high + 2
        picture = Image.frombytes("RGB" if channels == 3 else "L", (width, height), pixels)
        image.paste(picture.resize((width * zoom, height * zoom), Image.Resampling.NEAREST), (x, y))
        draw.text((x, y + height * zoom), _short(label, wide), fill=_INK)
    return _png(image), image.size


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> tuple[bytes, Size]:
    """A PNG of the matrix (C, C), rows the true classes, darker by the share of the class, and its size."""
    count = len(matrix)
    cell = 34 if count <= _NUMBERED else 16 if count <= _NAMED else 7
    labels = [str(name) for name in (names if len(names) == count else range(count))]
    labels = [_short(label, 120) for label in labels] if count <= _NAMED else [""] * count
    left = int(max(_LETTER * len(label) for label in labels)) + 24
    top = 2 * _LINE + 4
    image, draw = _sheet(left + cell * count + 8, top + cell * count + 8)
    draw.text((left, 0), "taken for", fill=_INK)
    draw.text((4, _LINE), "true" if labels[0] else "", fill=_INK)
    for row, (label, counts) in enumerate(zip(labels, matrix, strict=True)):
        y, total = top + row * cell, sum(counts) or 1
        draw.text((4, y + (cell - _LINE) // 2), label, fill=_INK)
        draw.text((left + row * cell + 3, _LINE), _short(label, cell), fill=_INK)
        for column, number in enumerate(counts):
            share, x = number / total, left + column * cell
            fill = tuple(round(255 - (255 - part) * share) for part in _BLUE)
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=fill)
            if number and count <= _NUMBERED:
                ink = "white" if share > 0.5 else _INK
                draw.text((x + 2, y + (cell - _LINE) // 2), _short(str(number), cell), fill=ink)
    return _png(image), image.size


def _sheet(width: int, height: int) -> tuple[Any, Any]:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, height), "white")
    return image, ImageDraw.Draw(image)


def _short(text: str, width: int) -> str:
    """As much of a text as so many pixels hold, in characters that the built-in font has."""
    plain = "".join(letter if " " <= letter <= "\xff" and letter.isprintable() else "?" for letter in text)
    return plain[: max(1, int(width / _LETTER))]


def _png(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
