"""Text of any file or folder as windows of tokens: bytes, or characters of a fitted vocabulary."""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from trainrun.data.fingerprint import fingerprint, order_mark
from trainrun.data.order import evenly_spaced
from trainrun.data.resident import IndexedData, storage_for
from trainrun.protocols import IGNORED, Batch, DataInfo, Position
from trainrun.vocabulary.errors import ConfigError, DataError
from trainrun.vocabulary.ranges import Count, Split

_NOT_SOURCES = {"site-packages", "dist-packages", "test", "tests", "__pycache__"}
_UNKNOWN = b""  # a character that the training split lacks: of no bytes, so as not to improve bits_per_byte


class Text(IndexedData):
    """Windows of a sequence of tokens.

    Inputs (N, T) and targets (N, T) are int64. Targets are the tokens that follow the inputs, IGNORED
    after the end of a split. `tokens` (L,) are those of all splits, one after the other; `bounds` says
    where each begins and ends. Every token of a split but its first is the target of one window.
    """

    def __init__(
        self,
        info: DataInfo,
        tokens: Tensor,
        bounds: Mapping[str, tuple[int, int]],
        limit: int | None,
        eval_batch_size: int,
    ) -> None:
        self.info, self.tokens, self.eval_batch_size = info, tokens, eval_batch_size
        self.block_size = info.input_shape[0]
        starts, ends, self.splits = [], [], {}
        count = 0
        for split, (begin, end) in bounds.items():
            firsts = torch.arange(begin, max(begin, end - 1), self.block_size)
            if split == "train" and limit is not None:
                firsts = firsts[:limit]
            starts.append(firsts)
            ends.append(torch.full_like(firsts, end))
            if len(firsts):
                self.splits[split] = torch.arange(count, count + len(firsts))
            count += len(firsts)
        self.starts, self.ends = torch.cat(starts), torch.cat(ends)

    def limit_evaluation(self, num_samples: int) -> None:
        """Evaluate on at most `num_samples` evenly spaced windows of a split."""
        for split, windows in self.splits.items():
            if split != "train":
                self.splits[split] = evenly_spaced(windows, num_samples)

    def to(self, device: torch.device) -> None:
        self.device, self.storage = device, storage_for(device, self.tokens)
        self.tokens, self.starts = self.tokens.to(self.storage), self.starts.to(self.storage)
        self.ends = self.ends.to(self.storage)

    def fitted(self) -> dict[str, Any]:
        return {"vocabulary": [token.decode("latin-1") for token in self.info.vocabulary]}

    def restore(self, fitted: Mapping[str, Any]) -> None:
        """Raise DataError for another vocabulary: the weights belong to the stored one."""
        if fitted["vocabulary"] != self.fitted()["vocabulary"]:
            raise DataError("data.path: the text has another vocabulary than the one that was trained on")

    def _gather(self, indices: Tensor, after: Position) -> Batch:
        places = torch.arange(self.block_size + 1, device=self.storage)
        places = self.starts[indices][:, None] + places  # (N, T + 1)
        is_real = places < self.ends[indices][:, None]
        tokens = self.tokens[places.clamp(max=len(self.tokens) - 1)].long()
        inputs = tokens[:, :-1].masked_fill(~is_real[:, 1:], 0)
        return Batch(inputs, tokens[:, 1:].masked_fill(~is_real[:, 1:], IGNORED), indices, after)


def text(
    path: str | None,
    tokens: Literal["bytes", "characters"],
    block_size: Count,
    val_fraction: Split,
    test_fraction: Split,
    limit: Count | None,
    eval_batch_size: Count,
) -> Text:
    """A file, or all files below a folder in the order of their names, one after the other.

    Without `path`: the sources of the running Python's standard library, without its tests.
    The text ends with the validation split and then the test split. The vocabulary of characters
    (UTF-8) is that of the training split; other characters share one token.
    Raises DataError for files that cannot be read.
    """
    if val_fraction + test_fraction >= 1:
        text = "leaves no text to train on: data.test_fraction takes the rest"
        raise ConfigError.of("data.val_fraction", text)
    files, name = _files(path), Path(path).name if path else "python_sources"
    if tokens == "bytes":
        sequence = np.frombuffer(bytearray().join(map(_read, files)), np.uint8)
    else:  # as code points
        sequence = np.frombuffer(bytearray("".join(map(_read_text, files)).encode("utf-32-le")), np.uint32)
    size = len(sequence)
    num_test = round(test_fraction * size)
    end = size - round(val_fraction * size) - num_test
    if end < 2:
        raise DataError(f"data.path: {name} has {size} {tokens}, too few to train on")
    vocabulary = tuple(bytes([n]) for n in range(256))
    if tokens == "characters":  # numbered from 1, in the order of their code points
        codes = np.unique(sequence[:end])
        places = np.searchsorted(codes, sequence).clip(max=len(codes) - 1)
        sequence = np.where(codes[places] == sequence, places + 1, 0).astype(np.int32)
        vocabulary = (_UNKNOWN, *(chr(code).encode() for code in codes))
    bounds = {"train": (0, end), "val": (end, size - num_test), "test": (size - num_test, size)}
    whole = torch.from_numpy(sequence)
    info = DataInfo(name, (block_size,), "tokens", len(vocabulary), {}, vocabulary=vocabulary)
    if end <= block_size:
        text = f"data.block_size={block_size} is longer than the {end} {tokens} to train on"
        info = replace(info, notes=(f"{text}: every step sees the same window, the rest of it empty",))
    data = Text(info, whole, bounds, limit, eval_batch_size)
    sizes = {split: len(data.splits.get(split, ())) for split in bounds}
    mark = fingerprint([whole, *order_mark(sizes["train"])])
    data.info = replace(info, sizes=sizes, in_memory=True, fingerprint=mark)
    return data


def _files(path: str | None) -> list[Path]:
    base = Path(path).expanduser() if path else Path(sysconfig.get_path("stdlib"))
    if path and base.is_file():
        return [base]
    if not base.is_dir():
        raise DataError(f"data.path: there is no file or folder {base}")
    places = (file.relative_to(base) for file in base.rglob("*" if path else "*.py") if file.is_file())
    if path:  # all but .git and the like
        wanted = [place for place in places if not any(part.startswith(".") for part in place.parts)]
    else:
        wanted = [place for place in places if not _NOT_SOURCES.intersection(place.parts)]
    if not wanted:
        raise DataError(f"data.path: there are no files below {base}")
    return [base / place for place in sorted(wanted, key=Path.as_posix)]


def _read_text(file: Path) -> str:
    try:
        return _read(file).decode()
    except UnicodeDecodeError as error:
        text = f"{file} is not UTF-8 at byte {error.start}; leave it out, or use data.tokens=bytes"
        raise DataError(f"data.path: {text}") from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"data.path: cannot read {file}: {error}") from None
