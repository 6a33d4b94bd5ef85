"""Which jobs a line means, where their sweep lies, and which of them are due."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainrun.config.compose.composer import Composer
from trainrun.run.lock import lock
from trainrun.sweep.engine import _is_due, _owned, _short, _stoppable, _with_source, planned, resume
from trainrun.sweep.job import STOP
from trainrun.vocabulary.errors import ConfigError, FolderBusyError

LINE = ["data=iris", "optimizer.lr=0.1,0.2"]


@pytest.fixture(autouse=True)
def _chdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def folder_of(*words: str) -> Path:
    return planned(Composer(), list(words), None)[2]


def test_every_job_is_composed_before_the_first_starts() -> None:
    space, composed, folder = planned(Composer(), LINE, None)
    assert space.is_grid
    assert [job.settings["optimizer"]["lr"] for job in composed.values()] == [0.1, 0.2]
    assert not folder.exists()
    with pytest.raises(ConfigError) as caught:
        planned(Composer(), ["optimizer.lr=0.1,abc", "seed=0,x"], None)
    assert {problem.key for problem in caught.value.problems} == {"optimizer.lr", "seed"}


def test_a_sweep_lies_where_the_same_line_finds_it() -> None:
    folder = folder_of(*LINE)
    assert folder.parent == Path("outputs/multirun") and folder.name.startswith("lr-")
    assert folder_of("optimizer.lr=0.2,0.3,0.4", "data=iris") == folder  # another order, other values
    assert folder_of(*LINE, "loop.log_every=2step", "sweep.retries=2") == folder  # nothing that counts
    assert folder_of(*LINE, "budget=2ep") != folder
    assert folder_of(*LINE, "seed=0,1") != folder
    assert folder_of(*LINE, "name=mine") == Path("outputs/multirun/mine")
    assert folder_of(*LINE, "run_dir=here") == Path("here")


def test_jobs_that_no_table_could_rank_are_refused() -> None:
    with pytest.raises(ConfigError, match="these monitor val/mae and val/rmse; set one that all have"):
        planned(Composer(), ["data=diabetes", "monitor=val/rmse,val/mae"], None)


def test_a_folder_is_a_sweeps_alone() -> None:
    with _owned(Path("new")), pytest.raises(FolderBusyError), _owned(Path("new")):
        pass
    Path("new", STOP).touch()
    with _owned(Path("new")):  # begun, and killed before its first record
        assert not Path("new", STOP).exists()
    Path("run").mkdir()
    Path("run/config.yaml").touch()
    Path("other").mkdir()
    Path("other/file").touch()
    Path("file").touch()
    for name, text in (
        ("run", "holds something else"),
        ("other", "holds something else"),
        ("file", "is a file"),
    ):
        with pytest.raises(FolderBusyError, match=text), _owned(Path(name)):
            pass
    Path("other/sweep.json").touch()
    with _owned(Path("other")):
        pass


def due(state: str, reason: str = "", step: int = 40, share: float | None = None, **options: Any) -> bool:
    Path("key").mkdir(exist_ok=True)
    status = {"state": state, "reason": reason, "step": step, "total_steps": 100}
    Path("key/status.json").write_text(json.dumps(status))
    settings = {"repeat_failed": False, "pruner": None, "begun": set()} | options
    sweep = SimpleNamespace(
        folder=Path(),
        options={"repeat_failed": settings["repeat_failed"]},
        begun=settings["begun"],
        search=SimpleNamespace(pruner=settings["pruner"]),
    )
    return _is_due(sweep, "key", share)  # type: ignore[arg-type]


def test_what_is_left_to_do() -> None:
    assert due("interrupted", "SIGINT") and due("running")
    assert not due("completed")
    Path("key/metrics.jsonl").write_text('{"event": "train", "step": 40}\n')
    assert due("completed")  # its records know of no end
    Path("key/metrics.jsonl").unlink()
    assert not due("failed")
    assert due("failed", repeat_failed=True)
    assert not due("failed", repeat_failed=True, begun={"key"})  # once in a start
    assert due("interrupted", "pruned") and not due("interrupted", "pruned", pruner={"pruner": "median"})


@pytest.mark.parametrize(("step", "expected"), [(49, True), (50, False), (51, False)])
def test_a_job_that_waits_goes_on_to_its_share(step: int, expected: bool) -> None:
    assert due("interrupted", "paused", step, share=0.5) is expected
    assert due("interrupted", "paused", step)  # to the end


def test_a_run_is_named_once_for_all_jobs() -> None:
    Path("outputs/2026-01-02/a").mkdir(parents=True)
    Path("outputs/2026-01-02/a/config.yaml").touch()
    Path("weights.pt").touch()
    words = _with_source(["seed=0,1", "init_from=last"])
    assert words == ["seed=0,1", "init_from=outputs/2026-01-02/a"]
    for same in ("init_from=weights.pt", "init_from=null", "init_from=${oc.env:X}"):
        assert _with_source([same]) == [same]


@pytest.mark.parametrize(
    ("word", "short"),
    [
        ("optimizer.lr=0.012345678", "optimizer.lr=0.01235"),
        ("optimizer.lr=1.23456789e-05", "optimizer.lr=1.235e-05"),
        ("optimizer.lr=0.1234", "optimizer.lr=0.1234"),
        ("budget=20ep", "budget=20ep"),
        ("data.path=0.12345.csv", "data.path=0.12345.csv"),
    ],
)
def test_numbers_are_short_in_lines(word: str, short: str) -> None:
    assert _short(word) == short


def test_a_signal_stops_the_sweep_and_ends_the_jobs_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, state in (("running", "running"), ("left", "running"), ("done", "completed")):
        Path(name).mkdir()
        Path(name, "status.json").write_text(json.dumps({"state": state, "pid": len(name)}))
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    before = signal.getsignal(signal.SIGTERM)
    with lock(Path("running")), _stoppable(Path()):
        signal.raise_signal(signal.SIGTERM)
    assert killed == [(len("running"), signal.SIGTERM)]
    assert Path(STOP).read_text() == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) == before


def stored(*words: str) -> Path:
    content = {"words": ["-m", *LINE, *words], "sweeper": "basic", "monitor": "val/accuracy", "mode": "max"}
    Path("sweep").mkdir(exist_ok=True)
    Path("sweep/sweep.json").write_text(
        json.dumps(content | {"state": "running", "jobs": [], "settings": []})
    )
    return Path("sweep")


def test_a_stored_line_takes_words_about_the_sweep_alone() -> None:
    with pytest.raises(
        ConfigError, match=r"budget: makes another sweep; a stored one takes sweep\.repeat_failed"
    ):
        resume(stored(), ["budget=3ep", "sweep.retries=1"], quiet=True)


def test_a_stored_line_says_no_more_than_a_stored_run_may() -> None:
    for word in ("--config-dir=x", "runtime.trust=[os]", "hydra.searchpath=[x]"):
        with pytest.raises(ConfigError, match="is taken only from the command line") as caught:
            resume(stored(word), [], quiet=True)
        assert caught.value.problems[0].fix is not None
