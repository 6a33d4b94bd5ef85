"""Decode picture files: every mode that Pillow opens is read by its range of values, or refused by name."""

from __future__ import annotations

import re
import struct
import warnings
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from trainrun.vocabulary.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# File name extensions of pictures.
SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".gif", ".webp", ".avif"),
    *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    *(".jp2", ".j2k", ".jpx", ".tga", ".ico", ".pcx", ".qoi"),
}
_UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow raises
_WHITE = 255.0
_LONGEST = 100  # shorter sides: otherwise a line of pixels would be resized to many times its bytes
_WHITE_OF_16_BITS = 65535
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of a TIFF
_BEYOND_WHITE = 1e-3  # floats that were computed may miss 0 and 1 by rounding
_READ_AS = {
    "16 bits": "of 16 bits a pixel: 0 to 65,535 is read as 0 to 255, in fractions",
    "float": "of floats: 0 (black) to 1 (white) is read as 0 to 255",
    "transparent": "with transparency: laid on white",
    "frames": "of several frames or pages: the first is read",
}
# What a file that is not a picture may be, by how it begins.
_BEGINNINGS = {
    rb"version https://git-lfs": "is a Git LFS pointer, not the picture; run: git lfs pull",
    rb"\s*<(!doctype|html|head|\?php)": "is a web page, not a picture; download the picture itself",
    rb"\s*<(\?xml|svg)": "is XML or SVG, not pixels; export it as PNG",
    rb"%PDF": "is a PDF; export its pages as PNG",
    rb"PK\x03\x04": "is a zip file; unpack it",
    rb"\x1f\x8b": "is gzipped; unpack it",
    rb"....ftyp(heic|heix|hevc|mif1|msf1)": "is HEIC, which Pillow does not read; convert it to JPEG or PNG",
    rb"....ftypavif": "is AVIF, which this Pillow does not read; update Pillow or convert it to PNG",
    rb"[\[{]": "is JSON text, not a picture",
    rb"(II[*+]\0|MM\0[*+])": "is a TIFF that Pillow does not read (such as colours in floats); save PNG",
    rb"(\x89PNG|\xff\xd8|GIF8|RIFF|BM)": "is damaged in its head; replace or remove it",
}


def decoded(file: Path, size: int, resize: int | None = None, interpolation: str = "bilinear") -> Tensor:
    """(3, size, size), 0 black and 255 white: turned as EXIF says, shorter side resized, middle cut out.

    The shorter side becomes `size`, or `resize`. uint8, but float32 where the file has more than 8 bits a
    channel. Raises DataError naming a file that cannot be decoded whole, or whose mode has no known range.
    """
    from PIL import Image, ImageOps

    try:
        with _opened(file) as opened:
            image = _as_rgb_or_float(file, ImageOps.exif_transpose(opened), opened)
    except _UNDECODABLE as error:
        raise DataError(f"data.root: {file} cannot be decoded: {_reason(file, error)}") from None
    short = min(image.size)
    if max(image.size) > _LONGEST * short:  # cut first: only the middle is needed
        middle = (max(0, (side - _LONGEST * short) // 2) for side in image.size)
        image = ImageOps.crop(image, tuple(middle))
    width, height = ((resize or size) * side // short for side in image.size)
    image = image.resize((width, height), Image.Resampling[interpolation.upper()])
    left, top = round((width - size) / 2), round((height - size) / 2)
    pixels = torch.from_numpy(np.array(image.crop((left, top, left + size, top + size))))
    return pixels.expand(3, size, size).clone() if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def forms_of(files: Iterable[Path]) -> Counter[str]:
    """Count how the pixels of files are stored, from their headers alone."""
    forms: Counter[str] = Counter()
    for file in files:
        with suppress(*_UNDECODABLE, DataError), _opened(file) as image:  # `decoded` says what is wrong
            forms[_form(image)] += 1
            forms["frames"] += bool(getattr(image, "is_animated", False))
    return forms


def is_deep(forms: Counter[str]) -> bool:
    """Whether there are pictures of more than 8 bits a channel, which are float32 when decoded."""
    return any(form in forms for form in ("16 bits", "float"))


def notes_of(forms: Counter[str]) -> list[str]:
    """How pictures other than plain RGB are read, a line for each kind."""
    lines = [f"{forms[form]:,} {text}" for form, text in _READ_AS.items() if forms[form]]
    modes = [f"{forms[form]:,} of mode {form}" for form in sorted(forms.keys() - _READ_AS.keys() - {"RGB"})]
    return [*lines, *([f"converted to RGB: {', '.join(modes)}"] if modes else [])]


def _opened(file: Path) -> Image:
    """Open a picture without Pillow's warning of many pixels; raise DataError for too many."""
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    try:
        return Image.open(file)
    except Image.DecompressionBombError as error:
        count, most = (f"{int(number):,}" for number in re.findall(r"\d+", str(error))[:2])
        text = f"has {count} pixels, and at most {most} are read; make it smaller or remove it"
        raise DataError(f"data.root: {file} {text}") from None


def _form(image: Image) -> str:
    if image.mode == "F":
        return "float"
    if image.mode.startswith("I"):
        return "16 bits"
    return "transparent" if image.has_transparency_data else image.mode


def _as_rgb_or_float(file: Path, image: Image, opened: Image) -> Image:
    """Convert to RGB, or to one channel of floats from 0 to 255. `opened` is the unturned picture."""
    from PIL import Image

    if _form(image) in ("float", "16 bits"):
        return Image.fromarray(_of_deep(file, np.asarray(image, np.float32), opened) * np.float32(_WHITE))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("LA") if image.mode == "La" else image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _of_deep(file: Path, values: np.ndarray, opened: Image) -> np.ndarray:
    """Scale pixels of one channel to 0 for black, 1 for white; raise DataError where these are not known."""
    tags = getattr(opened, "tag_v2", {})
    if opened.mode == "F":
        low, high = float(values.min()), float(values.max())
        if not (low >= -_BEYOND_WHITE and high <= 1 + _BEYOND_WHITE):
            text = f"float pixels (mode F) must lie from 0 (black) to 1 (white), got {low:.6g} to {high:.6g}"
            raise DataError(f"data.root: {file}: {text}; scale them, or save 8 or 16 bits")
        values = values.clip(0, 1)
    elif opened.mode == "I" and opened.format not in ("PNG", "PPM"):  # which hold 16 bits
        text = "pixels of 32 bits or with a sign (mode I) have no known black and white"
        raise DataError(f"data.root: {file}: {text}; save 16 bits without sign, or floats from 0 to 1")
    else:
        bits = tags.get(_BITS, (16,))[0]
        values = values / np.float32(_WHITE_OF_16_BITS if bits == 16 else 2**bits - 1)
    return 1 - values if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else values


def _reason(file: Path, error: Exception) -> str:
    """Say why a file cannot be decoded, and what to do."""
    from PIL import UnidentifiedImageError

    if isinstance(error, FileNotFoundError):
        return "it is a link to nothing" if file.is_symlink() else "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror[0].lower()}{error.strerror[1:]}"
    with file.open("rb") as stream:
        head = stream.read(64)
    if not head:
        return "it is empty; replace or remove it"
    if isinstance(error, UnidentifiedImageError):  # whose text is the file's name again
        for pattern, text in _BEGINNINGS.items():
            if re.match(pattern, head, re.IGNORECASE | re.DOTALL):
                return f"it {text}"
        return "it is of no known format; replace or remove it"
    return f"it is damaged or cut off ({error}); replace or remove it"
