"""Files of arrays: .npz, .npy, HDF5, .pt, or a folder of these; rows are read when asked for."""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from trainrun.tables.names import SPLITS, inputs_among, listed, split_of, target_among
from trainrun.vocabulary.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

_UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile)
_LOCAL_HEADER = 30  # bytes of a zip member's own header, before its name


@dataclass(frozen=True)
class Entry:
    """An array in a file; `load` gives what holds its rows, on disk where the format allows."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], Any]  # an array, a memory map or a HDF5 dataset
    is_packed: bool = False  # compressed: read whole or not at all

    def __str__(self) -> str:
        return str(self.file) if self.file.suffix == ".npy" else f"{self.file} {self.name}"

    @property
    def form(self) -> str:
        """`uint8 of shape (100, 28, 28)`."""
        return f"{self.dtype} of shape {self.shape}"

    def rows(self) -> Any:
        """What holds the rows. Raises DataError where it cannot be read, or holds no numbers."""
        if self.dtype.hasobject:
            text = "holds Python objects, which are not read because they could run code"
            raise DataError(f"data.path: {self} {text}; save numbers of one shape, as np.stack makes them")
        if self.dtype.kind not in "buif" or not self.shape or not self.shape[0]:
            raise DataError(f"data.path: {self} is {self.form}; it must hold numbers, one row per sample")
        try:
            return self.load()
        except _UNREADABLE as error:
            raise DataError(f"data.path: {self} cannot be read: {error}") from None


@dataclass(frozen=True)
class ArraySplits:
    """The inputs and the targets of each split, their names, and the entries that are neither."""

    names: tuple[str, str]  # without the split's
    inputs: Mapping[str, Entry]
    targets: Mapping[str, Entry]
    left_out: tuple[str, ...]


def entries_of(path: Path) -> dict[str, Entry]:
    """Every entry of a file, or of a folder's files, by name. Raises DataError where they cannot be read."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in _READERS and file.is_file())
        inside = {file: entries_of(file) for file in files if not file.name.startswith(".")}
        if inside:
            return {
                _named(file, name, len(i)): entry for file, i in inside.items() for name, entry in i.items()
            }
    if not path.exists():
        raise DataError(f"data.path: there is no file {path}")
    if path.suffix.lower() not in _READERS:
        problem = (
            "holds no file of arrays" if path.is_dir() else "must be a file of arrays, or a folder of them"
        )
        raise DataError(f"data.path: {path} {problem}: {', '.join(_READERS)}")
    try:
        return _READERS[path.suffix.lower()](path)
    except UnpicklingError:
        text = "holds more than tensors, which is not read because it could run code"
        raise DataError(f"data.path: {path} {text}; save a dict of tensors") from None
    except _UNREADABLE as error:
        raise DataError(f"data.path: {path} cannot be read: {str(error).partition(chr(10))[0]}") from None


def read(path: str, inputs: str | None, targets: str | None) -> ArraySplits:
    """Choose inputs and targets of every split; the names are the user's, None where they are to be found.

    `targets` may be a file of its own. Raises DataError and ConfigError naming file and entry.
    """
    entries = entries_of(Path(path).expanduser())
    if targets is not None and targets not in entries and Path(targets).suffix.lower() in _READERS:
        entries, targets = _with_file(entries, Path(targets).expanduser())
        groups = {"train": {name: name for name in entries}}
    else:
        groups = _by_split(list(entries), (inputs, targets))
    bases = {name: base for base, name in groups["train"].items()}
    inputs, targets = (name and bases.get(name, name) for name in (inputs, targets))
    names = _choose(path, list(groups["train"]), inputs, targets)
    splits = [split for split in SPLITS if all(name in groups.get(split, ()) for name in names)]
    by_split = {split: [entries[groups[split][name]] for name in names] for split in splits}
    used = {id(entry) for pair in by_split.values() for entry in pair}
    for pair in by_split.values():
        _check(*pair, *by_split["train"])
    return ArraySplits(
        names,
        {split: pair[0] for split, pair in by_split.items()},
        {split: pair[1] for split, pair in by_split.items()},
        tuple(name for name, entry in entries.items() if id(entry) not in used),
    )


