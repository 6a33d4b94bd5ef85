"""Pictures of every mode against what was written into them; what cannot be read is refused in words."""

from __future__ import annotations

import io
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import Tensor

from trainrun.data.pictures import SUFFIXES, decoded, forms_of, is_deep, notes_of
from trainrun.vocabulary.errors import DataError

SIDE = 6
GREY = np.linspace(0, 1, SIDE * SIDE).reshape(SIDE, SIDE)  # 0 is black, 1 is white
BYTES = (GREY * 255).round().astype(np.uint8)
COLOURS = np.stack([BYTES, BYTES.T, 255 - BYTES], -1)


def write(file: Path, image: Image.Image, **options: Any) -> Path:
    image.save(file, **options)
    return file


def read(file: Path) -> Tensor:
    """(SIDE, SIDE, 3) as float64; nothing is resized or cut."""
    return decoded(file, SIDE).permute(1, 2, 0).double()


def close(pixels: Tensor, expected: np.ndarray, atol: float) -> None:
    expected = expected if expected.ndim == 3 else np.stack([expected] * 3, -1)
    torch.testing.assert_close(pixels, torch.from_numpy(expected.astype(np.float64)), rtol=0, atol=atol)


DEEP: dict[str, tuple[str, Callable[[], Image.Image]]] = {
    "I;16 png": ("a.png", lambda: Image.fromarray((GREY * 65535).round().astype(np.uint16))),
    "I;16 tiff": ("a.tif", lambda: Image.fromarray((GREY * 65535).round().astype(np.uint16))),
    "I;16 jpeg2000": ("a.jp2", lambda: Image.fromarray((GREY * 65535).round().astype(np.uint16))),
    "I;16B tiff": ("a.tif", lambda: big_endian((GREY * 65535).round())),
    "I pgm": ("a.pgm", lambda: Image.fromarray((GREY * 65535).round().astype(np.int32))),
    "F tiff": ("a.tiff", lambda: Image.fromarray(GREY.astype(np.float32))),
    "F pfm": ("a.pfm", lambda: Image.fromarray(GREY.astype(np.float32))),
}


def big_endian(values: np.ndarray) -> Image.Image:
    return Image.frombytes("I;16B", (SIDE, SIDE), values.astype(">u2").tobytes())


@pytest.mark.parametrize("case", DEEP)
def test_deep_pictures_are_scaled_by_their_range_without_rounding(tmp_path: Path, case: str) -> None:
    name, make = DEEP[case]
    file = write(tmp_path / name, make())
    assert decoded(file, SIDE).dtype == torch.float32
    close(read(file), GREY * 255, atol=0.5 / 257 + 1e-4)
    assert is_deep(forms_of([file]))


def test_deep_pictures_are_resized_as_their_bytes_are(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).random((40, 30))
    deep = write(tmp_path / "a.png", Image.fromarray((grey * 65535).astype(np.uint16)))
    plain = write(tmp_path / "b.png", Image.fromarray((grey * 255).round().astype(np.uint8)))
    torch.testing.assert_close(decoded(deep, 16), decoded(plain, 16).float(), rtol=0, atol=1.5)


def tiff(values: np.ndarray, bits: int, white_is_zero: bool = False, packed: bytes | None = None) -> bytes:
    """A grey TIFF of one strip, written by hand."""
    strip = packed or values.astype("<u2").tobytes()
    tags = [(256, 3, SIDE), (257, 3, SIDE), (258, 3, bits), (259, 3, 1), (262, 3, 0 if white_is_zero else 1)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 3, SIDE), (279, 4, len(strip))]
    entries = b"".join(
        np.array([tag, kind], "<u2").tobytes() + np.array([1, value], "<u4").tobytes()
        for tag, kind, value in tags
    )
    head = b"II*\0" + np.array([8 + len(strip)], "<u4").tobytes()
    return head + strip + np.array([len(tags)], "<u2").tobytes() + entries + bytes(4)


def test_a_tiff_of_twelve_bits_has_their_range(tmp_path: Path) -> None:
    values = (GREY * 4095).round().astype(int).ravel()
    pairs = values.reshape(-1, 2)
    packed = bytes(byte for a, b in pairs for byte in (a >> 4, (a & 15) << 4 | b >> 8, b & 255))
    (tmp_path / "a.tif").write_bytes(tiff(values, 12, packed=packed))
    close(read(tmp_path / "a.tif"), GREY * 255, atol=0.05)


def test_a_tiff_whose_white_is_zero_is_turned_round(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff((GREY * 65535).round(), 16, white_is_zero=True))
    close(read(tmp_path / "a.tif"), (1 - GREY) * 255, atol=0.01)


def palette() -> Image.Image:
    image = Image.fromarray(COLOURS).quantize(16)
    assert image.mode == "P"
    return image


