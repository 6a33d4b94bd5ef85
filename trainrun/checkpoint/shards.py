"""Files of divided tensors: each rank's pieces in safetensors' plain layout, checked before they are read.

8 bytes   the length of the header
header    {name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}, and where pieces
          begin in their tensors, as torch's HuggingFaceStorageReader finds it too
bytes     of the pieces, row by row; state.pt has shapes alone (on `meta`) in their place
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import add, lt, sub
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainrun.vocabulary.errors import ConfigError, ResumeError

PART_BYTES = 1 << 30  # of a file at most, so that threads and ranks can hash one each
SUFFIX = ".safetensors"
WEIGHTS = ("model/", "averager/model/")  # what the names of a state's weights begin with
_BLOCK = 1 << 18  # numbers looked at at once
_LARGEST_HEADER_BYTES = 100_000_000  # as safetensors has it; more would fill the memory for a lie
_LARGEST_SIZE = 1 << 60  # a product of sizes that neither torch nor a file comes to
_OFFSETS = "DCP_SHARDING_INFO"  # the name that torch gives them
_WORDS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "C64": "complex64"}
_WORDS |= {"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}
_WORDS |= {"U64": "uint64", "U32": "uint32", "U16": "uint16", "F8_E8M0": "float8_e8m0fnu"}
_WORDS |= {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
_DTYPES: dict[str, torch.dtype] = {name: getattr(torch, word) for name, word in _WORDS.items()}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

Place = tuple[int, ...]  # of a piece's first number in its tensor
Shards = Mapping[str, tuple[Tensor, Place]]  # what a rank holds, by name
Part = list[tuple[str, Tensor, Place]]  # what goes into one file


@dataclass(frozen=True)
class Piece:
    """A box of a tensor's numbers, and the place of its bytes."""

    offsets: Place
    sizes: tuple[int, ...]
    dtype: torch.dtype
    file: Path
    start: int  # byte

    @property
    def ends(self) -> tuple[int, ...]:
        return tuple(map(add, self.offsets, self.sizes))


class Pieces(list[Piece]):
    """A tensor's. A class of its own, so that what a file says they are is not believed."""


def is_sharded(tensor: Tensor) -> bool:
    """Whether the ranks hold parts of it: a DTensor, whose module is imported only where there are any."""
    return hasattr(tensor, "device_mesh")


