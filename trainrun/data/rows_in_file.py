"""The rows of an array in a file, read by their place in it: large data that stay on disk."""

from __future__ import annotations

import os
import weakref
from itertools import pairwise
from typing import Any

import numpy as np

from trainrun.vocabulary.errors import DataError


class RowsInFile:
    """Reads what a memory map would, without mapping it.

    Of a map all pages that were read count as the process's memory, in the end the whole file; and the
    system reads 128 KiB ahead at each row of a random order.
    """

    def __init__(self, mapped: np.memmap[Any, Any]) -> None:
        assert mapped.filename is not None
        self.name, self.start = mapped.filename, mapped.offset
        self.shape, self.dtype = mapped.shape, mapped.dtype
        self._descriptor = os.open(self.name, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Copies of rows, whose numbers rise. Raises DataError where the file has become shorter."""
        numbers = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        values = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        flat = values.reshape(-1).view(np.uint8).data
        row_bytes = values.nbytes // max(len(numbers), 1)
        ends = np.flatnonzero(np.diff(numbers, append=-1) != 1) + 1  # of rows that lie side by side
        for begin, end in pairwise([0, *ends.tolist()]):
            place = self.start + int(numbers[begin]) * row_bytes
            self._fill(flat[begin * row_bytes : end * row_bytes], place)
        return values

    def _fill(self, values: memoryview, place: int) -> None:
        """Read bytes from `place` on; one call gives at most 2 GiB."""
        while len(values):
            try:
                count = os.preadv(self._descriptor, [values], place)
            except OSError as error:
                raise DataError(f"data.path: {self.name} cannot be read: {error.strerror}") from None
            if not count:
                raise DataError(f"data.path: {self.name} has become shorter; bring the whole file back")
            values, place = values[count:], place + count


def read_by_place(rows: Any) -> Any:
    """The same rows, not mapped where they lie in a file one after the other."""
    is_mapped = isinstance(rows, np.memmap) and rows.flags.c_contiguous
    return RowsInFile(rows) if is_mapped else rows
