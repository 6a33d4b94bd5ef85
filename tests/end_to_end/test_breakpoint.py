"""`breakpoint()` in own code, on a terminal: the debugger stops there, answers, goes on, and Ctrl-C saves."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import HANG_S

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, num_outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(num_outputs))
        self.calls = 0

    def forward(self, x):
        answer = 6 * 7
        self.calls += 1
        if self.calls in (1, 40):
            breakpoint()
        return self.layers(x)
"""
LINE = ["model=mine", "logger=console", "budget=1000000step", "loop.eval_every=1000000step"]


class Terminal:
    """A command on a terminal of its own, 100 columns wide."""

    def __init__(self, words: list[str], folder: Path, **environment: str) -> None:
        self.master, slave = pty.openpty()
        command = [sys.executable, "-m", "trainrun", *words]
        self.process = subprocess.Popen(
            *(command,),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "100"} | environment,
        )
        os.close(slave)
        self.text = ""

    def until(self, mark: str) -> str:
        """What is printed up to `mark`, which may wait for input behind it."""
        deadline = time.monotonic() + HANG_S
        while mark not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self.master], [], [], 0.5)[0]:
                try:
                    self.text += os.read(self.master, 65536).decode(errors="replace")
                except OSError:  # the command has ended
                    break
        before, _, self.text = self.text.partition(mark)
        return before

    def type(self, text: str) -> None:
        os.write(self.master, f"{text}\n".encode())

    def end(self) -> int:
        self.until("there is no such text")
        code = self.process.wait(HANG_S)
        os.close(self.master)
        return code


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "my_net.py").write_text(NET)
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/mine.yaml").write_text("_target_: my_net.Net\n")
    return tmp_path


def test_the_debugger_stops_before_and_within_training_and_ctrl_c_saves(project: Path) -> None:
    terminal = Terminal(LINE, project)
    for _ in range(2):  # before the run has begun, and below a progress bar
        place = terminal.until("(Pdb) ")
        assert "my_net.py(16)forward()" in place
        assert "-> return self.layers(x)" in place
        terminal.type("p answer, self.calls")
        assert terminal.until("(Pdb) ").splitlines()[1].startswith("(42, ")
        terminal.type("c")
    time.sleep(0.5)
    os.killpg(terminal.process.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
    assert terminal.end() == 130
    (status,) = (json.loads(file.read_text()) for file in project.glob("outputs/*/*/status.json"))
    assert (status["state"], status["exit_code"]) == ("interrupted", 130)
    assert status["step"] > 30


def test_quitting_the_debugger_ends_the_run_in_a_line(project: Path) -> None:
    terminal = Terminal(LINE, project)
    terminal.until("(Pdb) ")
    terminal.type("c")
    terminal.until("(Pdb) ")
    terminal.type("q")
    said = terminal.until("there is no such text")
    assert terminal.end() == 1
    assert "the debugger was quit, and the run ended" in said and "Traceback" not in said


def test_it_can_be_turned_off(project: Path) -> None:
    line = [*LINE[:2], "budget=50step"]
    assert Terminal(line, project, PYTHONBREAKPOINT="0").end() == 0
