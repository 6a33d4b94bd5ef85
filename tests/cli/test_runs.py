"""`trainrun runs`: quick, without torch, and nothing is removed that was not agreed to."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import shlex
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from imports import run_counted

from trainrun.cli.main import main
from trainrun.run.lock import lock

CONFIG = "seed: 0\nmodel:\n  _target_: trainrun.model.cnn.CNN\n" + "".join(f"k{i}: {i}\n" for i in range(100))
ENVIRONMENT = {
    "packages": {f"p{i}": "1" for i in range(100)},
    "data": {"name": "digits"},
    "git": {"diff": "d" * 9999},
}


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", sys.path[:])


def store(path: str, checkpoint: bool = False, **status: Any) -> Path:
    folder = Path("outputs") / path
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT, indent=1))
    (folder / "status.json").write_text(json.dumps({"monitor": "val/accuracy", "total_steps": 9} | status))
    if checkpoint:
        (folder / "checkpoints" / "step-000000009").mkdir(parents=True)
    return folder


@pytest.fixture
def stored_runs() -> dict[str, Path]:
    best = {"step": 3, "metrics": {"accuracy": 0.5}}
    return {
        "done": store("a/done", True, state="completed", started=1.0, best=best, name="demo", step=9),
        "stopped": store("a/stopped", True, state="interrupted", started=2.0, exit_code=143),
        "full": store("a/full", True, state="failed", started=3.0, exit_code=9, reason="disk full"),
        "broken": store("a/broken", state="failed", started=4.0, exit_code=1, reason="ValueError: broken"),
        "died": store("a/died", state="running", started=5.0),
    }


COUNTS_OPENED = """
import collections, os, sys
from trainrun.cli.main import main
opened = collections.Counter()
def count(event, arguments):
    if event == "open" and "2026-01-02" in os.fsdecode(arguments[0]):
        opened[os.path.basename(os.fsdecode(arguments[0]))] += 1
sys.addaudithook(count)
assert main(["runs"]) == 0
print(opened.total(), opened["events"])
"""


def test_a_run_costs_the_list_few_files_and_the_list_imports_little() -> None:
    for number in range(20):
        folder = store(f"2026-01-02/{number:03}", True, state="completed", started=float(number))
        (folder / "tensorboard").mkdir()
        (folder / "tensorboard" / "events").write_bytes(bytes(1000))
    done = run_counted("runs")
    assert (done.code, len(done.out.splitlines())) == (0, 21), done.err
    assert not done.modules & {"torch", "numpy", "hydra", "yaml"}
    assert len(done.modules) < 225  # 217 today, rich among them, and 33 of them Python's own at its start
    counted = subprocess.run(
        [sys.executable, "-c", COUNTS_OPENED], capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]
    opened, views = map(int, counted.split())
    assert (opened <= 8 * 20, views) == (True, 0)  # 7 a run: status, lock, environment and config


def test_the_newest_is_last_and_the_table_is_on_stdout(
    stored_runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        ["completed", "demo"],
        ["interrupted", "a/stopped"],
        ["failed", "a/full"],
        ["failed", "a/broken"],
        ["died", "a/died"],
    ]
    assert "\x1b" not in out
    assert "5 runs" in err and "trainrun runs --clean removes 2" in err


def test_machines_get_an_object_a_line(
    stored_runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", "--json"]) == 0
    out, err = capsys.readouterr()
    objects = [json.loads(line) for line in out.splitlines()]
    assert err == "" and [Path(record["path"]) for record in objects] == list(stored_runs.values())
    assert (objects[0]["run"], objects[0]["best"], objects[0]["model"]) == ("demo", 0.5, "CNN")
    assert main(["runs", "--json", "--failed"]) == 0
    out, _ = capsys.readouterr()
    assert [Path(json.loads(line)["path"]).name for line in out.splitlines()] == ["full", "broken", "died"]


def test_without_runs_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["runs"], ["runs", "--failed"], ["runs", "--json"], ["runs", "--clean", "--yes"]):
        assert main(words) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "no run in outputs/ yet; start one with trainrun",
        "no run failed",
        "nothing to remove",
    ]


@pytest.mark.parametrize(
    "words", [["--yes"], ["--clean", "--json"], ["--clean", "--failed"], ["demo"], ["--al"]]
)
def test_flags_that_would_be_ignored_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", *words]) == 2
    assert "error" in capsys.readouterr().err


def test_where_nobody_can_be_asked_nothing_goes(
    stored_runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main(["runs", "--clean"]) == 2
    err = capsys.readouterr().err
    assert all(path.exists() for path in stored_runs.values())
    command = err.splitlines()[-1]
    assert command.startswith("  trainrun ")
    assert main(shlex.split(command)[1:]) == 0  # what is printed can be pasted
    assert {name for name, path in stored_runs.items() if not path.exists()} == {"broken", "died"}
    assert "removed 2 of 2" in capsys.readouterr().err


class Terminal(io.StringIO):
    """A person at the keyboard."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "goes"), [("y", True), ("YES", True), ("n", False), ("", False), ("yess", False)]
)
def test_a_person_is_asked(
    answer: str,
    goes: bool,
    stored_runs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n" if answer else ""))  # "": the end of input
    assert main(["runs", "--clean"]) == 0
    err = capsys.readouterr().err
    assert err.index("a/broken") < err.index("a/died") < err.index("remove these 2 folders?")
    assert ("nothing was removed" in err) is not goes
    assert [stored_runs["broken"].exists(), stored_runs["died"].exists()] == [not goes] * 2


def test_what_stays_is_named_with_how_to_remove_it(
    stored_runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", "--clean", "--yes"]) == 0
    assert f"\n  rm -r {stored_runs['full']}\n" in capsys.readouterr().err
    assert stored_runs["full"].exists()


def test_a_run_taken_up_while_the_question_stood_stays(
    stored_runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = []

    class Slow(Terminal):
        def readline(self, *_: Any) -> str:
            held.append(lock(stored_runs["died"]))
            return "y\n"

    monkeypatch.setattr("sys.stdin", Slow())
    assert main(["runs", "--clean"]) == 0
    held[0].close()
    assert stored_runs["died"].exists() and not stored_runs["broken"].exists()
    err = capsys.readouterr().err
    assert f"{stored_runs['died']} stays: it was taken up meanwhile" in err and "removed 1 of 2" in err


def test_remnants_go_when_they_are_old(capsys: pytest.CaptureFixture[str]) -> None:
    remnant = Path("outputs/2026-01-02/10-00-00")
    remnant.mkdir(parents=True)
    (remnant / ".lock").touch()
    assert main(["runs", "--clean", "--yes"]) == 0
    assert "1 folder stays for an hour: a run may be starting there" in capsys.readouterr().err
    os.utime(remnant, (time.time() - 7200,) * 2)
    assert main(["runs", "--clean", "--yes"]) == 0
    assert f"{remnant}  no run came to be here" in capsys.readouterr().err
    assert list(Path("outputs").iterdir()) == []


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_of_any_width_is_not_exceeded(stored_runs: dict[str, Path], width: int) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    code = "import sys; from trainrun.cli.main import main; sys.exit(main(['runs']))"
    environment = os.environ | {"TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=slave, stderr=subprocess.DEVNULL, env=environment
    )
    os.close(slave)
    shown = os.read(master, 65536).decode().replace("\r", "").splitlines()
    os.close(master)
    assert done.returncode == 0
    assert len(shown) == 6 and max(map(len, shown)) <= width
    assert ("ValueError: broken" in "".join(shown)) is (width == 120)
