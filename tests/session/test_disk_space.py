"""Room is looked for before anything is written: just enough is taken, a byte less is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainrun.session import session
from trainrun.session.session import check_disk_space
from trainrun.vocabulary.errors import StorageError

NEEDED, KEPT = 1000, 3


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(session, "expected_bytes", lambda state: NEEDED)
    checkpoints = SimpleNamespace(most_kept=lambda steps: KEPT, close=lambda: None)
    return SimpleNamespace(state=SimpleNamespace(total_steps=9), make=lambda name, offered: checkpoints)


@pytest.mark.parametrize(
    ("free", "held", "text"),
    [
        (KEPT * NEEDED, 0, None),
        (KEPT * NEEDED - 1, 0, r"3 checkpoints of about 1,000 bytes are kept.*or checkpoint.keep_last=1"),
        (NEEDED, 2 * NEEDED, None),  # those that are there make room for others
        (NEEDED - 1, 0, r"a checkpoint needs about 1,000 bytes, 999 are free; make room"),
    ],
)
def test_room_for_all_that_are_kept(
    free: int, held: int, text: str | None, parts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "free_bytes", lambda folder: free)
    monkeypatch.setattr(session, "num_bytes", lambda folder: held)
    if text is None:
        check_disk_space(parts, Path("run"))
    else:
        with pytest.raises(StorageError, match=text):
            check_disk_space(parts, Path("run"))