def test_plain_modes_keep_their_bytes(tmp_path: Path) -> None:
    close(read(write(tmp_path / "l.png", Image.fromarray(BYTES))), BYTES, 0)
    close(read(write(tmp_path / "rgb.png", Image.fromarray(COLOURS))), COLOURS, 0)
    bits = write(tmp_path / "1.png", Image.fromarray(BYTES > 99))
    close(read(bits), (BYTES > 99) * 255.0, 0)
    indexed = palette()
    colours = np.array(indexed.getpalette()).reshape(-1, 3)[np.asarray(indexed)]
    close(read(write(tmp_path / "p.png", indexed)), colours, 0)
    padded = Image.frombytes("RGBX", (SIDE, SIDE), np.dstack([COLOURS, BYTES]).tobytes())
    close(read(write(tmp_path / "x.tif", padded)), COLOURS, 0)
    assert decoded(bits, SIDE).dtype == torch.uint8
    assert not is_deep(forms_of(tmp_path.iterdir()))


def test_colours_of_other_spaces_become_rgb(tmp_path: Path) -> None:
    inks = Image.frombytes("CMYK", (SIDE, SIDE), np.dstack([COLOURS, np.zeros_like(BYTES)]).tobytes())
    close(read(write(tmp_path / "cmyk.tif", inks)), 255 - COLOURS.astype(float), 1)
    flat = Image.new("RGB", (SIDE, SIDE), (200, 60, 40))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    into = ImageCms.buildTransform(srgb, lab, "RGB", "LAB")
    close(
        read(write(tmp_path / "lab.tif", ImageCms.applyTransform(flat, into))),
        np.full((SIDE, SIDE, 3), (200, 60, 40)),
        3,
    )
    close(
        read(write(tmp_path / "y.jpg", flat, quality=100, subsampling=0)),
        np.full((SIDE, SIDE, 3), (200, 60, 40)),
        2,
    )


ALPHA = BYTES.T


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


def test_transparent_pictures_are_laid_on_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.dstack([COLOURS, ALPHA]))
    for name in ("rgba.png", "rgba.tif"):
        close(read(write(tmp_path / name, image)), on_white(COLOURS, ALPHA), 1)
    strokes = Image.fromarray(np.dstack([np.zeros_like(BYTES), ALPHA]))  # black on nothing: all black without
    assert strokes.mode == "LA"
    close(read(write(tmp_path / "la.png", strokes)), 255.0 - ALPHA, 1)
    indexed = palette()
    colors = np.array(indexed.getpalette()).reshape(-1, 3)[np.asarray(indexed)]
    colors[np.asarray(indexed) == 3] = 255
    close(read(write(tmp_path / "p.png", indexed, transparency=3)), colors, 0)
    close(read(write(tmp_path / "p.gif", indexed, transparency=3)), colors, 0)
    keyed = np.where((BYTES[0, 0] == BYTES)[..., None], 255, np.stack([BYTES] * 3, -1))
    close(read(write(tmp_path / "l.png", Image.fromarray(BYTES), transparency=int(BYTES[0, 0]))), keyed, 0)
    forms = forms_of(tmp_path.iterdir())
    assert notes_of(forms) == ["6 with transparency: laid on white"]