def box_of(tensor: Any) -> tuple[tuple[int, ...], Place]:
    """(sizes, offsets) of this rank's part of a DTensor."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    return compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)


def writes(tensor: Any) -> bool:
    """Whether this rank stores its part of a DTensor: of replicas the first does."""
    place = tensor.device_mesh.get_coordinate() or ()
    is_copy = any(
        number for number, kind in zip(place, tensor.placements, strict=True) if kind.is_replicate()
    )
    return not is_copy and math.prod(box_of(tensor)[0]) > 0


# Writing


def in_parts(shards: Shards) -> list[Part]:
    """Divide a rank's shards into files of at most PART_BYTES, larger ones by their rows."""
    parts, room = list[Part](), 0
    for name, (tensor, place) in shards.items():
        rows = max(1, PART_BYTES * len(tensor) // tensor.nbytes) if tensor.ndim else 1
        for index, piece in enumerate(tensor.split(rows) if tensor.ndim else [tensor]):
            if not parts or room < piece.nbytes or index:
                parts.append([])
                room = PART_BYTES
            begin = (place[0] + index * rows, *place[1:]) if place else ()
            parts[-1].append((name, piece, begin))
            room -= piece.nbytes
    return parts


def encoded(part: Part, about: Mapping[str, str]) -> list[memoryview]:
    """What a file holds, in order: the header with `about` in it, and the bytes of each tensor.

    Raises ConfigError for a type that safetensors does not have.
    """
    part = sorted(part, key=lambda item: -item[1].element_size())  # so that all numbers lie aligned
    places = {name: {"saved_offsets": list(place)} for name, _, place in part}
    header: dict[str, Any] = {"__metadata__": {"format": "pt", _OFFSETS: json.dumps(places), **about}}
    end = 0
    for name, tensor, _ in part:
        if tensor.dtype not in _NAMES:
            raise ConfigError.of("model", f"has {name} of {tensor.dtype}, which safetensors cannot hold")
        ends = [end, end := end + tensor.nbytes]
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": ends}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return [memoryview(len(text).to_bytes(8, "little") + text), *(_bytes_of(item[1]) for item in part)]


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.detach().contiguous().view(-1).view(torch.uint8)
    return memoryview(flat.numpy())  # type: ignore[arg-type]


# Reading


def header_of(file: Path) -> dict[str, Piece]:
    """The pieces in a file. Raises ValueError for a header that claims what the file does not hold."""
    with file.open("rb") as opened:
        length, size = int.from_bytes(opened.read(8), "little"), file.stat().st_size
        if length > min(size - 8, _LARGEST_HEADER_BYTES):
            raise ValueError(f"{file.name} has a header of {length:,} bytes, and {size:,} in all")
        header = json.loads(opened.read(length), object_pairs_hook=_unique)
    places = json.loads(header.pop("__metadata__", {}).get(_OFFSETS, "{}"), object_pairs_hook=_unique)
    pieces = {}
    begin = 8 + length
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        sizes = entry["shape"]
        place = places[name]["saved_offsets"] if places else [0] * len(sizes)
        numbers = [*sizes, *place, *entry["data_offsets"]]
        are_whole = all(isinstance(number, int) and 0 <= number < _LARGEST_SIZE for number in numbers)
        if not are_whole or math.prod(filter(None, sizes)) >= _LARGEST_SIZE:
            raise ValueError(f"{file.name} has impossible sizes of {name}")
        piece = Piece(tuple(place), tuple(sizes), _DTYPES[entry["dtype"]], file, begin)
        begin += math.prod(sizes) * piece.dtype.itemsize
        if entry["data_offsets"] != [piece.start - 8 - length, begin - 8 - length] or begin > size:
            raise ValueError(f"{file.name} claims bytes of {name} that it does not hold")
        pieces[name] = piece
    if begin != size:
        raise ValueError(f"{file.name} holds bytes of no tensor")
    return pieces


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(entries := dict(pairs)) < len(pairs):
        raise ValueError("a header has a name twice")
    return entries


def pieces_in(files: Iterable[Path]) -> dict[str, Pieces]:
    """The pieces of each tensor in files. Raises ValueError as `header_of` does."""
    pieces: dict[str, Pieces] = {}
    for file in files:
        for name, piece in header_of(file).items():
            pieces.setdefault(name, Pieces()).append(piece)
    return pieces


def tensors_in(files: Iterable[Path]) -> dict[str, Tensor]:
    """Shapes whose numbers `read` reads. Raises as `header_of` does."""
    shapes = {}
    for name, pieces in pieces_in(files).items():
        shapes[name] = torch.empty(pieces[0].sizes, dtype=pieces[0].dtype, device="meta")
        shapes[name].pieces = pieces  # type: ignore[attr-defined]
    return shapes


def misfit_of(pieces: Mapping[str, Pieces], tensors: Mapping[str, Tensor]) -> str | None:
    """What keeps pieces from being, together, just those tensors; None: nothing."""
    if differing := pieces.keys() ^ {name for name, tensor in tensors.items() if tensor.numel()}:
        return f"does not hold {min(differing)} both in its state and in its shards"
    for name, parts in pieces.items():
        if any(piece.dtype != tensors[name].dtype for piece in parts):
            return f"holds pieces of {name} that are not of {tensors[name].dtype}"
        if not _tile(tuple(tensors[name].shape), parts):
            return f"holds pieces of {name} that do not make it up"
    return None


def _tile(shape: tuple[int, ...], pieces: list[Piece]) -> bool:
    """Whether pieces are the cells of a grid over a whole shape, each once."""
    if any(len(piece.offsets) != len(shape) or len(piece.sizes) != len(shape) for piece in pieces):
        return False
    lines = [sorted({0, size, *(piece.offsets[dim] for piece in pieces)}) for dim, size in enumerate(shape)]
    ends = [dict(pairwise(line)) for line in lines]
    cells = {piece.offsets for piece in pieces if piece.ends == tuple(map(dict.get, ends, piece.offsets))}
    return len(cells) == len(pieces) == math.prod(map(len, ends))


def _rows_of(piece: Piece, begin: int, end: int) -> Iterator[tuple[int, Tensor]]:
    """(the number of the first, numbers) of a piece's rows, as many at a time as stay in a cache.

    All have the same memory. Raises OSError for a file that ends within them.
    """
    if not (width := math.prod(piece.sizes[1:])):
        return
    memory = torch.empty(max(1, _BLOCK // width), *piece.sizes[1:], dtype=piece.dtype)
    with piece.file.open("rb") as file:
        file.seek(piece.start + begin * width * piece.dtype.itemsize)
        for first in range(begin, end, len(memory)):
            rows = memory[: end - first]
            if file.readinto(_bytes_of(rows)) < rows.nbytes:
                raise OSError(errno.EIO, "it was changed while it was read")
            yield first, rows


def read_box(pieces: Iterable[Piece], offsets: Place, into: Tensor) -> None:
    """Fill `into`, the box of a tensor that begins at `offsets`, with what the pieces hold of it.

    Raises ResumeError for a file that cannot be read.
    """
    if not into.ndim:  # a number is read as a row of one
        pieces = [replace(piece, offsets=(0,), sizes=(1,)) for piece in pieces]
        offsets, into = (0,), into.view(1)
    ends = tuple(map(add, offsets, into.shape))
    for piece in pieces:
        begin, end = tuple(map(max, piece.offsets, offsets)), tuple(map(min, piece.ends, ends))
        if not all(map(lt, begin, end)):
            continue
        here, there = (_slices(begin[1:], end[1:], origin[1:]) for origin in (offsets, piece.offsets))
        try:
            for row, rows in _rows_of(piece, begin[0] - piece.offsets[0], end[0] - piece.offsets[0]):
                place = row + piece.offsets[0] - offsets[0]
                into[(slice(place, place + len(rows)), *here)].copy_(rows[(slice(None), *there)])
        except OSError as error:
            raise ResumeError(f"checkpoint: {piece.file} cannot be read: {error.strerror}") from None


def _slices(begin: Place, end: Place, origin: Place) -> tuple[slice, ...]:
    return tuple(map(slice, map(sub, begin, origin), map(sub, end, origin)))


def read(stored: Tensor, into: Tensor) -> None:
    """Copy a stored tensor into a live one, from its files where it is a shape alone."""
    if (pieces := pieces_at(stored)) is None:
        into.copy_(stored)
    else:
        read_box(pieces, (0,) * into.ndim, into)


def pieces_at(tensor: Tensor) -> Pieces | None:
    """Where the numbers of a stored shape are; None where they are in no files."""
    pieces = getattr(tensor, "pieces", None)
    return pieces if isinstance(pieces, Pieces) else None


def not_finite_in_file(pieces: Mapping[str, Piece]) -> str | None:
    """The name of a weight that holds a number that is not finite."""
    for name, piece in pieces.items():
        sizes = piece.sizes or (1,)
        rows = _rows_of(replace(piece, sizes=sizes), 0, sizes[0])
        if name.startswith(WEIGHTS) and not all(is_finite(block) for _, block in rows):
            return name
    return None


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite; looked at block by block, which takes no memory."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    is_float8 = tensor.itemsize == 1  # of whose kinds torch looks at few
    blocks = tensor.reshape(-1).split(_BLOCK)
    return all(bool((block.float() if is_float8 else block).isfinite().all()) for block in blocks)
