"""Fingerprint of the samples, 16 hex digits: a resumed run must find the data it was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainrun.data.lazy_indices import LARGE
from trainrun.data.samples import read_sample, size_of, tensors_in
from trainrun.vocabulary.errors import DataError

_WHOLE_BYTES = 2 << 30  # read in a few seconds; larger sets are fingerprinted by sizes and ends of files
_END_BYTES = 4096  # at each end of a file: one page of the disk, which holds the header of any picture
_FILES_PER_TASK = 512  # enough that a thread's start costs nothing, few enough to share the work


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """Fingerprint of every byte of every tensor, their shapes and types."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def sampled_fingerprint(datasets: Iterable[Dataset[Any]]) -> str:
    """Fingerprint of map-style datasets: the length of each, and its first, middle and last sample.

    A sample that reads differently the second time, as with a generator of its own, does not count.
    Raises DataError for a sample that cannot be read.
    """
    tensors: list[Tensor] = []
    for dataset in datasets:
        size = size_of(dataset)
        tensors += [torch.tensor(size), *order_mark(size)]
        for index in sorted({0, size // 2, size - 1}) if size else ():
            first, again = (_features(dataset, index) for _ in range(2))
            if fingerprint(first) == fingerprint(again):
                tensors += first
    return fingerprint(tensors)


def order_mark(size: int) -> list[Tensor]:
    """What tells samples whose order is computed from those of runs of before, whose order was another."""
    return [torch.tensor(1)] if size > LARGE else []


def files_of(dataset: Dataset[Any]) -> list[Path]:
    """The files that `dataset.samples` lists as (path, class), as an ImageFolder does; none for any other."""
    samples = getattr(dataset, "samples", None)
    if not isinstance(samples, list) or not all(isinstance(sample, tuple) and sample for sample in samples):
        return []
    files = [Path(sample[0]) for sample in samples if isinstance(sample[0], (str, Path))]
    return files if files and len(files) == len(samples) and files[0].is_file() else []


def fingerprint_of_files(files: Sequence[Path], num_threads: int) -> str:
    """Fingerprint of all bytes of all files, in order; of very large sets, of sizes and both ends.

    Names and times do not count, so a copied or touched folder keeps its fingerprint.
    Raises DataError naming a file that cannot be read.
    """
    sizes = []
    for file in files:
        with _refusing_unreadable(file):
            sizes.append(file.stat().st_size)
    whole = sum(sizes) <= _WHOLE_BYTES
    parts = [files[start : start + _FILES_PER_TASK] for start in range(0, len(files), _FILES_PER_TASK)]
    digest = hashlib.sha256(str(sizes).encode())
    with ThreadPoolExecutor(num_threads) as pool:
        for read in pool.map(lambda part: [_digest_of(file, whole) for file in part], parts):
            digest.update(b"".join(read))
    return digest.hexdigest()[:16]


def _digest_of(file: Path, whole: bool) -> bytes:
    with _refusing_unreadable(file), file.open("rb") as stream:
        if whole:
            return hashlib.file_digest(stream, "sha256").digest()
        start = stream.read(_END_BYTES)
        stream.seek(max(file.stat().st_size - _END_BYTES, 0))
        return hashlib.sha256(start + stream.read(_END_BYTES)).digest()


@contextmanager
def _refusing_unreadable(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"data: {file} cannot be read: {error.strerror or error}") from None


def _features(dataset: Dataset[Any], index: int) -> list[Tensor]:
    """A sample's tensors; floats become a few digits of their means, which every CPU computes alike."""
    tensors = tensors_in(read_sample(dataset, index))
    return [_rounded(tensor) if tensor.is_floating_point() else tensor for tensor in tensors]


def _rounded(values: Tensor) -> Tensor:
    """(2,): means of the positive and of the negative part, weighted by position, to 4 digits."""
    flat = values.detach().cpu().double().flatten()
    place = torch.linspace(1, 2, len(flat), dtype=torch.float64)
    means = [float((part * place).mean()) for part in (flat.clamp(min=0), flat.clamp(max=0))]
    return torch.tensor([float(f"{mean:.3e}") for mean in means], dtype=torch.float64)
