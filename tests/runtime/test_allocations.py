"""Allocations are recorded on GPUs alone, a bounded number of them, and written where memory runs out."""

from __future__ import annotations

from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch

from trainrun.runtime.allocations import recorded_allocations, write_allocations

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What torch is asked for, in order."""
    calls: list[Any] = []

    def record(enabled: str | None = "all", **how: Any) -> None:
        calls.append((enabled, how))

    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", record)
    monkeypatch.setattr(torch.cuda.memory, "_dump_snapshot", lambda path: Path(path).write_text("snapshot"))
    return calls


@pytest.mark.parametrize(("weight_bytes", "context"), [(1000, None), (2**30, "alloc")])
def test_they_are_bounded_and_have_stacks_where_steps_are_long(
    weight_bytes: int, context: str | None, calls: list[Any]
) -> None:
    with suppress(KeyError), recorded_allocations(CUDA, weight_bytes):
        assert calls == [("all", {"context": context, "stacks": "python", "max_entries": 20_000})]
        raise KeyError
    assert calls[1:] == [(None, {})]


def test_the_arguments_are_those_that_torch_takes() -> None:
    """Which a stand-in does not know."""
    signature(torch.cuda.memory._record_memory_history).bind(context=None, stacks="python", max_entries=1)
    signature(torch.cuda.memory._record_memory_history).bind(None)
    signature(torch.cuda.memory._dump_snapshot).bind("memory.pickle")


def test_a_cpu_records_nothing(calls: list[Any], tmp_path: Path) -> None:
    with recorded_allocations(CPU, 2**30):
        assert not write_allocations(CPU, tmp_path / "failures" / "memory.pickle")
    assert calls == [] and not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_costs_no_more_than_itself(
    calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "failures" / "memory.pickle"
    assert write_allocations(CUDA, file) and file.read_text() == "snapshot"
    assert write_allocations(CUDA, file), "that of an earlier try is replaced"
    assert not write_allocations(CUDA, tmp_path / "gone" / "failures" / "memory.pickle")

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("this allocator does not support it")

    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", refuse)
    monkeypatch.setattr(torch.cuda.memory, "_dump_snapshot", refuse)
    with recorded_allocations(CUDA, 0):
        assert not write_allocations(CUDA, file)
