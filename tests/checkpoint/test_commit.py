"""A directory that appears whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from trainrun.checkpoint.commit import commit

FILES = {"first": b"abc", "last": memoryview(b"defgh")}


def test_files_are_written_as_given(tmp_path: Path) -> None:
    assert commit(tmp_path / "all" / "final", FILES) == 8
    assert {file.name: file.read_bytes() for file in (tmp_path / "all" / "final").iterdir()} == FILES
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["final"]


def test_what_a_system_writes_in_pieces_arrives_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, body: write(descriptor, body[:3]))
    commit(tmp_path / "final", {"file": bytes(range(100))})
    assert (tmp_path / "final" / "file").read_bytes() == bytes(range(100))


@pytest.mark.parametrize("failing_call", range(6))
def test_whatever_fails_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    calls = iter(range(100))

    def failing(function):  # type: ignore[no-untyped-def]
        def called(*arguments):  # type: ignore[no-untyped-def]
            if next(calls) == failing_call:
                raise OSError(errno.ENOSPC, "full")
            return function(*arguments)

        return called

    monkeypatch.setattr(os, "write", failing(os.write))
    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    with pytest.raises(OSError, match="full"):
        commit(tmp_path / "final", FILES)
    left = [path.name for path in tmp_path.iterdir()]
    assert left == (["final"] if failing_call == 5 else [])  # the last one: after the rename


def test_a_folder_that_vanished_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        commit(tmp_path / "gone" / "checkpoints" / "final", FILES)
    assert list(tmp_path.iterdir()) == []
