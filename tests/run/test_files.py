"""Small files are replaced whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainrun.run.files import read_json, replace_json, replace_text


def test_what_is_written_is_read(tmp_path: Path) -> None:
    replace_json(tmp_path / "a.json", {"x": [1, None], "name": "\u00e9"})
    assert read_json(tmp_path / "a.json") == {"x": [1, None], "name": "\u00e9"}


def test_a_write_that_is_cut_short_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.json"
    replace_json(file, {"x": 1})

    def cut(descriptor: int) -> None:
        raise OSError("gone")

    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(OSError, match="gone"):
        replace_text(file, '{"x": 2')
    assert read_json(file) == {"x": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_kill_left_behind_is_gone_after_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(os, "fsync", lambda descriptor: os._exit(0))
        replace_text(tmp_path / "a.txt", "half")
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1
    replace_text(tmp_path / "a.txt", "whole")
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("content", [None, "", "{", "[1]", '"text"', "\udcff"])
def test_what_cannot_be_read_is_empty(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "a.json"
    if content is not None:
        file.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert read_json(file) == {}


def test_numbers_that_json_cannot_write_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []
