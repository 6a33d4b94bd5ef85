"""Inputs to predict from a file of arrays: .npy, .npz, or IDX for pictures."""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from trainrun.data.faults import first_unfit
from trainrun.protocols import Batch, Position
from trainrun.vocabulary.errors import DataError

_NAMED = "inputs"
_LARGEST_BYTES = 256 << 20  # five times the largest file of MNIST; bounds what a gzip bomb may unpack to


def read_batches(file: Path, shape: tuple[int, ...], size: int, device: torch.device) -> Iterator[Batch]:
    """The samples of a file, `size` at a time, without targets; float64 becomes float32.

    Raises DataError as `read_inputs` does, and for a sample that is not finite.
    """
    inputs = read_inputs(file, shape)

    def batch_from(start: int) -> Batch:
        part = torch.from_numpy(np.array(inputs[start : start + size]))
        part = part.float() if part.is_floating_point() else part
        if (row := first_unfit(torch.isfinite(part))) is not None:
            raise DataError(f"{file}: sample {start + row} has an input that is not a finite number")
        return Batch(part.to(device), None, torch.arange(start, start + len(part)), Position())

    return map(batch_from, range(0, len(inputs), size))


def read_inputs(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """(N, *shape) numbers in their stored type; a single sample becomes N = 1.

    Pictures of one channel may lack that axis. An .npz file holds one array, or one called `inputs`.
    Raises DataError naming the file and what is wrong with it.
    """
    array = _array(file)
    if array.dtype.kind not in "buif":
        raise DataError(f"{file}: holds {array.dtype}, not numbers")
    bare = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    for accepted in (shape, bare):
        if array.shape == accepted:
            array = array[None]
        if array.shape[1:] == accepted:
            return array.reshape(len(array), *shape)
    got, expected = (f"({', '.join(map(str, sizes))})" for sizes in (array.shape, ("N", *shape)))
    raise DataError(f"{file}: must hold samples as in training, {expected}, got an array of {got}")


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes as an array. Raises DataError naming the file and what is wrong."""
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is a folder, a pipe or a device, not a file")
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(_LARGEST_BYTES + 1)  # a small packed file may hold any number of bytes
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"data.root: cannot read {path}: {error}") from None
    if len(raw) > _LARGEST_BYTES:
        raise DataError(f"data.root: {path} holds more than {_LARGEST_BYTES:,} bytes, more than any data set")
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != 0x08:
        begin = raw[:4].hex() or "nothing"
        raise DataError(f"data.root: {path} is not an IDX file of bytes, it begins with {begin}")
    header = 4 + 4 * raw[3]
    if len(raw) < header:
        raise DataError(f"data.root: {path} ends within its header")
    shape = struct.unpack(f">{raw[3]}I", raw[4:header])
    expected = header + math.prod(shape)
    if len(raw) != expected:
        raise DataError(f"data.root: {path} should have {expected} bytes for shape {shape}, got {len(raw)}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _array(file: Path) -> np.ndarray:
    try:
        if file.suffix == ".npy":
            return np.load(file, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
        if file.suffix == ".npz":
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                names = list(arrays)
                name = names[0] if len(names) == 1 else _NAMED
                if name not in names:
                    got = ", ".join(names) or "nothing"
                    raise DataError(f"{file}: must hold one array, or one named {_NAMED}, got {got}")
                return arrays[name]  # type: ignore[no-any-return]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
    if "ubyte" in file.name or file.suffix == ".idx":
        return read_idx(file)
    raise DataError(f"{file}: must be .npy, .npz or an IDX file (...-ubyte, ...-ubyte.gz)")
