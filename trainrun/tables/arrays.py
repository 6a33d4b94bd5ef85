"""Files of arrays: .npz, .npy, HDF5, .pt, or a folder of these; rows are read when asked for."""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from trainrun.tables.names import SPLITS, asked_for_target, inputs_among, listed, split_of, target_among
from trainrun.vocabulary.errors import ConfigError, DataError, Problem

if TYPE_CHECKING:
    import numpy as np

_UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile)
_NO_CODE = "is not read because it could run code"
_BETWEEN_WORDS = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # x_train, XTrain
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
        where = self.file if self.file.suffix == ".npy" else f"{self.file} {self.name}"
        return f"{where} ({self.dtype} of shape {self.shape})"

    def rows(self) -> Any:
        """What holds the rows. Raises DataError where it cannot be read, or holds no numbers."""
        if self.dtype.hasobject:
            fix = "save numbers of one shape, as np.stack makes them"
            raise DataError(f"data.path: {self} holds Python objects, which {_NO_CODE}; {fix}")
        if self.dtype.kind not in "buif" or not self.shape or not self.shape[0]:
            raise DataError(f"data.path: {self} must hold numbers, a row for each sample")
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
    entries: Mapping[str, Mapping[str, Entry]]  # all of each split, by their names without the split's

    def column(self, name: str | int) -> list[Any]:
        """The values of a further entry, one split after the other. Raises ConfigError without any."""
        import numpy as np

        values: list[Any] = []
        for split, inputs in self.inputs.items():
            entry = self.entries[split].get(str(name))
            if entry is None or entry.dtype.hasobject or entry.shape[:1] != inputs.shape[:1]:
                text = f"has no entry {name} with a number, text or date for each row"
                raise ConfigError.of("data", f"{inputs.file} {text}; it has {listed([*self.entries[split]])}")
            values += np.asarray(entry.load()).reshape(entry.shape[0], -1)[:, 0].tolist()
        return values


def entries_of(path: Path) -> dict[str, Entry]:
    """Every entry of a file, or of a folder's files, by name. Raises DataError for what cannot be read."""
    files = sorted(path.glob("[!.]*")) if path.is_dir() else []
    if inside := {file: entries_of(file) for file in files if file.suffix.lower() in _READERS}:
        pairs = ((file, name, entry) for file, names in inside.items() for name, entry in names.items())
        return {
            (file.stem if len(inside[file]) == 1 else f"{file.stem}/{n}"): entry for file, n, entry in pairs
        }
    if not path.exists():
        raise DataError(f"data.path: there is no file {path}")
    read = None if path.is_dir() else _READERS.get(path.suffix.lower())
    if read is None:
        text = f"is no file of arrays, and no folder of any: {', '.join(_READERS)}"
        raise DataError(f"data.path: {path} {text}")
    try:
        if entries := read(path):
            return entries
        raise DataError(f"data.path: {path} holds no arrays, or none at its top level")
    except UnpicklingError:
        text = f"holds more than tensors, which {_NO_CODE}; save a dict of tensors"
        raise DataError(f"data.path: {path} {text}") from None
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"data.path: {path} cannot be read: {reason}") from None


def read(path: str, inputs: str | None, targets: str | None) -> ArraySplits:
    """Choose inputs and targets of every split; the names are the user's, None where they are to be found.

    `targets` may be a file, also beside the other. Raises DataError and ConfigError naming file and entry.
    """
    entries = entries_of(Path(path).expanduser())
    if targets is not None and targets not in entries and Path(targets).suffix.lower() in _READERS:
        file, beside = Path(targets).expanduser(), Path(path).expanduser().parent / Path(targets).name
        others = entries_of(beside if beside.exists() and not file.exists() else file)
        target = next(iter(others)) if len(others) == 1 else str(target_among(list(others)))
        if target not in others:
            raise ConfigError.of("data.targets", f"{targets} has {listed(list(others))}; save one array")
        entries |= {targets: others[target]}
        groups = {"train": {name: name for name in entries}}
    else:
        groups = _by_split(list(entries), (inputs, targets))
    bases = {name: base for base, name in groups["train"].items()}
    inputs, targets = (name and bases.get(name, name) for name in (inputs, targets))
    names = _choose(path, list(groups["train"]), inputs, targets)
    splits = [split for split in SPLITS if all(name in groups.get(split, ()) for name in names)]
    pairs = {split: (entries[groups[split][names[0]]], entries[groups[split][names[1]]]) for split in splits}
    for pair in pairs.values():
        _check(pair, pairs["train"])
    inputs_of, targets_of = ({split: pair[role] for split, pair in pairs.items()} for role in (0, 1))
    used = (*inputs_of.values(), *targets_of.values())
    left_out = tuple(name for name, entry in entries.items() if entry not in used)
    by_name = {split: {base: entries[name] for base, name in groups[split].items()} for split in splits}
    return ArraySplits(names, inputs_of, targets_of, left_out, by_name)


def read_more(file: Path, inputs: str, target: str) -> tuple[Entry, Entry | None]:
    """The inputs of another file, and its targets where it has them. Raises DataError where it is unclear."""
    entries = entries_of(file)
    groups = _grouped(list(entries)).values() if len(entries) > 1 else [{inputs: next(iter(entries), "")}]
    pairs = [(group[inputs], group.get(target)) for group in groups if inputs in group]
    if len(pairs) != 1 or not entries:
        text = f"must hold one array, or one of the name {inputs}; it has {listed(list(entries))}"
        raise DataError(f"data.path: {file} {text}")
    chosen, target_entry = entries[pairs[0][0]], entries.get(pairs[0][1] or "")
    if target_entry is not None:
        _check((chosen, target_entry), (chosen, target_entry))
    return chosen, target_entry


