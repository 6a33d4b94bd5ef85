"""Fixtures that tests share."""

from __future__ import annotations

import pytest


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the disk: no test here cuts the power; what is fsynced has its own test."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