def test_opaque_alpha_changes_nothing(tmp_path: Path) -> None:
    image = Image.fromarray(np.dstack([COLOURS, np.full_like(BYTES, 255)]))
    close(read(write(tmp_path / "a.png", image)), COLOURS, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_of_every_depth_are_turned_as_their_exif_says(tmp_path: Path, orientation: int) -> None:
    turned = {  # by the EXIF standard: where row 0 and column 0 of the file lie in the picture
        1: BYTES,
        2: BYTES[:, ::-1],
        3: BYTES[::-1, ::-1],
        4: BYTES[::-1],
        5: BYTES.T,
        6: np.rot90(BYTES, -1),
        7: BYTES[::-1, ::-1].T,
        8: np.rot90(BYTES),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = write(tmp_path / "a.png", Image.fromarray(BYTES), exif=exif)
    deep = write(tmp_path / "b.png", Image.fromarray(BYTES.astype(np.uint16) * 257), exif=exif)
    for file in (plain, deep):
        close(read(file), np.ascontiguousarray(turned), 1e-3)


def test_of_several_frames_the_first_is_read_and_that_is_told(tmp_path: Path) -> None:
    first, second = Image.fromarray(BYTES), Image.fromarray(255 - BYTES)
    files = [
        write(tmp_path / "a.gif", first, save_all=True, append_images=[second]),
        write(tmp_path / "a.tif", first, save_all=True, append_images=[second]),
    ]
    for file in files:
        close(read(file), BYTES, 0)
    assert "2 of several frames or pages: the first is read" in notes_of(forms_of(files))


def test_what_was_made_of_them_is_told() -> None:
    forms = Counter({"RGB": 5, "L": 1200, "CMYK": 2, "16 bits": 3, "float": 1})
    assert notes_of(forms) == [
        "3 of 16 bits a pixel: 0 to 65,535 is read as 0 to 255, in fractions",
        "1 of floats: 0 (black) to 1 (white) is read as 0 to 255",
        "converted to RGB: 2 of mode CMYK, 1,200 of mode L",
    ]
    assert notes_of(Counter({"RGB": 5})) == []


@pytest.mark.parametrize("values", [GREY * 255, GREY - 0.5, GREY * np.nan, GREY + np.inf])
def test_floats_of_an_unknown_range_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    file = write(tmp_path / "a.tif", Image.fromarray(values.astype(np.float32)))
    with pytest.raises(DataError, match=r"a\.tif: float pixels \(mode F\) must lie from 0 .* got .*; scale"):
        decoded(file, SIDE)


def test_floats_that_miss_the_ends_by_rounding_are_read(tmp_path: Path) -> None:
    values = (GREY * 1.00001 - 0.000005).astype(np.float32)
    pixels = decoded(write(tmp_path / "a.tif", Image.fromarray(values)), SIDE)
    assert (pixels.min(), pixels.max()) == (0, 255)


@pytest.mark.parametrize("dtype", [np.int32, np.int16, np.uint32])
def test_integers_of_no_known_range_are_refused(tmp_path: Path, dtype: type) -> None:
    strip = (GREY * 1000).astype(dtype)
    image = Image.fromarray(strip.astype(np.int32))
    file = write(tmp_path / "a.tif", image)
    if dtype is not np.int32:  # which Pillow does not write: change what the tags say of the pixels
        text = tiff(strip, 8 * strip.itemsize, packed=strip.tobytes())
        signed = (
            np.array([339, 3], "<u2").tobytes()
            + np.array([1, 2 if dtype is np.int16 else 1], "<u4").tobytes()
        )
        file.write_bytes(
            text[:-4].replace(
                np.array([9], "<u2").tobytes() + np.array([256], "<u2").tobytes(),
                np.array([10], "<u2").tobytes() + np.array([256], "<u2").tobytes(),
            )
            + signed
            + bytes(4)
        )
    with pytest.raises(
        DataError, match=r"a\.tif: pixels of 32 bits or with a sign \(mode I\) .*; save 16 bits"
    ):
        decoded(file, SIDE)


def test_too_many_pixels_are_told_in_words(tmp_path: Path) -> None:
    file = write(tmp_path / "a.png", Image.new("1", (20000, 10000)))
    with pytest.raises(
        DataError, match=r"a\.png has 200,000,000 pixels, and at most 178,956,970 are read; make"
    ):
        decoded(file, SIDE)


def test_many_pixels_are_read_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    close(read(write(tmp_path / "a.png", Image.fromarray(BYTES))), BYTES, 0)
    assert not recwarn.list


def test_of_a_long_strip_the_middle_is_read_without_more_memory_than_it_takes(tmp_path: Path) -> None:
    strip = np.zeros((2, 40_000), np.uint8)
    strip[:, 19_999:20_001] = 200
    file = write(tmp_path / "a.png", Image.fromarray(strip))
    tracemalloc.start()
    pixels = decoded(file, 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20  # numpy's part
    assert int(pixels[:, :, 32].min()) == 200


def halved() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(
        stream, "JPEG"
    )
    return stream.getvalue()[:2000]


NO_PICTURES = {
    "empty": (b"", "it is empty; replace or remove it"),
    "cut off": (halved(), r"it is damaged or cut off \(.*truncated.*\); replace or remove it"),
    "a web page": (b"<!DOCTYPE html><html>404</html>", "it is a web page"),
    "a pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid",
        "Git LFS pointer, .* run: git lfs pull",
    ),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "XML or SVG"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC, which Pillow does not read; convert it"),
    "a zip": (b"PK\x03\x04 and so on", "a zip file; unpack it"),
    "floats in colour": (b"II*\0\x08\0\0\0" + bytes(6), "a TIFF that Pillow does not read .*; save PNG"),
    "a damaged head": (b"\x89PNG\r\n\x1a\n" + bytes(40), "damaged in its head|damaged or cut off"),
    "text": (b"no picture", "of no known format"),
}


@pytest.mark.parametrize("case", NO_PICTURES)
def test_a_file_that_is_no_picture_is_told_with_a_remedy(tmp_path: Path, case: str) -> None:
    content, said = NO_PICTURES[case]
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.jpg cannot be decoded: .*{said}"):
        decoded(tmp_path / "a.jpg", SIDE)
    assert not notes_of(forms_of([tmp_path / "a.jpg"])) or case == "cut off"


def test_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match="a link to nothing"):
        decoded(tmp_path / "a.png", SIDE)


def test_usual_endings_are_pictures() -> None:
    assert {".jfif", ".jpe", ".pbm", ".pnm", ".jp2", ".avif", ".tga"} <= SUFFIXES
    Image.init()
    assert Image.registered_extensions().keys() | {".jif"} >= SUFFIXES - {".avif"}
