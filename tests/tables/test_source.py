"""A file's bytes as text: packings and encodings are found, what is no table is named."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zipfile
from pathlib import Path

import pytest

from trainrun.tables.source import is_encoding
from trainrun.tables.tables import Format, read
from trainrun.vocabulary.errors import ConfigError, DataError

AUTO = Format("auto", "auto", True)
TEXT = "city,price\nMünchen,1\nKöln,2\n"
COLUMNS = {"city": ["München", "Köln"], "price": ["1", "2"]}


def zipped(*names: str, content: bytes = TEXT.encode()) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return stream.getvalue()


def zstandard(content: bytes) -> bytes:
    pyarrow = pytest.importorskip("pyarrow", reason="Zstandard is read by pyarrow, which is not installed")
    return bytes(pyarrow.Codec("zstd").compress(content, asbytes=True))


PACKED = {
    "gzip": gzip.compress(TEXT.encode()),
    "bzip2": bz2.compress(TEXT.encode()),
    "xz": lzma.compress(TEXT.encode()),
    "zip": zipped("a/t.csv", "__MACOSX/a/._t.csv"),
}


def table(folder: Path, content: bytes, format: Format = AUTO, name: str = "t.csv"):
    (folder / name).write_bytes(content)
    return read(str(folder / name), format, [])


@pytest.mark.parametrize("packing", [*PACKED, "zstd"])
def test_packed_files_are_known_by_their_bytes(packing: str, tmp_path: Path) -> None:
    content = PACKED.get(packing) or zstandard(TEXT.encode())
    loaded = table(tmp_path, content)
    assert loaded.columns == COLUMNS
    assert loaded.notes == (f"unpacked from {packing}",)
    assert loaded.place([1], "price").endswith("t.csv:3: column price")


@pytest.mark.parametrize("packing", ["gzip", "xz", "zip", "zstd"])
def test_a_packed_file_that_was_cut_short_is_named(packing: str, tmp_path: Path) -> None:
    content = PACKED.get(packing) or zstandard(TEXT.encode() * 50)
    with pytest.raises(DataError, match=r"t\.csv is damaged or cut short \("):
        table(tmp_path, content[:-9])


def test_zstandard_without_its_reader_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = zstandard(TEXT.encode())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'trainrun\[tables\]'.*zstd -d t\.csv"):
        table(tmp_path, content)


def test_a_small_file_that_unpacks_to_more_than_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainrun.tables.source._UNPACKED_BYTES", 1000)
    with pytest.raises(DataError, match=r"unpacks to more than .* bytes"):
        table(tmp_path, gzip.compress(b"a,b\n" + b"1,2\n" * 100_000))


ENCODED = {
    "utf-8-sig": "begins with the byte order mark of UTF-8",
    "utf-16": "begins with the byte order mark of UTF-16",
    "utf-32": "begins with the byte order mark of UTF-32",
    "utf-16-le": "read as UTF-16-LE",
    "utf-16-be": "read as UTF-16-BE",
    "latin-1": "read as latin-1 (Windows-1252): byte 0xfc is not UTF-8",
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_encodings_are_found_and_said(encoding: str, tmp_path: Path) -> None:
    loaded = table(tmp_path, TEXT.encode(encoding))
    assert loaded.columns == COLUMNS
    assert len(loaded.notes) == 1 and loaded.notes[0].startswith(ENCODED[encoding])
    assert loaded.place([1], "price").endswith("t.csv:3: column price")
    assert table(tmp_path, TEXT.encode(encoding), Format("auto", encoding, True)).notes == ()


def test_utf_8_says_nothing(tmp_path: Path) -> None:
    assert table(tmp_path, TEXT.encode()).notes == ()


def test_letters_of_windows_are_letters(tmp_path: Path) -> None:
    assert table(tmp_path, "a,b\n5 €,“x”\n".encode("cp1252")).columns == {"a": ["5 €"], "b": ["“x”"]}
    assert table(tmp_path, b"a,b\n\x81,\xe9\n").columns == {"a": ["\x81"], "b": ["é"]}  # latin-1 alone has it


def test_an_encoding_may_be_named(tmp_path: Path) -> None:
    content = "name,y\n\u0434\u0430,1\n".encode("koi8-r")
    assert table(tmp_path, content, Format("auto", "koi8-r", True)).columns == {
        "name": ["\u0434\u0430"],
        "y": ["1"],
    }
    with pytest.raises(DataError, match=r"is not UTF-8 text: .*; repair it, or name its encoding"):
        table(tmp_path, content, Format("auto", "utf-8", True))
    with pytest.raises(ConfigError, match=r"data\.encoding: must be a text encoding .* got 'latin-99'"):
        table(tmp_path, content, Format("auto", "latin-99", True))


def test_damage_within_utf_8_is_not_taken_for_latin_1(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not UTF-8 text: .*byte 0xff"):
        table(tmp_path, TEXT.encode() + b"\xff,3\n")


def test_names_of_encodings() -> None:
    assert all(map(is_encoding, ("utf-8", "latin-1", "cp1252", "gbk")))
    assert not any(map(is_encoding, ("latin-99", "hex", "rot13", "", "a b")))


OTHERS = {
    "an Excel workbook": zipped("[Content_Types].xml", "xl/workbook.xml"),
    "an Excel workbook; save": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    "an OpenDocument workbook": zipped("mimetype", "content.xml"),
    r"holds 2 files \(a.csv, b.csv\); unpack it": zipped("a.csv", "b.csv"),
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "a web page": b"\n<!DOCTYPE html><html>",
    "a tar archive": gzip.compress(bytes(257) + b"ustar" + bytes(300)),
    "is not text: it has zero bytes": b"a,b\n" + bytes(range(256)) * 4,
}


@pytest.mark.parametrize("message", OTHERS)
def test_what_is_no_table_is_named(message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        table(tmp_path, OTHERS[message])


def test_parquet_is_known_by_its_bytes_whatever_its_name(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet is read by pyarrow, which is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"a": [1, 2]}), tmp_path / "t.data")
    content = (tmp_path / "t.data").read_bytes()
    assert table(tmp_path, content).columns == {"a": ["1", "2"]}
    packed = table(tmp_path, gzip.compress(content))
    assert (packed.columns, packed.notes) == ({"a": ["1", "2"]}, ("unpacked from gzip",))
