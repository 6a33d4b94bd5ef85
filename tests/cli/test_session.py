"""What a process of a run makes of errors that are not its own."""

from __future__ import annotations

import pytest
import torch

from trainrun.cli.session import _as_ours
from trainrun.errors import NonFinite, OutOfMemory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["python", "cuda", "cpu"],
)
def test_out_of_memory_is_named_and_says_what_to_do(error: Exception) -> None:
    with pytest.raises(OutOfMemory, match="halve batch_size") as raised, _as_ours():
        raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), NonFinite("nan"), KeyboardInterrupt()])
def test_other_errors_stay_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, _as_ours():
        raise error
    assert raised.value is error
