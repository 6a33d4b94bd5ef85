"""What a process of a run writes into its folder for others."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainrun.run.files import read_json
from trainrun.run.lock import lock
from trainrun.run.record import write_status
from trainrun.session.failure import record_for_main_process
from trainrun.vocabulary.errors import RankFailedError

DIED = RankFailedError("another rank died")


def test_where_the_main_process_died_another_records_why_the_run_ended(tmp_path: Path) -> None:
    write_status(tmp_path, state="running", run_id="abc")
    record_for_main_process(tmp_path, DIED)
    status = read_json(tmp_path / "status.json")
    assert (status["state"], status["exit_code"], status["reason"]) == ("failed", 10, "another rank died")
    assert status["run_id"] == "abc"


@pytest.mark.parametrize("state", ["interrupted", "completed"])
def test_what_the_main_process_recorded_itself_stays(state: str, tmp_path: Path) -> None:
    write_status(tmp_path, state=state)
    record_for_main_process(tmp_path, DIED)
    assert read_json(tmp_path / "status.json")["state"] == state


def test_a_main_process_that_lives_records_its_own_end(tmp_path: Path) -> None:
    write_status(tmp_path, state="running")
    with lock(tmp_path):
        record_for_main_process(tmp_path, DIED)
    assert read_json(tmp_path / "status.json")["state"] == "running"
    record_for_main_process(tmp_path / "elsewhere", DIED)  # of another machine, where there is no such folder
    assert not (tmp_path / "elsewhere").exists()
