"""Streams that bring a state of their own: it is stored, so that a resumed run reads nothing again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from trainrun.data.samples import FailedSample, collate_of, describe_failure, name_of, source_of, stream
from trainrun.protocols import BatchSpec, Position
from trainrun.vocabulary.errors import ConfigError, DataError, ResumeError
from trainrun.vocabulary.seeds import derive


@dataclass(eq=False)
class StatefulStream:
    """A stream with `state_dict` and `load_state_dict`, pass after pass, a window of samples at a time.

    Loader processes read windows in turn, each over and over its own part, which `get_worker_info` says.
    Stored are their states after the last whole round, and how many windows have come since.
    """

    dataset: Any
    num_workers: int
    initial: Any  # its state before anything was read
    last: object = None  # who read from it in this process

    def __post_init__(self) -> None:
        if isinstance(source_of(self.dataset), DataLoader):
            self.num_workers = 0  # its processes are its own

    def load(self, state: Any, reader: object) -> None:
        """Let `reader` go on from a state; any other one has to load its own again."""
        self.last = reader
        self.dataset.load_state_dict(_plain(state, ""))

    def readers_at(self, position: Position) -> tuple[list[Mapping[str, Any]], int]:
        """Where each process stood after the last whole round, and how many windows have come since.

        Raises ConfigError where other processes read than did, ResumeError for what no run has stored.
        """
        fresh, count = {"pass": 0, "first": 0, "read": 0, "state": self.initial}, max(self.num_workers, 1)
        stored: Any = position.stream or {"readers": [fresh] * count, "since": 0}
        stored = stored if isinstance(stored, Mapping) else {}
        readers, since = stored.get("readers"), stored.get("since")
        if not _are_readers(readers, fresh) or since not in range(len(readers)):
            raise ResumeError("checkpoint: position/stream is no place in a stream")
        if (was := len(readers)) != count:
            text = f"must stay: each of {was} processes has read its own part of the stream, got {count}"
            raise ConfigError.of("data.num_workers", text, f"data.num_workers={was}")
        return readers, since

    def batches(
        self, position: Position, batch_spec: BatchSpec, seed: int, load: Callable[..., Any]
    ) -> Iterator[tuple[Any, int, Position]]:
        """(a batch, the number of its first sample, the position after its window), without end."""
        readers, first = self.readers_at(position)
        now, count, offset = list(readers), len(readers), position.offset
        windows = _Windows(self, batch_spec, derive(seed, "stream"), readers)
        how = {"collate_fn": tuple, "batch_size": None, "num_workers": self.num_workers}
        with closing(load(windows, **how)) as reads:
            for turn, (batches, after) in enumerate(reads):
                now[turn % count], since = after, (turn + 1) % count
                readers = readers if since else list(now)
                if turn >= first:
                    position = Position(0, offset + batch_spec.window, {"readers": readers, "since": since})
                    yield from ((batch, offset + place, position) for batch, place in batches)
                    offset = position.offset


@dataclass(eq=False)
class _Windows(IterableDataset[Any]):
    """The windows of one process: (batches of a rank and their places in the window, the state after it)."""

    whole: StatefulStream
    batch_spec: BatchSpec
    seed: int
    readers: Sequence[Mapping[str, Any]]

    def __iter__(self) -> Iterator[tuple[list[tuple[Any, int]], dict[str, Any]]]:
        whole, spec, worker, samples = self.whole, self.batch_spec, get_worker_info(), iter(())
        number = 0 if worker is None else worker.id
        if worker and hasattr(whole.dataset, "set_epoch"):  # Hugging Face's processes share one epoch
            whole = replace(whole, dataset=deepcopy(whole.dataset))
        dataset, reader = cast(Any, whole.dataset), dict(self.readers[number])
        places = range(spec.batch_size * spec.rank, spec.window, spec.batch_size * spec.num_ranks)
        try:
            while True:
                if whole.last is not self:  # at the start, and where another one has read since
                    samples = self._endless(whole, reader, number)
                window = list(islice(samples, spec.window))
                reader["state"] = _plain(dataset.state_dict(), name_of(dataset))
                batches = [collate_of(dataset)(window[p : p + spec.batch_size]) for p in places]
                yield list(zip(batches, places, strict=True)), dict(reader)
        except Exception as error:
            failed = FailedSample(describe_failure(dataset, reader["read"], error))
            yield [(failed, 0)], reader

    def _endless(self, whole: StatefulStream, reader: dict[str, Any], number: int) -> Iterator[Any]:
        """Samples from where `reader` stands, which counts them."""
        dataset, seed = whole.dataset, derive(self.seed, number) if number else self.seed
        set_epoch = getattr(dataset, "set_epoch", lambda epoch: None)
        set_epoch(reader["pass"])
        whole.load(reader["state"], self)
        while True:
            for sample in stream(dataset, seed, reader["first"], reader["read"]):
                reader["read"] += 1
                yield sample
            if not reader["read"]:
                raise DataError(f"data.train: the stream {name_of(dataset)} is empty in process {number}")
            reader |= {"pass": reader["pass"] + 1, "first": reader["first"] + reader["read"], "read": 0}
            set_epoch(reader["pass"])


def _are_readers(stored: Any, fresh: Mapping[str, Any]) -> bool:
    return isinstance(stored, list) and all(
        isinstance(reader, Mapping) and reader.keys() == fresh.keys() for reader in stored
    )


def states_of(datasets: Mapping[str, Any]) -> dict[str, Any]:
    """The states of those that are streams with one; read them before anything else is."""
    streams: dict[str, Any] = {n: s for n, s in datasets.items() if isinstance(s, IterableDataset)}
    return {
        n: _plain(s.state_dict(), name_of(s)) for n, s in streams.items() if hasattr(s, "load_state_dict")
    }


def _plain(value: Any, name: str) -> Any:
    """A copy of a stream's state. Raises DataError for one that no checkpoint could hold."""
    number = value.item() if isinstance(value, np.generic) else value
    if number is None or type(number) in (bool, int, float, str):
        return number
    if isinstance(value, Tensor) and value.layout == torch.strided:
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: _plain(entry, name) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(entry, name) for entry in value)
    text = f"holds a {type(value).__name__}; a checkpoint holds dicts, lists, numbers, text and tensors"
    raise DataError(f"data.train: the state_dict of {name} {text}")
