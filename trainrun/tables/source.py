"""Open a table's file as text: detect compression and encoding from its bytes."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from trainrun.vocabulary.errors import ConfigError, DataError

_HEAD_BYTES = 1 << 16
# What any packed file may hold, and beyond that how many times its own size: text rarely packs better than
# 1:20, and a zip bomb 1:1000.
_UNPACKED_BYTES = 256 << 20
_RATIO = 100
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
}
_OTHERS = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an Excel workbook; save its sheet as csv",
    b"ARROW1": "an Arrow (Feather) file; save it as parquet",
    b"SQLite format 3\0": "an SQLite database; export the table as csv",
    b"\x89HDF\r\n": "an HDF5 file; save the table as csv or parquet",
    b"\x93NUMPY": "a NumPy array; save it as csv",
    b"%PDF": "a PDF; save the table as csv",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; fetch it: git lfs pull",
}
_MARKED = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class TableSource:
    """A file, how it is packed, and the encoding of its text; `notes` say what is unusual."""

    path: Path
    packing: str | None
    is_parquet: bool
    encoding: str
    is_guessed: bool  # the encoding: UTF-8 until a byte contradicts
    notes: tuple[str, ...]

    @contextmanager
    def text(self) -> Iterator[TextIO]:
        """The file as text, without its byte order mark. Raises DataError for a damaged archive."""
        with self.binary() as stream, io.TextIOWrapper(stream, self.encoding, newline="") as text:
            if self.encoding != "utf-8-sig" and text.read(1) != "\ufeff":
                text.seek(0)
            yield text

    @contextmanager
    def binary(self) -> Iterator[BinaryIO]:
        """The file's own bytes, unpacked."""
        with _opened(self.path, self.packing) as stream:
            if self.packing is None:
                yield stream
                return
            most = max(_UNPACKED_BYTES, _RATIO * self.path.stat().st_size)
            content = stream.read(most + 1)
        if len(content) > most:
            text = f"unpacks to more than {most:,} bytes, {_RATIO} times its size; unpack it yourself"
            raise DataError(f"data.path: {self.path} {text}")
        yield io.BytesIO(content)

    def as_legacy(self, error: UnicodeDecodeError) -> TableSource:
        """The same file as latin-1. Raises DataError where its text is UTF-8 with damage."""
        where = f"byte 0x{error.object[error.start]:02x}"
        if not self.is_guessed or self._has_utf8_letters():
            text = f"data.path: {self.path} is not {_name(self.encoding)} text: {error.reason}, {where}"
            raise DataError(f"{text}; repair it, or name its encoding: data.encoding=latin-1")
        with self.binary() as stream:
            content = stream.read()
        encoding = "cp1252"  # Windows' form of latin-1 has letters where that has controls
        try:
            content.decode(encoding)
        except UnicodeDecodeError:
            encoding = "latin-1"
        text = f"read as {_name(encoding)}: {where} is not UTF-8; another encoding: data.encoding=NAME"
        return replace(self, encoding=encoding, is_guessed=False, notes=(*self.notes, text))

    def _has_utf8_letters(self) -> bool:
        with self.binary() as stream, io.TextIOWrapper(stream, "utf-8", errors="surrogateescape") as text:
            parts = iter(lambda: text.read(_HEAD_BYTES), "")
            letters = (letter for part in parts for letter in set(part))
            return any(letter > "\x7f" and not "\ud800" <= letter <= "\udfff" for letter in letters)


