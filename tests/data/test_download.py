"""One file from the network: whole and as published, or nothing on disk."""

from __future__ import annotations

import hashlib
import io
import urllib.request
from pathlib import Path

import pytest

from trainrun.data.download import download_file
from trainrun.vocabulary.errors import DataError


def test_what_was_published_is_written_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"body"))
    with pytest.raises(DataError, match=r"a\.bin of toy does not have the published MD5"):
        download_file("toy", "https://example.invalid/a.bin", "0" * 32, tmp_path / "in" / "a.bin")
    assert not list(tmp_path.iterdir())
    download_file(
        "toy", "https://example.invalid/a.bin", hashlib.md5(b"body").hexdigest(), tmp_path / "in" / "a.bin"
    )
    assert [file.name for file in (tmp_path / "in").iterdir()] == ["a.bin"]


def test_a_network_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, timeout: float) -> None:
        raise OSError("unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    with pytest.raises(DataError, match="cannot fetch toy: unreachable"):
        download_file("toy", "https://example.invalid/a.bin", "", tmp_path / "a.bin")
