"""What came to nothing goes; whatever lives, can be resumed or lies elsewhere stays."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from trainrun.run.cleaning import lost, remnants, remove
from trainrun.run.listing import entries
from trainrun.run.lock import lock
from trainrun.vocabulary.errors import StorageError


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def store(path: str, checkpoint: bool = False, **status: Any) -> Path:
    folder = Path(path)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    (folder / "metrics.jsonl").write_text("{}\n")
    (folder / ".lock").write_text("1")
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text("seed: 0\n")
    (folder / "status.json").write_text(json.dumps({"started": 1.0} | status))
    if checkpoint:
        (folder / "checkpoints" / "step-000000010").mkdir(parents=True)
        (folder / "checkpoints" / "step-000000010" / "state.pt").write_bytes(bytes(10))
    return folder


def age(path: Path) -> Path:
    """As if nothing had happened there for two hours."""
    then = time.time() - 7200
    os.utime(path, (then, then))
    return path


def contents(folder: Path) -> set[str]:
    """Every file, folder and link below, by brute force."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


ENDS = {
    # (state, exit code, has a checkpoint): goes
    ("failed", 1, False): True,
    ("failed", 9, True): False,  # the disk was full: there is something to go on from
    ("failed", 8, True): False,
    ("failed", 7, True): True,  # not finite: the same settings would come to it again
    ("failed", 7, False): True,
    ("running", None, False): True,  # and nobody holds it: died
    ("running", None, True): False,
    ("interrupted", 143, True): False,
    ("interrupted", 143, False): False,  # it resumes from step 0
    ("completed", 0, True): False,
    ("completed", 0, False): False,
}


@pytest.mark.parametrize(("end", "goes"), ENDS.items(), ids=[f"{s}-{c}-{k}" for s, c, k in ENDS])
def test_only_what_cannot_be_resumed_is_lost(end: tuple[str, int | None, bool], goes: bool) -> None:
    state, code, checkpoint = end
    path = store("outputs/2026-01-02/10-00-00", checkpoint, state=state, exit_code=code)
    before = contents(Path.cwd())
    assert [run.path for run in lost(entries())] == [path] * goes
    assert remove(path) is goes
    assert contents(Path.cwd()) == ({"outputs"} if goes else before)


def test_a_live_run_is_neither_listed_nor_removed() -> None:
    path = store("outputs/alive", state="running")
    before = contents(path)
    with lock(path):
        assert not lost(entries())
        assert not remove(path)
        assert contents(path) == before
    assert [run.path for run in lost(entries())] == [path]


def test_a_run_that_was_resumed_after_it_was_listed_stays() -> None:
    path = store("outputs/taken", state="failed", exit_code=1)
    assert lost(entries())
    (path / "checkpoints" / "step-000000001").mkdir(parents=True)
    assert not remove(path)
    assert (path / "config.yaml").exists()


def test_a_run_that_has_only_begun_is_not_lost() -> None:
    path = store("outputs/new")
    (path / "status.json").unlink()
    assert not lost(entries())
    age(path)
    assert [run.path for run in lost(entries())] == [path]


def test_remnants_are_folders_that_no_run_came_to_be_in() -> None:
    for name, files in {
        "2026-01-02/empty": [],
        "2026-01-02/claimed": [".lock"],
        "2026-01-02/cut": [".lock", ".tmp-config.yaml"],
        "multirun/grid/1": [".hydra/overrides.yaml"],
        "2026-01-02/mine": [".lock", "thesis.txt"],
        "notes/deep": ["a.txt"],
        ".hidden": [],
    }.items():
        (Path("outputs") / name).mkdir(parents=True)
        for file in files:
            (Path("outputs") / name / file).parent.mkdir(exist_ok=True)
            (Path("outputs") / name / file).touch()
        age(Path("outputs") / name)
    run = store("outputs/thesis", state="running")
    age(run / ".hydra")
    (run / "checkpoints").mkdir()  # a part of a run, though empty
    age(run / "checkpoints")
    old, young = remnants()
    wanted = ["2026-01-02/claimed", "2026-01-02/cut", "2026-01-02/empty", "multirun/grid/1"]
    assert ([str(path.relative_to("outputs")) for path in old], young) == (wanted, [])
    assert all(remove(path) for path in old)
    assert contents(Path("outputs")) == {
        *("2026-01-02", "2026-01-02/mine", "2026-01-02/mine/.lock", "2026-01-02/mine/thesis.txt"),
        *("notes", "notes/deep", "notes/deep/a.txt", ".hidden", "thesis"),
        *(f"thesis/{name}" for name in contents(run)),
    }


def test_a_young_remnant_may_be_a_run_that_starts() -> None:
    path = Path("outputs/2026-01-02/10-00-00")
    path.mkdir(parents=True)
    assert remnants() == ([], [path])
    (path / "status.json").write_text('{"state": "failed"}')  # a sweep said how its job ended
    assert remnants() == ([path], [])


def test_links_are_neither_followed_nor_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "outputs").mkdir(parents=True)
    elsewhere = store(str(outside / "outputs" / "run"), state="failed", exit_code=1)
    (outside / "empty").mkdir()
    age(outside / "empty")
    Path("outputs").mkdir()
    Path("outputs/run").symlink_to(elsewhere)
    Path("outputs/day").symlink_to(outside / "outputs")
    Path("outputs/empty").symlink_to(outside / "empty")
    before = contents(tmp_path)
    assert [run.state for run in entries()] == ["failed", "failed"]  # seen by both ways
    assert not lost(entries()) and remnants() == ([], [])
    for path in ("outputs/run", "outputs/day/run", "outputs/empty"):
        assert not remove(Path(path))
    assert contents(tmp_path) == before


def test_a_link_inside_a_lost_run_goes_without_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("kept")
    path = store("outputs/run", state="failed", exit_code=1)
    (path / "data").symlink_to(tmp_path / "precious")
    (path / ".hydra" / "data").symlink_to(tmp_path / "precious")
    assert remove(path)
    assert not path.exists() and (tmp_path / "precious" / "file").read_text() == "kept"


def test_outputs_itself_may_lie_on_another_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    Path("outputs").symlink_to(tmp_path / "disk")
    path = store("outputs/2026-01-02/10-00-00", state="failed", exit_code=1)
    assert [run.path for run in lost(entries())] == [path]
    assert remove(path)
    assert contents(tmp_path / "disk") == set()
    assert Path("outputs").is_symlink()


def test_an_interrupted_removal_leaves_what_the_next_one_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    path = store("outputs/run", state="failed", exit_code=1)

    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remove(path)
    assert [run.path for run in lost(entries())] == [path]


def test_a_folder_that_cannot_be_removed_is_a_storage_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    path = store("outputs/run", state="failed", exit_code=1)

    def refused(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refused)
    with pytest.raises(StorageError, match="outputs/run: cannot be removed: Permission denied"):
        remove(path)
