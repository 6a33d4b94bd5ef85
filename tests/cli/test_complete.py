"""Tab completion, asked directly and in real interactive shells."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainrun.config.paths import CONF

ASK = (
    "import sys; from trainrun.cli.main import main; code = main(['-sc', 'query=bash']);"
    "sys.exit(code or 'torch' in sys.modules)"
)


def ask(line: str) -> list[str]:
    """What the shell is told for a line with the cursor at its end; nothing may reach the terminal."""
    environment = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def options(group: str) -> list[str]:
    return sorted(f"{group}={file.stem}" for file in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("trainrun optim", ["optimizer.", "optimizer="]),
        ("trainrun optimizer=", options("optimizer")),
        ("trainrun -q optim", ["optimizer.", "optimizer="]),
        ("trainrun mine.yaml optim", ["optimizer.", "optimizer="]),
        ("trainrun 'regularization=[ema]' optimizer=adamw", ["optimizer=adamw"]),
        ("trainrun resume last optim", ["optimizer.", "optimizer="]),
        ("trainrun resume outp", []),
        ("trainrun eval ", []),
        ("trainrun eval last --s", ["--split"]),
        ("trainrun sh", ["show"]),
        ("trainrun ru", ["runs", "run_dir=", "runtime.", "runtime="]),
        ("trainrun runs ", ["--clean", "--failed", "--json", "--yes"]),
        ("trainrun runs --json --f", ["--failed"]),
        ("trainrun show sym", ["symptoms"]),
        ("trainrun plot ", ["init", "optimizer", "run", "scheduler", "sweep"]),
        ("trainrun plot run las", []),
        ("trainrun plot sweep las", []),
        ("trainrun compare demo other", []),
        ("trainrun compare demo last --", ["--csv", "--json", "--latex", "--out", "--pair"]),
        ("trainrun plot init xavier_", ["xavier_normal", "xavier_uniform"]),
        ("trainrun plot optimizer adam optim", ["optimizer.", "optimizer="]),
        ("trainrun plot init --d", ["--depth"]),
        ("trainrun show init/xavier_u", ["init/xavier_uniform"]),
        ("trainrun optimizer=nonsense optimizer.", []),
        ("trainrun 'half a quo optimizer=adamw", ["optimizer=adamw"]),
    ],
)
def test_a_query_is_answered_without_noise_or_torch(line: str, answer: list[str]) -> None:
    assert ask(line) == answer


def test_keys_are_those_of_the_option_on_the_line() -> None:
    assert "optimizer.momentum=" in ask("trainrun optimizer=momentum optimizer.")
    assert "optimizer.momentum=" not in ask("trainrun optimizer=adamw optimizer.")


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, words: list[str], folder: Path) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, "TERM": "dumb", "PS1": "$ ", "HISTFILE": ""}
        master, slave = pty.openpty()
        self.terminal = master
        self.process = subprocess.Popen(
            words,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)

    def type(self, text: str, until: str, seconds: float = 20) -> str:
        """Type, and read until a pattern is seen; returns what was seen."""
        os.write(self.terminal, text.encode())
        output, end = "", time.monotonic() + seconds
        while not re.search(until, output):
            if time.monotonic() > end:
                raise AssertionError(f"no {until!r} after {text!r}, only {output!r}")
            if select.select([self.terminal], [], [], 0.1)[0]:
                output += os.read(self.terminal, 65536).decode(errors="replace").replace("\a", "")  # the bell
        return output

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)


SHELLS = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    """A shell with the completion installed, in a folder that holds outputs/."""
    name = request.param
    if shutil.which(name) is None or shutil.which("trainrun", path=str(Path(sys.executable).parent)) is None:
        pytest.skip(f"no {name}, or no installed trainrun, here")
    (tmp_path / "outputs" / "2026").mkdir(parents=True)
    shell = Shell(SHELLS[name], tmp_path)
    shell.type(f'eval "$(trainrun -sc install={name})"; echo rea""dy\n', r"ready")
    yield shell
    shell.close()


def test_tab_completes_in_a_real_shell(shell: Shell) -> None:
    shell.type("trainrun optim\t", r"trainrun optimizer")
    shell.type("\x15trainrun scheduler=warmup_cos\t", r"scheduler=warmup_cosine")
    shell.type("\x15trainrun optimizer.weight_d\t", r"optimizer\.weight_decay=")
    shell.type("\x15trainrun resume outp\t", r"resume outputs")
