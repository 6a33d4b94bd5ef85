"""What the table says of a run is what lies in its folder, whoever wrote it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainrun.run.directory import find_run
from trainrun.run.listing import ListedRun, entries, is_starting, printable, state_of
from trainrun.run.lock import lock

CONFIG = """\
data:
  _target_: trainrun.data.sklearn.table
  name: wine
model:
  widths:
  - 32
  nested:
    name: inner
    _target_: a.Wrong
  _target_: trainrun.model.cnn.CNN
task:
  name: no
"""


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def store(path: str, config: str = CONFIG, **status: Any) -> Path:
    """A run's folder with a status.json of these entries."""
    folder = Path(path)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    if status:
        (folder / "status.json").write_text(json.dumps(status))
    return folder


def entry_at(path: Path) -> ListedRun:
    return next(entry for entry in entries() if entry.path == path)


def test_a_finished_run_is_read_from_its_files() -> None:
    path = store(
        "outputs/2026-01-02/10-00-00",
        state="completed",
        name="demo",
        step=80,
        total_steps=100,
        monitor="val/accuracy",
        best={"step": 60, "metrics": {"loss": 0.5, "accuracy": 0.75}},
        started=1000.5,
        exit_code=0,
        reason="stop_at",
    )
    environment = {"git": {"diff": ' "data": {\n  "name": "wrong"\n'}, "data": {"name": "wine", "sizes": {}}}
    (path / "environment.json").write_text(json.dumps(environment, indent=1))
    (path / "checkpoints" / "step-000000060").mkdir(parents=True)
    entry = entry_at(path)
    assert entry == ListedRun(
        path=path,
        run="demo",
        name="demo",
        sweep=None,
        state="completed",
        reason="stop_at",
        exit_code=0,
        data="wine",
        model="CNN",
        monitor="val/accuracy",
        best=0.75,
        best_step=60,
        step=80,
        total_steps=100,
        started=1000.5,
        num_bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        has_checkpoint=True,
    )


@pytest.mark.parametrize(
    ("model", "short"),
    [
        ({"_target_": "my_model.Net", "width": 64}, "Net"),
        ({"_target_": "trainrun.model.torchvision.torchvision", "name": "resnet18"}, "resnet18"),
        ({"width": 3, "_target_": "a.b.C", "blocks": [{"_target_": "d.E"}]}, "C"),
        ({}, ""),
    ],
)
def test_the_model_is_named_as_its_settings_name_it(model: dict[str, Any], short: str) -> None:
    text = yaml.safe_dump({"seed": 0, "model": model, "task": {"_target_": "x.Y"}}, sort_keys=False)
    assert entry_at(store("outputs/one", text, state="failed")).model == short


def test_every_run_is_found_by_the_word_that_is_shown() -> None:
    store("outputs/2026-01-02/10-00-00", started=1.0, name="demo")
    store("outputs/2026-01-02/10-00-00-2", started=2.0, name="demo")
    store("outputs/2026-01-03/10-00-00", started=3.0, name="10-00-00")  # unnamed: its folder's name
    store("outputs/2026-01-04/10-00-00", started=3.5, name="10-00-00")
    store("outputs/demo", started=0.5, name="demo")  # typed as run_dir, and a name elsewhere
    store("outputs/multirun/grid/0", started=4.0, name="0")
    store("outputs/multirun/grid/1", started=5.0, name="1")
    store("outputs/multirun/other/0", started=6.0, name="0")
    store("outputs/grid/0", started=0.1, name="0")
    store("outputs/named", started=7.0, name="last")
    store("outputs/last", started=0.2, name="last")
    store("outputs/unread")
    shown = {entry.run: entry.path for entry in entries()}
    assert len(shown) == 12
    for word, path in shown.items():
        assert find_run(word) == path, word
    assert shown["demo"] == Path("outputs/2026-01-02/10-00-00-2")
    assert shown["2026-01-02/10-00-00"] == Path("outputs/2026-01-02/10-00-00")
    assert shown["other/0"] == Path("outputs/multirun/other/0")


