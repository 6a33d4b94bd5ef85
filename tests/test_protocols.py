"""The plain records that parts hand each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from toy import ToyData

from trainrun.protocols import (
    Batch,
    BatchSpec,
    Data,
    DataInfo,
    ObservingSchedule,
    Position,
    Readable,
    Samples,
    StepResult,
)


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "num_ranks", "window"), [(4, 1, 1, 4), (4, 3, 1, 12), (4, 3, 2, 24)]
)
def test_a_window_is_every_ranks_micro_batches(
    batch_size: int, accumulate: int, num_ranks: int, window: int
) -> None:
    assert BatchSpec(batch_size, accumulate, num_ranks).window == window


def test_a_batch_is_as_long_as_its_samples_whatever_its_inputs_are() -> None:
    inputs: Any = {"text": torch.zeros(7, 3), "more": None}
    assert len(Batch(inputs, None, range(5), Position())) == 5
    assert len(Batch(inputs, None, torch.arange(2), Position())) == 2


def info(**changes: Any) -> DataInfo:
    given: dict[str, Any] = {"name": "rows", "input_shape": (4,), "kind": "classes", "num_targets": 3}
    return DataInfo(**given | {"sizes": {"train": 41, "val": 0}, "fingerprint": "abcd"} | changes)


def test_the_identity_of_data_is_what_training_sees_of_them() -> None:
    assert info().identity == {"name": "rows", "fingerprint": "abcd", "sizes": {"train": 41, "val": 0}}
    assert info(files="12ef").identity == {**info().identity, "files": "12ef"}
    assert info(notes=("said",), class_names=("a", "b", "c"), in_memory=True).identity == info().identity
    assert info(sizes={"train": None}).identity["sizes"] == {"train": None}


def test_what_has_the_methods_fits() -> None:
    class Reads:
        def read(self, file: Path) -> Samples:
            return Samples(iter(()))

    assert isinstance(ToyData(), Data) and not isinstance(ToyData(), Readable)
    assert isinstance(Reads(), Readable) and not isinstance(Reads(), Data)
    assert not isinstance(lambda update: (1.0, None), ObservingSchedule)


def test_results_of_steps_share_no_dicts() -> None:
    first, second = (StepResult(4, {}, {}, {}, 1.0, 1.0, True) for _ in range(2))
    assert first.penalties is not second.penalties and first.health is not second.health