def target_kind(entry: Entry) -> tuple[str, int]:
    """("classes", "labels" or "values", how many classes) of an array of targets."""
    import numpy as np

    values = np.asarray(entry.rows())
    is_whole, is_single = values.dtype.kind in "biu", values.shape[1:] in ((), (1,))
    if is_single:
        return ("classes", len(np.unique(values))) if is_whole else ("values", 0)
    if values.ndim != 2 or not bool(((values == 0) | (values == 1)).all()):
        return "values", 0
    if bool((values.sum(1) == 1).all()):
        return "classes", values.shape[1]  # one-hot
    return ("labels" if is_whole else "values"), 0


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
        tokens = _BETWEEN_WORDS.split(name)
        splits = [split for token in tokens if (split := split_of(token))]
        split = splits[0] if len(splits) == 1 and (name not in given or splits == ["train"]) else ""
        base = "_".join(token for token in tokens if not split_of(token)) if split else name
        groups.setdefault(split, {})[base] = name
    return groups


def _choose(path: str, names: list[str], inputs: str | None, target: str | None) -> tuple[str, str]:
    """The names of inputs and target. Raises ConfigError where they do not tell."""
    named = {"inputs": inputs, "targets": target}
    texts = {key: f"{path} has no entry {name}; it has {listed(names)}" for key, name in named.items()}
    if wrong := [key for key, name in named.items() if name not in (None, *names)]:
        raise ConfigError([Problem(f"data.{key}", texts[key]) for key in wrong])
    if target is None:
        is_plain = all(re.fullmatch(r"(arr_)?\d+", name) for name in names)  # np.savez(file, x, y), a tuple
        rest = [name for name in names if name != inputs]
        usual = rest[-1] if is_plain and len(names) > 1 else target_among(rest)
        if usual is None:
            fix = "data.targets=FILE" if len(names) == 1 else asked_for_target(names)
            raise ConfigError.of("data.targets", f"{path} has {listed(names)}; name the targets: {fix}")
        target = str(usual)
    others = [inputs] if inputs else [name for name in names if name != target]
    with suppress(ConfigError):  # none has a usual name
        others = list(map(str, inputs_among(others)))
    if len(others) != 1 or others == [target]:
        text = f"must name one entry beside the target {target}; {path} has {listed(names)}"
        raise ConfigError.of("data.inputs", text)
    return others[0], target


def _check(pair: tuple[Entry, Entry], train: tuple[Entry, Entry]) -> None:
    """Raise DataError for arrays of unequal length, or of another form than those of training."""
    for entry, other in zip(pair, train, strict=True):
        if (entry.shape[1:], entry.dtype.kind) != (other.shape[1:], other.dtype.kind):
            raise DataError(f"data.path: {entry} must have the type and shape of {other}")
    if pair[0].shape[:1] != pair[1].shape[:1]:
        raise DataError(f"data.path: {pair[0]} and {pair[1]} must have as many rows")


def _header(stream: Any) -> tuple[tuple[int, ...], bool, Any]:
    """(shape, whether columns come first, dtype) of an array in numpy's format, without its values."""
    from numpy.lib import format as npy

    is_first = npy.read_magic(stream) == (1, 0)
    return (npy.read_array_header_1_0 if is_first else npy.read_array_header_2_0)(stream)


def _npy(file: Path) -> dict[str, Entry]:
    import numpy as np

    with file.open("rb") as stream:
        shape, _, dtype = _header(stream)
    return {file.stem: Entry(file, file.stem, shape, dtype, partial(np.load, file, "r", allow_pickle=False))}


def _npz(file: Path) -> dict[str, Entry]:
    """Those that lie uncompressed in the file are mapped, others read when loaded."""
    import numpy as np

    entries = {}
    with zipfile.ZipFile(file) as archive, file.open("rb") as raw:
        for member in (member for member in archive.infolist() if member.filename.endswith(".npy")):
            with archive.open(member) as stream:
                shape, is_fortran, dtype = _header(stream)
                start = member.header_offset + _LOCAL_HEADER + stream.tell()
            raw.seek(member.header_offset + _LOCAL_HEADER - 4)
            start += sum(struct.unpack("<HH", raw.read(4)))  # its name, and what tools add
            is_packed, name = member.compress_type != zipfile.ZIP_STORED, member.filename[:-4]
            load = partial(np.memmap, file, dtype, "r", start, shape, "F" if is_fortran else "C")
            load = partial(lambda name: np.load(file, allow_pickle=False)[name], name) if is_packed else load
            entries[name] = Entry(file, name, shape, dtype, load, is_packed)
    return entries


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
    import numpy as np
    import torch

    loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(loaded, Mapping):
        loaded = dict(enumerate(loaded)) if isinstance(loaded, (list, tuple)) else {file.stem: loaded}
    entries = {}
    for name, tensor in loaded.items():
        if isinstance(tensor, torch.Tensor):
            values = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
            load = partial(np.asarray, values)
            entries[str(name)] = Entry(file, str(name), values.shape, values.dtype, load)
    return entries


_READERS = {".npz": _npz, ".npy": _npy, ".h5": _hdf5, ".hdf5": _hdf5, ".pt": _pt, ".pth": _pt}