def test_a_sweeps_jobs_know_their_sweep() -> None:
    store("outputs/multirun/grid/0")
    mine = store("outputs/mine/0")
    store("outputs/2026-01-02/10-00-00")
    (mine.parent / "multirun.yaml").touch()
    assert {entry.run: entry.sweep for entry in entries()} == {
        "grid/0": "grid",
        "mine/0": "mine",
        "2026-01-02/10-00-00": None,
    }


HOLD = """
import sys
from pathlib import Path
from trainrun.run.lock import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def alive() -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A run that another process owns."""
    path = store("outputs/alive", state="running")
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield path, process
        process.kill()


def test_a_run_lives_as_long_as_its_process(alive: tuple[Path, subprocess.Popen[str]]) -> None:
    path, process = alive
    assert entry_at(path).state == "running"
    process.kill()
    process.wait()
    assert entry_at(path).state == "died"


def test_the_lock_decides_over_the_status() -> None:
    path = store("outputs/resumed", state="interrupted")
    with lock(path):
        assert entry_at(path).state == "running"
    assert entry_at(path).state == "interrupted"


@pytest.mark.parametrize("state", ["completed", "interrupted", "failed"])
def test_an_ended_run_is_in_the_state_it_says(state: str) -> None:
    assert state_of({"state": state}, held=False) == state


@pytest.mark.parametrize("state", ["running", "sleeping", None, 5, ["failed"]])
def test_what_ended_without_saying_so_died(state: object) -> None:
    assert state_of({"state": state}, held=False) == "died"


def test_a_folder_without_status_may_be_one_that_starts() -> None:
    path = store("outputs/new")
    assert is_starting(path) and entry_at(path).state == "running"
    two_hours_ago = time.time() - 7200
    os.utime(path, (two_hours_ago, two_hours_ago))
    assert not is_starting(path) and entry_at(path).state == "died"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"best": 5, "monitor": 7, "name": {"a": 1}, "step": "x", "total_steps": [], "started": "now"}',
        '{"best": {"metrics": {"loss": "low"}, "step": true}, "monitor": "val/loss", "exit_code": "7"}',
        '{"best": {"metrics": {"loss": NaN}}, "monitor": "val/loss", "step": Infinity, "reason": 5}',
        '{"step": 1' + "0" * 400 + ', "best": {"metrics": []}}',
    ],
    ids=["cut", "list", "types", "inner", "nonfinite", "huge"],
)
def test_a_status_that_nobody_would_write_hides_nothing_else(text: str) -> None:
    path = store("outputs/odd")
    (path / "status.json").write_text(text)
    good = store("outputs/good", state="completed", started=9.0)
    first, second = entries()
    assert (first.path, second.path) == (path, good)
    assert (first.state, first.best, first.best_step, first.total_steps) == ("died", None, None, None)


def test_nothing_reaches_the_terminal_but_one_printable_line() -> None:
    path = store("outputs/evil", state="failed", name="a\x1b[2Jb", reason="first\nsecond\x07")
    entry = entry_at(path)
    assert (entry.name, entry.reason) == ("a\\x1b[2Jb", "first")
    assert (
        printable("caf\N{LATIN SMALL LETTER E WITH ACUTE}\x9b")
        == "caf\N{LATIN SMALL LETTER E WITH ACUTE}\\x9b"
    )


def test_what_a_link_leads_to_is_not_counted(tmp_path: Path) -> None:
    path = store("outputs/linked", state="failed")
    before = entry_at(path)
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "file").write_bytes(bytes(100_000))
    (path / "link").symlink_to(tmp_path / "big")
    length = (path / "link").lstat().st_size
    assert entry_at(path) == replace(before, num_bytes=before.num_bytes + length)
