"""Streams that bring a state of their own: it is stored, so that a resumed run reads nothing again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from trainrun.data.samples import FailedSample, collate_of, describe_failure, name_of, source_of, stream
from trainrun.protocols import BatchSpec, Position
from trainrun.vocabulary.errors import ConfigError, DataError
from trainrun.vocabulary.seeds import derive

_FRESH = {"read": 0, "ended": False}  # what a process has read of a pass


@dataclass(eq=False)
class StatefulStream:
    """A stream with `state_dict` and `load_state_dict`, in batches that end with every pass over it.

    Of several loader processes each reads the share that `get_worker_info` says, one batch a round, and
    has a state. Stored are those after the last whole round, and how many batches have come since.
    """

    dataset: Any
    num_workers: int
    initial: Any  # its state before anything was read
    last: object = None  # who read from it in this process

    def load(self, state: Any) -> None:
        """Go on from a state; whoever else reads from the stream has to load his own again."""
        self.last = None
        self.dataset.load_state_dict(_plain(state, ""))

    def batches(
        self, position: Position, batch_spec: BatchSpec, seed: int, load: Callable[..., Any]
    ) -> Iterator[tuple[Any, int, int, Position]]:
        """(a batch, the number of its first sample, how many it holds, the position after it), without end.

        Raises ConfigError where another number of processes has read up to the position.
        """
        # The processes of a DataLoader are its own.
        num_workers = 0 if isinstance(source_of(self.dataset), DataLoader) else self.num_workers
        offset, count, is_resumed = position.offset, max(num_workers, 1), position.stream is not None
        fresh = _FRESH | {"state": self.initial}
        cursor: Any = position.stream or {"pass": 0, "first": 0, "readers": [fresh] * count, "since": 0}
        if (was := len(cursor["readers"])) != count:
            text = f"decides what comes next: of {was} processes each has read a part, got {count}"
            raise ConfigError.of("data.num_workers", text, f"data.num_workers={was}")
        while True:
            base, now, skipped = cursor["readers"], list(cursor["readers"]), cursor["since"]
            since, last, is_new = 0, -1, offset == cursor["first"]
            part = _Pass(self, batch_spec, derive(seed, "stream"), cursor)
            with closing(load(part, collate_fn=tuple, batch_size=None, num_workers=num_workers)) as reads:
                for reader, num_read, num_own, batch, after in reads:
                    if reader <= last:  # a round without the last processes, which have ended
                        base, since = list(now), 0
                    now[reader], last, since = after, reader, since + 1
                    if reader == count - 1:
                        base, last, since = list(now), -1, 0
                    if skipped:
                        skipped -= 1
                        continue
                    first, offset = offset + batch_spec.batch_size * batch_spec.rank, offset + num_read
                    cursor = cursor | {"readers": base, "since": since}
                    yield batch, first, num_own, Position(0, offset, cursor)
            if is_new and offset == cursor["first"]:
                if not is_resumed:
                    raise DataError(f"data.train: the stream {name_of(self.dataset)} is empty")
                is_resumed = False  # at the end of a pass, where some give nothing once more
                continue
            readers = [fresh if num_workers else _FRESH] * count  # without a state: as it now stands
            cursor = {"pass": cursor["pass"] + 1, "first": offset, "readers": readers, "since": 0}


@dataclass(eq=False)
class _Pass(IterableDataset[Any]):
    """The rest of a pass, as one process reads it: batches, each with what that process has read after it."""

    whole: StatefulStream
    batch_spec: BatchSpec
    seed: int
    cursor: Mapping[str, Any]

    def __iter__(self) -> Iterator[tuple[int, int, int, Any, Mapping[str, Any]]]:
        whole, size, worker = self.whole, self.batch_spec.batch_size, get_worker_info()
        number, samples = 0 if worker is None else worker.id, iter(())
        reader, length = self.cursor["readers"][number], size * self.batch_spec.num_ranks
        try:
            while True:
                if whole.last is not self:  # at the start, and where another one has read since
                    samples, whole.last = self._samples(number, reader), self
                if reader["ended"] or not (chunk := list(islice(samples, length))):
                    return
                num_read, is_last = reader["read"] + len(chunk), len(chunk) < length
                reader = {"read": num_read, "ended": is_last, "state": state_of(whole.dataset)}
                own = chunk[size * self.batch_spec.rank :][:size]
                yield number, len(chunk), len(own), collate_of(whole.dataset)(own or chunk[:1]), reader
        except Exception as error:
            failed = FailedSample(describe_failure(whole.dataset, reader["read"], error))
            yield number, 0, 0, failed, reader

    def _samples(self, number: int, reader: Mapping[str, Any]) -> Iterator[Any]:
        dataset, seed = self.whole.dataset, derive(self.seed, number) if number else self.seed
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(self.cursor["pass"])
        if "state" in reader:
            self.whole.load(reader["state"])
        return stream(dataset, seed, self.cursor["first"], reader["read"])


def state_of(dataset: Any) -> Any:
    """A copy of a stream's state. Raises DataError for one that no checkpoint could hold."""
    return _plain(dataset.state_dict(), name_of(dataset))


def _plain(value: Any, name: str) -> Any:
    """A copy of plain containers and tensors."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Tensor) and value.layout == torch.strided:
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: _plain(entry, name) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(entry, name) for entry in value)
    text = f"holds a {type(value).__name__}; a checkpoint holds dicts, lists, numbers, text and tensors"
    raise DataError(f"data.train: the state_dict of {name} {text}")
