"""Streams that are closed, full, or None."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import trainrun
from trainrun.cli.main import main
from trainrun.terminal.streams import present

TRAINRUN = f"{shlex.quote(sys.executable)} -m trainrun"
SHORT = "data=iris model=linear budget=2step run_dir=run 'logger=[console]'"


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_run_needs_no_stream(closed: str, tmp_path: Path) -> None:
    done = shell(f"{TRAINRUN} {SHORT} {closed}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads((tmp_path / "run/status.json").read_text())["state"] == "completed"
    for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines():
        json.loads(line)  # nothing else was written into the file


@pytest.mark.parametrize("words", ["--help", "show optimizer"])
def test_results_that_nobody_can_keep_are_an_error_of_storage(words: str, tmp_path: Path) -> None:
    done = shell(f"{TRAINRUN} {words} >/dev/full", tmp_path)
    assert done.returncode == 9
    assert done.stderr.startswith("output: cannot be written: No space left on device")
    assert "Traceback" not in done.stderr


def test_a_program_without_streams_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stderr", None)
    monkeypatch.setattr("sys.stdout", None)
    with present():
        assert trainrun.train(shlex.split(SHORT)).state == "completed"
    assert sys.stderr is None and sys.stdout is None


def test_streams_that_are_there_are_left_alone() -> None:
    before = (sys.stdin, sys.stdout, sys.stderr)
    with present():
        assert (sys.stdin, sys.stdout, sys.stderr) == before


def test_what_fails_after_the_folder_was_claimed_is_in_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such view")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trainrun.logger.console.Console.__init__", fail)
    with pytest.raises(RuntimeError, match="no such view"):
        trainrun.train(shlex.split(SHORT))
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("failed", 1)
    assert status["reason"] == "RuntimeError: no such view"
    assert os.listdir(tmp_path) == ["run"]


def test_a_terminal_sees_that_the_command_has_begun_before_torch_is_imported(tmp_path: Path) -> None:
    """And the sign is gone when the first line comes."""
    code = """
import sys
from trainrun.cli import main
def run(name, words):
    main.show_sign("is starting")
    print("a line", file=sys.stderr)
    return 0
main._run, sys.argv = run, ["trainrun", "budget=1step"]
sys.exit(main.main())
"""
    master, slave = os.openpty()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stderr=slave)
    os.close(slave)
    shown = os.read(master, 1000)
    os.close(master)
    assert (done.returncode, shown) == (0, b"is starting ...\r\x1b[Ka line\r\n")


@pytest.mark.parametrize(("words", "shown"), [(["check"], True), (["check", "-q"], False), (["runs"], False)])
def test_only_commands_that_import_torch_show_it(
    words: list[str], shown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trainrun.cli.main.show_sign", shows.append)
    monkeypatch.setattr("trainrun.cli.check.run", lambda words: 0)
    assert main(words) == 0
    assert bool(shows) == shown
