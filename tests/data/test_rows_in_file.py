"""Rows read by their place are those of numpy's memory map; what is read is what was asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainrun.data.rows_in_file import RowsInFile, read_by_place
from trainrun.vocabulary.errors import DataError


def stored(folder: Path, values: np.ndarray) -> np.memmap[Any, Any]:
    np.save(folder / "x.npy", values)
    mapped = np.load(folder / "x.npy", "r")
    assert isinstance(mapped, np.memmap)
    return mapped


@pytest.mark.parametrize("dtype", ["f4", ">f4", "u1", "f2", "i8", "?"])
@pytest.mark.parametrize("row", [(), (3,), (2, 3)])
def test_rows_are_those_of_a_memory_map(tmp_path: Path, dtype: str, row: tuple[int, ...]) -> None:
    values = np.arange(20 * int(np.prod(row))).reshape(20, *row) % 7
    mapped = stored(tmp_path, values.astype(dtype))
    rows = RowsInFile(mapped)
    assert len(rows) == 20
    for numbers in (np.array([0]), np.array([3, 4, 5, 9, 19]), np.arange(20), np.array([], np.int64)):
        assert np.array_equal(rows[numbers], mapped[numbers])
    for stretch in (slice(0, 20), slice(4, 9), slice(18, 40), slice(3, 3)):
        assert np.array_equal(rows[stretch], mapped[stretch])
    assert rows[1:2].dtype == mapped.dtype


def test_no_byte_more_is_read_and_neighbours_in_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = RowsInFile(stored(tmp_path, np.zeros((1000, 25), np.float32)))
    sizes: list[int] = []
    read = os.preadv

    def counted(file: int, buffers: Sequence[memoryview], place: int) -> int:
        sizes.append(read(file, buffers, place))
        return sizes[-1]

    monkeypatch.setattr(os, "preadv", counted)
    rows[np.array([1, 2, 3, 500, 998, 999])]
    assert sizes == [300, 100, 200]


def test_calls_that_give_less_are_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = stored(tmp_path, np.arange(60.0).reshape(20, 3))
    read = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, buffers, place: read(file, [buffers[0][:7]], place))
    assert np.array_equal(RowsInFile(mapped)[2:19], mapped[2:19])


def test_a_file_that_became_shorter_is_named(tmp_path: Path) -> None:
    rows = RowsInFile(stored(tmp_path, np.zeros((1000, 1000))))
    os.truncate(tmp_path / "x.npy", 5_000_000)
    assert rows[:600].shape == (600, 1000)
    with pytest.raises(DataError, match=r"x\.npy has become shorter"):
        rows[600:700]


def test_what_does_not_lie_row_by_row_stays_as_it_is(tmp_path: Path) -> None:
    columns_first = stored(tmp_path, np.asfortranarray(np.ones((4, 5))))
    assert read_by_place(columns_first) is columns_first
    plain = np.ones((4, 5))
    assert read_by_place(plain) is plain


def test_a_large_file_does_not_become_resident(tmp_path: Path) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (5_000_000, 1000)}  # 20 GB, all holes
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 20_000_000_000)
    rows, before = read_by_place(np.load(tmp_path / "x.npy", "r")), mapped_bytes()
    for start in range(0, 5_000_000, 250_000):
        assert not rows[start : start + 2000].any()  # 160 MB in all
    assert mapped_bytes() - before < 20e6


def mapped_bytes() -> int:
    """Of files, that count as this process's memory."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssFile:")[2].split()[0])
