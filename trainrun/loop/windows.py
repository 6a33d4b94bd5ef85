"""Accumulation windows: the micro-batches of one optimizer step, gathered from the data's order."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

from trainrun.checkpoint.state import TrainState
from trainrun.protocols import Batch, BatchSpec, Data, Position, Window

_BATCHES_OF_STREAM = 100  # stand for an epoch: batch norm's averages hardly move after so many


@dataclass(frozen=True)
class Windows:
    """Cuts the data's order into windows; none crosses the end of an epoch."""

    data: Data
    batch_spec: BatchSpec
    seed: int

    def __call__(self, state: TrainState) -> Generator[Window]:
        """Yield windows from where `state` stands; after a rollback from the restored position."""
        while True:
            rollbacks, window = state.rollbacks, list[Batch]()
            for batch in self.data.train_batches(state.position, self.batch_spec, self.seed):
                window.append(batch)
                if len(window) == self.batch_spec.accumulate or batch.ends_epoch:
                    yield window
                    window = []
                    if state.rollbacks > rollbacks:
                        break
            else:
                return

    def first_epoch(self) -> Iterator[Batch]:
        """Yield the first epoch's batches, the same ones on every rank; of a stream the first hundred."""
        batch_spec = BatchSpec(self.batch_spec.batch_size, 1)
        for count, batch in enumerate(self.data.train_batches(Position(), batch_spec, self.seed), 1):
            yield batch
            is_enough = count == _BATCHES_OF_STREAM and self.data.info.sizes["train"] is None
            if batch.ends_epoch or is_enough:
                return

    def epoch(self, position: Position) -> float | None:
        """How many epochs a position is from the start; None of a stream."""
        size = self.data.info.sizes["train"]
        return None if size is None else round(position.epoch + position.offset / size, 4)
