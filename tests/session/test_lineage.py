"""A line for every process that trained, in a file that is whole at any instant."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from trainrun.session import provenance
from trainrun.vocabulary.errors import StorageError


def lines(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "lineage.jsonl").read_text().splitlines()]


def test_every_process_adds_a_line(tmp_path: Path) -> None:
    provenance.add_lineage(tmp_path, "trainrun budget=2ep", 0, {}, [(1, 0.1), (20, 0.0)])
    changes = {"budget": ("2ep", "4ep", "takes effect"), "logger.csv": (None, {"_target_": "x"}, "free")}
    provenance.add_lineage(tmp_path, "trainrun resume demo", 20, changes, [])
    first, second = lines(tmp_path)
    assert abs(first.pop("time") - time.time()) < 60
    assert first == {
        "command": "trainrun budget=2ep",
        "from_step": 0,
        "changes": {},
        "lr": [[1, 0.1], [20, 0.0]],
    }
    assert second["from_step"] == 20
    assert second["changes"] == {
        "budget": ["2ep", "4ep", "takes effect"],
        "logger.csv": [None, {"_target_": "x"}, "free"],
    }


def test_half_a_line_is_left_out(tmp_path: Path) -> None:
    provenance.add_lineage(tmp_path, "one", 0, {}, [])
    with (tmp_path / "lineage.jsonl").open("a") as file:
        file.write('{"time": 1, "comm')
    provenance.add_lineage(tmp_path, "two", 5, {}, [])
    assert [line["command"] for line in lines(tmp_path)] == ["one", "two"]


def test_a_kill_while_writing_leaves_the_lines_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provenance.add_lineage(tmp_path, "one", 0, {}, [])
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(os, "fsync", lambda descriptor: os._exit(0))
        provenance.add_lineage(tmp_path, "two", 5, {}, [])
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [line["command"] for line in lines(tmp_path)] == ["one"]
    provenance.add_lineage(tmp_path, "three", 5, {}, [])
    assert [line["command"] for line in lines(tmp_path)] == ["one", "three"]


def test_a_disk_that_takes_nothing_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        provenance.add_lineage(tmp_path, "one", 0, {}, [])
    assert list(tmp_path.iterdir()) == []
