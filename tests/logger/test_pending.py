"""Rows wait for their checkpoint: whatever is killed or rolled back, each is logged once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainrun.logger.pending import PendingRows


def test_rows_are_logged_once_their_step_is_saved(tmp_path: Path) -> None:
    logged: list[Any] = []
    rows = PendingRows(tmp_path / "view" / "pending.jsonl", logged.append)
    rows.start(0)
    rows.add({"step": 5, "a": 1.0}, picture="object")
    rows.add({"step": 10, "a": float("nan")})
    rows.log_until(4)
    assert logged == []
    rows.log_until(5)
    rows.log_until(5)
    assert logged == [{"step": 5, "a": 1.0, "picture": "object"}]
    rows.add({"step": 15, "a": 2.0})
    rows.forget_after(10)
    rows.log_until(20)
    assert [row["step"] for row in logged] == [5, 10]


def test_a_process_that_goes_on_logs_what_was_left_up_to_its_step(tmp_path: Path) -> None:
    logged: list[Any] = []
    file = tmp_path / "pending.jsonl"
    killed = PendingRows(file, logged.append)
    killed.start(0)
    for step in (5, 10, 15):
        killed.add({"step": step}, picture="lost")
    with file.open("a") as opened:
        opened.write('[1]\n{"step": "x"}\n{"st')
    PendingRows(file, logged.append).start(10)
    assert logged == [{"step": 5}, {"step": 10}]
    PendingRows(file, logged.append).start(20)
    assert logged == [{"step": 5}, {"step": 10}]
