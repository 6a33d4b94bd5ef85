"""The check of a GPU, on a CPU: its arguments, its limits of time, its table; and in miniature all of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gpu import bounded, check
from gpu.bounded import Row

# Faults of trainrun that the check has found and that are not mended yet.
KNOWN_FAULTS = {"lbfgs, resnet9"}


def test_words_that_are_wrong_are_answered(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.arguments(["gpt", "--device", "cpu"]).parts == ["gpt"]
    for words, answer in (
        (["speed"], "there are environment, exact"),
        (["--seconds", "0"], "greater than 0"),
    ):
        with pytest.raises(SystemExit) as ended:
            check.arguments(words)
        assert ended.value.code == 2
        assert answer in capsys.readouterr().err


def test_parts_are_functions_and_time_that_one_leaves_goes_to_the_next() -> None:
    for name, (module, _) in check.PARTS.items():
        assert f"\ndef {name}(setup: Setup)" in (check.HOME / f"{module}.py").read_text()
    shares = {"a": 1, "b": 2, "c": 1}
    assert bounded.limits(shares, "a", 400) == 100
    assert bounded.limits(shares, "b", 390) == 260
    assert bounded.limits(shares, "c", 380) == 380
    assert 0 < bounded.limits(shares, "c", -5) < 1


def test_a_part_that_runs_over_ends_with_all_it_started_and_its_rows_stay(tmp_path: Path) -> None:
    file, pid = tmp_path / "slow.rows", tmp_path / "pid"
    bounded.write(file, Row("slow", "first", "1"))
    with file.open("a") as rows:
        rows.write('{"part": "slow", "na')
    code = f"echo loading; sleep 60 & echo $! > {pid}; sleep 60"
    began = time.monotonic()
    rows = bounded.run_part("slow", ["sh", "-c", code], file, 0.5)
    assert time.monotonic() - began < 5
    assert rows[0] == Row("slow", "first", "1")
    assert (rows[1].figure, rows[1].passed, rows[1].note) == ("not done after 0 s", False, "\nloading")
    assert not is_alive(int(pid.read_text()))
    text = bounded.table(rows)
    assert text.splitlines()[1:3] == ["slow", "  first           1"]
    assert "the whole part  not done after 0 s  done  FAILED  see below" in text
    assert bounded.verdict(rows, ["gpt"]) == "0 of 1 rows with a bar passed; not done: gpt"


def is_alive(pid: int) -> bool:
    """Whether it runs; one that waits for its parent has ended."""
    for _ in range(100):
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return False
        except FileNotFoundError:
            return False
        time.sleep(0.01)
    return True


def test_a_part_that_fails_says_so_with_its_last_lines(tmp_path: Path) -> None:
    command = ["sh", "-c", "seq 100; kill -9 $$"]
    (row,) = bounded.run_part("ranks", command, tmp_path / "ranks.rows", 20)
    assert (row.figure, row.passed) == ("ended with SIGKILL", False)
    assert row.note.split() == [str(number) for number in range(89, 101)]


def test_the_table_comes_when_time_is_over_and_the_exit_code_is_1() -> None:
    words = ["gpt", "--device", "cpu", "--small", "--seconds", "0.3"]
    command = [sys.executable, str(check.HOME / "check.py"), *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "not done after 0 s" in ended.stdout
    assert "not done: gpt" in ended.stdout.splitlines()[-1]


def test_an_interruption_leaves_the_rows_so_far(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str, command: list[str], file: Path, seconds: float) -> list[Row]:
        bounded.write(file, Row(name, "memory", "2 GiB", "there", True))
        if name == "ranks":
            raise KeyboardInterrupt
        return bounded.read(file)

    monkeypatch.setattr(check, "run_part", interrupted)
    assert check.main(["ranks", "gpt"]) == 130
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4:-1] == ["ranks", "  memory  2 GiB  there  ok", ""]
    assert lines[-1] == "2 of 2 rows with a bar passed; not done: ranks, gpt"


def test_without_a_gpu_the_answer_names_the_miniature() -> None:
    """Nothing else is tried then."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(check.HOME / "check.py")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 1
    assert "--device cpu --small" in ended.stdout
    assert "exact:" not in ended.stderr


@pytest.mark.torture
def test_the_miniature_passes() -> None:
    rows, missing, code = check.run_all(list(check.PARTS), "cpu", small=True, seconds=400)
    failed = {row.name: row for row in rows if row.passed is False}
    assert set(failed) <= KNOWN_FAULTS, bounded.table(list(failed.values()))
    assert (missing, code) == ([], 0)
    assert {row.part for row in rows} == set(check.PARTS)
