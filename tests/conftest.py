"""Fixtures that tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where runs of tests are signed, also by the processes they start: not in the home of who runs them."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINRUN_STATE", str(folder))
        yield folder


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the disk: no test here cuts the power; what is fsynced has its own test."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
