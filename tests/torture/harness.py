"""Starting commands that are to die, and saying whether what they leave behind is as if they had not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from toy import same_bits

from trainrun.checkpoint.store import problem_of

TESTS = Path(__file__).resolve().parents[1]
PROJECT = Path(__file__).with_name("project")

SIGTERM_EXIT, CANNOT_RESUME, BUSY, STORAGE_FAILED = 143, 5, 6, 9


@dataclass(frozen=True)
class Ended:
    """What a process came to; `code` is negative for a signal, None for one that hung and was killed."""

    code: int | None
    out: str
    err: str
    seconds: float
    memory_bytes: int  # the most it had at once

    def __str__(self) -> str:
        return f"exit {self.code} after {self.seconds:.1f} s\n{self.out}\n{self.err}"


@dataclass(frozen=True)
class Job:
    """A command and what is to go wrong in it. `signal` is sent `after_s`; `strikes` are `faults.Strike`s."""

    words: Sequence[str]
    cwd: str
    signal: str = "SIGKILL"
    after_s: float | None = None
    strikes: Sequence[Mapping[str, Any]] = ()
    watched: str | None = None  # the folder whose operations are counted
    trace: str | None = None  # the file they are written to
    saves: str | None = None  # one of naive.VARIANTS
    file_limit_bytes: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    patience_s: float = 60.0


class Server:
    """Runs jobs, each in a fork of a process that has everything imported."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "20000"}
        environment["GIT_DIR"] = os.devnull  # the record of a run then does not grow with what is uncommitted
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(TESTS), environment.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "torture.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def __call__(self, job: Job) -> Ended:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(vars(job)) + "\n")
        self.process.stdin.flush()
        ended = Ended(**json.loads(self.process.stdout.readline()))
        assert ended.code is not None, f"hung: {ended}"
        killed = ended.code in (-9, -15)  # loader processes that lose their parent may say so
        assert killed or "Traceback" not in ended.err, ended
        return ended

    def close(self) -> None:
        self.process.communicate()


@dataclass(frozen=True)
class Run:
    """One run's folder, and how to start and go on with it."""

    server: Server
    words: Sequence[str]
    folder: Path
    lasts_s: float = 0.0  # how long one took that nothing happened to
    saves: str | None = None  # one of naive.VARIANTS

    def start(self, *words: str, **goes_wrong: Any) -> Ended:
        return self.command(*self.words, f"run_dir={self.folder}", *words, **goes_wrong)

    def resume(self, *words: str, **goes_wrong: Any) -> Ended:
        return self.command("resume", str(self.folder), *words, **goes_wrong)

    def go_on(self, **goes_wrong: Any) -> Ended:
        """As a batch system would that does not know how far it came: the same line again."""
        return self.start("resume=auto", **goes_wrong)

    def command(self, *words: str, **goes_wrong: Any) -> Ended:
        if goes_wrong.get("strikes") or goes_wrong.get("trace"):
            goes_wrong.setdefault("watched", str(self.folder))
        return self.server(Job(words, str(PROJECT), saves=self.saves, **goes_wrong))

    def copy(self, folder: Path) -> Run:
        """The same run, as far as it is, elsewhere."""
        if self.folder.exists():
            shutil.copytree(self.folder, folder, symlinks=True)
        return replace(self, folder=folder)

    def new(self, folder: Path) -> Run:
        """The same command, not yet begun."""
        return replace(self, folder=folder)

    def checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoints/step-" + 9 * "[0-9]"))

    def checkpoint(self, which: int = -1) -> Path:
        return self.checkpoints()[which]

    def killed(self, of: str, nth: int) -> Run:
        """Goes on, and dies at the `at`-th operation, from 0, that matches `of`."""
        ended = self.go_on(strikes=[{"what": "SIGKILL", "of": of, "nth": nth}])
        assert ended.code == -9, ended
        return self

    def traced(self, trace: Path) -> list[str]:
        """Goes on to the end; every operation on its folder, in order."""
        ended = self.go_on(trace=str(trace))
        assert ended.code == 0, ended
        return trace.read_text().splitlines()

    def status(self) -> dict[str, Any]:
        return json.loads((self.folder / "status.json").read_text())

    def started_at(self) -> list[int]:
        """The step that each process began at."""
        events = map(json.loads, (self.folder / "timing.jsonl").read_text().splitlines())
        return [event["step"] for event in events if event["event"] == "started"]

    def metrics(self) -> bytes:
        return (self.folder / "metrics.jsonl").read_bytes()

    def state(self) -> dict[str, Any]:
        """The newest checkpoint, without the entries that depend on the clock."""
        parts = torch.load(self.checkpoint() / "state.pt", weights_only=True)
        del parts["counters"]["seconds"], parts["counters"]["seconds_by_part"]
        return parts


def assert_identical(run: Run, straight: Run, views: Collection[str] = ()) -> None:
    """The promise: as if nothing had happened. And nothing is left lying about.

    `views` are files that may be there or not.
    """
    assert run.status()["state"] == "completed", run.status()
    assert run.status()["best"] == straight.status()["best"], "the best differs"
    assert run.metrics() == straight.metrics(), "metrics.jsonl differs"
    assert run.checkpoint().name == straight.checkpoint().name
    assert same_bits(run.state(), straight.state()), "the final state differs"
    ours, theirs = ({path.name for path in of_run.folder.iterdir()} for of_run in (run, straight))
    assert (ours ^ theirs) <= {*views}, f"files differ: {sorted(ours ^ theirs)}"
    left = [path.name for path in run.folder.rglob(".tmp*")]
    assert not left, f"left behind: {left}"


def assert_storage_failed(run: Run, ended: Ended, reason: str, older: int) -> None:
    """Said with its reason, nothing lost of at least `older` checkpoints, and the status is true."""
    assert ended.code == STORAGE_FAILED, ended
    assert reason in ended.err and "bytes are free" in ended.err, ended
    assert len(run.checkpoints()) >= older
    assert_whole(run)
    assert not list(run.folder.rglob(".tmp*"))
    status = run.status()
    assert (status["state"], status["exit_code"], status["resumable"]) == ("failed", STORAGE_FAILED, True)
    assert status["reason"] in ended.err


def assert_whole(run: Run) -> None:
    """A checkpoint that has its name is whole, whatever happened and when."""
    for path in run.checkpoints():
        problem = problem_of(path, run.status().get("run_id"))
        assert problem is None, f"{path.name} {problem}"


def assert_finishes_identical(run: Run, straight: Run) -> Ended:
    ended = run.resume() if (run.folder / "config.yaml").exists() else run.go_on()
    assert ended.code == 0, ended
    assert_identical(run, straight)
    return ended


def snapshot(folder: Path) -> dict[str, Any]:
    """Every path below a folder with its content, but for the owner's pid and what a kill left behind."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock" and ".tmp-" not in str(path.relative_to(folder))
    }
