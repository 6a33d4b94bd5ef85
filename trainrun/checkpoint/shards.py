"""Files of divided tensors: each rank's pieces in safetensors' plain layout, checked before they are read.

    8 bytes   the length of the header
    header    {name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...} and, under
              __metadata__, where each piece begins in its tensor, as torch's HuggingFaceStorageReader
              finds it too
    bytes     of the pieces, row by row

state.pt holds everything else, and in the place of a divided tensor its shape and type (on `meta`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

PART_BYTES = 1 << 30  # of a file at most, so that threads and ranks can hash one each
SUFFIX = ".safetensors"
WEIGHTS = ("model/", "averager/model/")  # what the names of a state's weights begin with
_PIECE_BYTES = 32 << 20  # read at once where a copy is needed
_OFFSETS = "DCP_SHARDING_INFO"  # the name that torch gives them
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
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
        return tuple(offset + size for offset, size in zip(self.offsets, self.sizes, strict=True))

    @property
    def num_bytes(self) -> int:
        return math.prod(self.sizes) * self.dtype.itemsize


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
    replicated = [index for index, kind in enumerate(tensor.placements) if kind.is_replicate()]
    return math.prod(box_of(tensor)[0]) > 0 and not any(place[index] for index in replicated)


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
    """What a file holds, in order: the header with `about` in it, and the bytes of each tensor."""
    places = {name: {"saved_offsets": list(place)} for name, _, place in part}
    header: dict[str, Any] = {"__metadata__": {"format": "pt", _OFFSETS: json.dumps(places), **about}}
    end = 0
    for name, tensor, _ in part:
        ends = [end, end := end + tensor.nbytes]
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": ends}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return [memoryview(len(text).to_bytes(8, "little") + text), *(_bytes_of(item[1]) for item in part)]


def _bytes_of(tensor: Tensor) -> memoryview:
    return memoryview(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]


# Reading


def header_of(file: Path) -> dict[str, Piece]:
    """The pieces in a file. Raises ValueError for a header that claims what the file does not hold."""
    with file.open("rb") as opened:
        length, size = int.from_bytes(opened.read(8), "little"), file.stat().st_size
        if length > size - 8:
            raise ValueError(f"{file.name} has a header of {length:,} bytes, and {size:,} in all")
        header = json.loads(opened.read(length), object_pairs_hook=_unique)
    places = json.loads(header.pop("__metadata__")[_OFFSETS], object_pairs_hook=_unique)
    pieces = {}
    begin = 8 + length
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        sizes, place = entry["shape"], places[name]["saved_offsets"]
        numbers = [*sizes, *place, *entry["data_offsets"]]
        if not all(isinstance(number, int) and 0 <= number < 1 << 60 for number in numbers):
            raise ValueError(f"{file.name} has impossible sizes of {name}")
        piece = Piece(tuple(place), tuple(sizes), _DTYPES[entry["dtype"]], file, begin)
        begin += piece.num_bytes
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


def pieces_in(files: Iterable[Path]) -> dict[str, list[Piece]]:
    """The pieces of each tensor in files. Raises ValueError as `header_of` does."""
    pieces: dict[str, list[Piece]] = {}
    for file in files:
        for name, piece in header_of(file).items():
            pieces.setdefault(name, []).append(piece)
    return pieces


def misfit_of(pieces: Mapping[str, list[Piece]], tensors: Mapping[str, Tensor]) -> str | None:
    """What keeps pieces from being, together, just those tensors; None: nothing."""
    if differing := pieces.keys() ^ tensors.keys():
        return f"does not hold {min(differing)} both in its state and in its shards"
    for name, tensor in tensors.items():
        if any(piece.dtype != tensor.dtype for piece in pieces[name]):
            return f"holds pieces of {name} that are not of {tensor.dtype}"
        if not _tile(tuple(tensor.shape), pieces[name]):
            return f"holds pieces of {name} that do not make it up"
    return None


def _tile(shape: tuple[int, ...], pieces: list[Piece]) -> bool:
    """Whether boxes fill a whole shape, each place once."""
    if any(len(piece.offsets) != len(shape) or len(piece.sizes) != len(shape) for piece in pieces):
        return False
    if any(end > size for piece in pieces for end, size in zip(piece.ends, shape, strict=True)):
        return False
    if sum(math.prod(piece.sizes) for piece in pieces) != math.prod(shape):
        return False
    if not shape:
        return len(pieces) == 1
    # A sweep along the dimension that is divided most: only boxes that lie beside are compared.
    dim = max(range(len(shape)), key=lambda dim: len({piece.offsets[dim] for piece in pieces}))
    beside: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: piece.offsets[dim]):
        beside = [other for other in beside if other.ends[dim] > piece.offsets[dim]]
        if any(_common(piece, other.offsets, other.sizes) for other in beside):
            return False
        beside.append(piece)
    return True


def _common(piece: Piece, offsets: Place, sizes: tuple[int, ...]) -> tuple[Place, Place] | None:
    """(begin, end) of what a piece and a box have in common."""
    begin = tuple(map(max, piece.offsets, offsets))
    ends = (offset + size for offset, size in zip(offsets, sizes, strict=True))
    end = tuple(map(min, piece.ends, ends))
    return (begin, end) if all(map(int.__lt__, begin, end)) else None


def read_box(pieces: Iterable[Piece], offsets: Place, into: Tensor) -> None:
    """Fill `into`, the box of a tensor that begins at `offsets`, with what the pieces hold of it."""
    for piece in pieces:
        if common := _common(piece, offsets, tuple(into.shape)):
            with piece.file.open("rb", buffering=0) as file:
                _read_common(file, piece, offsets, into.detach(), *common)


def _read_common(
    file: BinaryIO, piece: Piece, offsets: Place, into: Tensor, begin: Place, end: Place
) -> None:
    """Read whole rows, straight into their place where they lie there as in the file."""
    if not begin:  # a single number
        return _read_common(file, _row(piece), (0,), into.view(1), (0,), (1,))
    place = tuple(slice(b - o, e - o) for b, e, o in zip(begin, end, offsets, strict=True))
    columns = [slice(b - o, e - o) for b, e, o in zip(begin[1:], end[1:], piece.offsets[1:], strict=True)]
    target, row_bytes = into[place], piece.num_bytes // piece.sizes[0]
    rows = max(1, _PIECE_BYTES // row_bytes)
    is_whole = target.shape[1:] == piece.sizes[1:] and target.dtype == piece.dtype
    file.seek(piece.start + (begin[0] - piece.offsets[0]) * row_bytes)
    for block in target.split(rows):
        if is_whole and block.is_contiguous() and block.device.type == "cpu":
            read_bytes(file, block)
        else:
            buffer = torch.empty((len(block), *piece.sizes[1:]), dtype=piece.dtype)
            read_bytes(file, buffer)
            block.copy_(buffer[(slice(None), *columns)])
    return None


def _row(piece: Piece) -> Piece:
    return Piece((0,), (1,), piece.dtype, piece.file, piece.start)


def read_bytes(file: BinaryIO, into: Tensor) -> None:
    """Fill a contiguous tensor with the next bytes. Raises OSError where they end before."""
    rest = memoryview(into.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    while len(rest):
        count = file.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise OSError(f"{file.name} was cut off while it was read")
        rest = rest[count:]


def not_finite_in_file(pieces: Mapping[str, Piece]) -> str | None:
    """The name of a weight that holds a number that is not finite; looks at some at a time."""
    for name, piece in pieces.items():
        if name.startswith(WEIGHTS) and piece.dtype.is_floating_point:
            with piece.file.open("rb", buffering=0) as file:
                file.seek(piece.start)
                for count in _blocks(math.prod(piece.sizes), _PIECE_BYTES // piece.dtype.itemsize):
                    block = torch.empty(count, dtype=piece.dtype)
                    read_bytes(file, block)
                    if not block.isfinite().all():
                        return name
    return None


def _blocks(total: int, size: int) -> Iterator[int]:
    for begin in range(0, total, size):
        yield min(size, total - begin)