def read_more(file: Path, inputs: str, target: str) -> tuple[Entry, Entry | None]:
    """The inputs of another file, and its targets where it has them. Else raises DataError."""
    entries = entries_of(file)
    pairs = [
        (group[inputs], group.get(target)) for group in _grouped(list(entries)).values() if inputs in group
    ]
    if len(entries) == 1:
        pairs = [(next(iter(entries)), None)]
    if len(pairs) != 1:
        text = f"must hold one array, or one of the name {inputs}; it has {listed(list(entries))}"
        raise DataError(f"data.path: {file} {text}")
    name, target_name = pairs[0]
    return entries[name], entries.get(target_name or "")


def target_kind(entry: Entry) -> tuple[str, int]:
    """("classes", "labels" or "values", how many classes) of an array of targets."""
    import numpy as np

    values = np.asarray(entry.rows())
    is_whole, is_single = values.dtype.kind in "biu", values.shape[1:] in ((), (1,))
    if is_whole and is_single:
        return "classes", len(np.unique(values))
    if values.ndim == 2 and not is_single and bool(((values == 0) | (values == 1)).all()):
        if bool((values.sum(1) == 1).all()):
            return "classes", values.shape[1]  # one-hot
        return ("labels" if is_whole else "values"), 0
    return "values", 0


def _named(file: Path, name: str, count: int) -> str:
    return file.stem if count == 1 else f"{file.stem}/{name}"


def _with_file(entries: dict[str, Entry], file: Path) -> tuple[dict[str, Entry], str]:
    """The entries with the target of another file, and its name."""
    others = entries_of(file)
    name = next(iter(others)) if len(others) == 1 else target_among(list(others))
    if name is None:
        raise ConfigError.of("data.targets", f"{file} has {listed(list(others))}; save the target alone")
    return entries | {str(file): others[str(name)]}, str(file)


def _by_split(names: Sequence[str], given: Sequence[str | None]) -> dict[str, dict[str, str]]:
    """Split -> name without the split's -> name; "train" alone where the names tell of no splits."""
    groups = _grouped(names, given)
    if "train" not in groups and len(groups.get("", ())) > 1:
        groups["train"] = groups.pop("")
    if len(groups.get("train", ())) < 2:  # a name such as test_score
        return {"train": {name: name for name in names}}
    if unclear := groups.get("val or test"):
        text = "may be meant for validation or for the test; name it val or test"
        raise DataError(f"data.path: {listed(list(unclear.values()))} {text}")
    return groups


def _grouped(names: Sequence[str], given: Sequence[str | None] = ()) -> dict[str, dict[str, str]]:
    """Split -> name without the split's -> name: `x_test` is `x` of `test`; others are in ""."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        tokens = re.split(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])", name)
        splits = [split for token in tokens if (split := split_of(token))]
        split = splits[0] if len(splits) == 1 and (name not in given or splits == ["train"]) else ""
        base = "_".join(token for token in tokens if not split_of(token)) if split else name
        groups.setdefault(split, {})[base] = name
    return groups


def _choose(path: str, names: list[str], inputs: str | None, target: str | None) -> tuple[str, str]:
    for key, name in (("inputs", inputs), ("targets", target)):
        if name is not None and name not in names:
            raise ConfigError.of(f"data.{key}", f"{path} has no entry {name}; it has {listed(names)}")
    rest = [name for name in names if name != inputs]
    is_plain = all(re.fullmatch(r"(arr_)?\d+", name) for name in names)  # np.savez(file, x, y), or a tuple
    target = target or (rest[-1] if is_plain and len(names) > 1 else _text(target_among(rest)))
    if target is None:
        fix = "data.targets=FILE" if len(names) == 1 else f"data.targets={names[-1]}"
        raise ConfigError.of("data.targets", f"{path} has {listed(names)}; say what the targets are: {fix}")
    others = [inputs] if inputs else list(map(str, inputs_among([n for n in names if n != target])))
    if len(others) != 1 or others == [target]:
        text = f"{listed(others)} may all be the inputs; name one entry: data.inputs={others[0]}"
        raise ConfigError.of("data.inputs", text)
    return others[0], target


def _text(key: object) -> str | None:
    return None if key is None else str(key)


def _check(inputs: Entry, targets: Entry, train_inputs: Entry, train_targets: Entry) -> None:
    """Raise DataError for arrays of unequal length, or of another form than those of training."""
    for entry, other in ((inputs, train_inputs), (targets, train_targets)):
        if (entry.shape[1:], entry.dtype.kind) != (other.shape[1:], other.dtype.kind):
            raise DataError(f"data.path: {entry} is {entry.form}, but {other} is {other.form}")
    if inputs.shape[:1] != targets.shape[:1]:
        text = f"{inputs} is {inputs.form}, {targets} is {targets.form}"
        raise DataError(f"data.path: inputs and targets must have as many rows: {text}")


def _header(stream: Any) -> tuple[tuple[int, ...], bool, Any]:
    """(shape, whether columns come first, dtype) of an array in numpy's format, without its values."""
    from numpy.lib import format as npy

    is_first = npy.read_magic(stream) == (1, 0)
    header: Any = (npy.read_array_header_1_0 if is_first else npy.read_array_header_2_0)(stream)
    return header  # type: ignore[no-any-return]