def examine(path: Path, encoding: str) -> TableSource:
    """Detect what a file is by its first bytes. `encoding`: a name that Python knows, or auto.

    Raises DataError for what is no table, ConfigError where a package is missing.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"data.path: {path} is a folder, a pipe or a device, not a file")
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    packing = next((name for mark, name in _PACKED.items() if head.startswith(mark)), None)
    if head.startswith(b"BZh") and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        packing = "bzip2"
    if packing is not None:
        with _opened(path, packing) as stream:
            head = stream.read(_HEAD_BYTES)
    notes = (f"unpacked from {packing}",) if packing else ()
    if head.startswith(b"PAR1"):
        return TableSource(path, packing, True, "", False, notes)
    _refuse_others(path, head)
    if encoding == "auto":
        guess, note = _guess(path, head)
        return TableSource(path, packing, False, guess, guess == "utf-8-sig", (*notes, *filter(None, [note])))
    if not is_encoding(encoding):
        raise ConfigError.of("data.encoding", no_encoding(encoding))
    is_utf8 = codecs.lookup(encoding).name == "utf-8"  # with or without a byte order mark
    return TableSource(path, packing, False, "utf-8-sig" if is_utf8 else encoding, False, notes)


def is_encoding(name: str) -> bool:
    """Whether Python knows an encoding of text by this name."""
    try:
        return isinstance("".encode(name), bytes) and isinstance(b"".decode(name), str)
    except (LookupError, ValueError):
        return False


def no_encoding(name: str) -> str:
    """The message about a name that is no encoding."""
    return f"must be a text encoding that Python knows, such as utf-8, latin-1 or utf-16, got {name!r}"


def _guess(path: Path, head: bytes) -> tuple[str, str]:
    """(encoding, a note about it) by the byte order mark, or by where zero bytes are."""
    for mark, name in _MARKED.items():
        if head.startswith(mark):
            return name, f"begins with the byte order mark of {_name(name)}"
    if b"\0" not in head:
        return "utf-8-sig", ""
    pairs = len(head) // 2
    for name, zeros, letters in (("utf-16-le", head[1::2], head[::2]), ("utf-16-be", head[::2], head[1::2])):
        if zeros.count(0) > 0.7 * pairs and letters.count(0) == 0:  # 1.0 of ASCII, less with other letters
            return name, f"read as {_name(name)}"
    text = "is not text: it has zero bytes; if it is UTF-16 or UTF-32, set data.encoding"
    raise DataError(f"data.path: {path} {text}")


def _refuse_others(path: Path, head: bytes) -> None:
    what = next((what for mark, what in _OTHERS.items() if head.startswith(mark)), None)
    if head[257:262] == b"ustar":
        what = "a tar archive; unpack it first"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        what = "a web page; look at it in a browser, it may say why the table was not delivered"
    if what:
        raise DataError(f"data.path: {path} is {what}")


@contextmanager
def _opened(path: Path, packing: str | None) -> Iterator[BinaryIO]:
    """The bytes in a file, unpacked. Raises DataError where they are damaged."""
    try:
        if packing == "zip":
            with zipfile.ZipFile(path) as archive, archive.open(_member(path, archive)) as member:
                yield member  # type: ignore[misc]
        elif packing == "zstd":
            with _zstd(path) as stream:
                yield stream
        else:
            opener: Any = {None: open, "gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}[packing]
            with opener(path, "rb") as stream:
                yield stream
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, OSError) as error:
        if packing is None or getattr(error, "errno", None):
            raise
        raise DataError(f"data.path: {path} is damaged or cut short ({packing}): {error}") from None


@contextmanager
def _zstd(path: Path) -> Iterator[BinaryIO]:
    try:
        from pyarrow import ArrowException, input_stream
    except ImportError:
        text = f"{path.name} is packed by Zstandard, which pyarrow reads: pip install 'trainrun[tables]'"
        raise ConfigError.of("data.path", f"{text}; or unpack it: zstd -d {path.name}") from None
    try:
        with input_stream(str(path), compression="zstd") as stream:
            yield stream
    except ArrowException as error:
        raise DataError(f"data.path: {path} is damaged or cut short (zstd): {error}") from None


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The only file of an archive."""
    files = [file for file in archive.infolist() if not file.is_dir() and "__MACOSX" not in file.filename]
    names = [file.filename for file in files]
    if any(name.startswith("xl/") for name in names) or "content.xml" in names:
        kind = "an Excel" if "content.xml" not in names else "an OpenDocument"
        raise DataError(f"data.path: {path} is {kind} workbook; save its sheet as csv")
    if len(files) != 1:
        shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
        why = f"holds {len(files)} files ({shown}); unpack it and name one of them"
        raise DataError(f"data.path: {path} {why}")
    if files[0].flag_bits & 1:
        raise DataError(f"data.path: {path} is protected by a password; unpack it first")
    return files[0]


def _name(encoding: str) -> str:
    return {"utf-8-sig": "UTF-8", "cp1252": "latin-1 (Windows-1252)"}.get(encoding, encoding.upper())