def _npy(file: Path) -> dict[str, Entry]:
    import numpy as np

    with file.open("rb") as stream:
        shape, _, dtype = _header(stream)
    load = partial(np.load, file, "r", allow_pickle=False)
    return {file.stem: Entry(file, file.stem, shape, dtype, load)}


def _npz(file: Path) -> dict[str, Entry]:
    entries = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as stream:
                    shape, is_fortran, dtype = _header(stream)
                    start = stream.tell()
                is_packed = member.compress_type != zipfile.ZIP_STORED
                places = (member.header_offset, start, shape, dtype, "F" if is_fortran else "C")
                load = partial(_unpacked, file, name) if is_packed else partial(_mapped, file, *places)
                entries[name] = Entry(file, name, shape, dtype, load, is_packed)
    return entries


def _unpacked(file: Path, name: str) -> Any:
    import numpy as np

    with np.load(file, allow_pickle=False) as arrays:
        return arrays[name]


def _mapped(file: Path, offset: int, start: int, shape: Any, dtype: Any, order: Any) -> Any:
    """An array that lies uncompressed in a zip file, as a memory map."""
    import numpy as np

    with file.open("rb") as stream:
        stream.seek(offset + _LOCAL_HEADER - 4)
        offset += _LOCAL_HEADER + sum(struct.unpack("<HH", stream.read(4))) + start
    return np.memmap(file, dtype, "r", offset, shape, order)


def _hdf5(file: Path) -> dict[str, Entry]:
    try:
        import h5py
    except ImportError:
        raise ConfigError.of("data.path", "HDF5 needs h5py: pip install 'trainrun[arrays]'") from None
    entries: dict[str, Entry] = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape:
            entries[name] = Entry(file, name, item.shape, item.dtype, lambda: item)

    h5py.File(file, "r").visititems(add)  # it stays open as long as its arrays are used
    return entries


def _pt(file: Path) -> dict[str, Entry]:
    import torch

    def walk(tree: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
        if isinstance(tree, torch.Tensor):
            yield name or file.stem, tree.detach()
        items = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if _is_list(tree) else ()
        for key, value in items:
            yield from walk(value, f"{name}/{key}" if name else str(key))

    entries = {}
    for name, tensor in walk(torch.load(file, map_location="cpu", weights_only=True, mmap=True), ""):
        values = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        entries[name] = Entry(file, name, values.shape, values.dtype, lambda values=values: values)  # type: ignore[misc]
    return entries


def _is_list(tree: Any) -> bool:
    return isinstance(tree, (list, tuple))


_READERS: dict[str, Callable[[Path], dict[str, Entry]]] = {
    ".npz": _npz,
    ".npy": _npy,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".pt": _pt,
    ".pth": _pt,
}
