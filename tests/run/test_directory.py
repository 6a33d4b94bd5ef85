"""Folders are claimed by one run each, and found by path, prefix, name or `last`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest

from trainrun.run.directory import claim, find_run, look_up, short
from trainrun.run.directory import runs as all_runs
from trainrun.vocabulary.errors import ConfigError, FolderBusyError, ResumeError, StorageError


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_eight_starts_at_once_get_eight_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda form: {"%Y-%m-%d": "2026-01-02"}.get(form, "03-04-05"))
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda _: claim(None), range(8)))
    folders = [folder for folder, _ in claims]
    assert len(set(folders)) == 8
    assert {folder.name for folder in folders} == {"03-04-05", *(f"03-04-05-{n}" for n in range(2, 9))}
    assert all(
        folder.is_dir() and [entry.name for entry in folder.iterdir()] == [".lock"] for folder in folders
    )


def test_processes_do_not_share_a_folder_either() -> None:
    code = "from trainrun.run.directory import claim; print(claim(None)[0])"
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    folders = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert len(set(folders)) == 8
    assert all(re.fullmatch(r"outputs/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d(-\d)?", folder) for folder in folders)


def test_a_named_folder_goes_to_one_of_many() -> None:
    def attempt(_: int) -> str:
        try:
            return str(owned(claim("mine")))
        except FolderBusyError:
            return "busy"

    owners: list[IO[str]] = []

    def owned(claimed: tuple[Path, IO[str]]) -> Path:
        owners.append(claimed[1])
        return claimed[0]

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(attempt, range(8))) == ["busy"] * 7 + ["mine"]


def test_a_named_folder_may_lie_anywhere_and_be_there_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert claim("empty")[0] == Path("empty")
    assert claim("a/b/c")[0].is_dir()


def test_what_a_start_that_died_left_behind_is_no_run() -> None:
    folder, owner = claim("died")
    (folder / ".tmp-config.yaml-123").touch()
    with pytest.raises(FolderBusyError, match="in use by process"):
        claim("died")
    owner.close()  # as the system does for a process that is killed
    assert claim("died")[0] == folder


def test_a_used_folder_is_refused_with_what_to_do() -> None:
    Path("used").mkdir()
    Path("used/config.yaml").touch()
    with pytest.raises(FolderBusyError, match="holds a run already; continue it with trainrun resume used"):
        claim("used")
    Path("full").mkdir()
    Path("full/thesis.txt").touch()
    with pytest.raises(FolderBusyError, match="not empty"):
        claim("full")
    Path("file").touch()
    with pytest.raises(FolderBusyError, match="is a file"):
        claim("file")
    assert [path.name for path in Path("full").iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_made_is_a_storage_failure() -> None:
    Path("outputs").touch()
    with pytest.raises(StorageError, match="cannot create outputs"):
        claim(None)


def run(path: str, started: float, name: str | None = None) -> Path:
    folder = Path(path)
    folder.mkdir(parents=True)
    (folder / "config.yaml").touch()
    (folder / "status.json").write_text(json.dumps({"started": started, "name": name}))
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").touch()  # Hydra's record, and no run
    return folder


@pytest.fixture
def runs() -> dict[str, Path]:
    return {
        "first": run("outputs/2026-01-02/10-00-00", 1.0, "demo"),
        "second": run("outputs/2026-01-02/10-00-00-2", 2.0, "demo"),
        "third": run("outputs/2026-01-03/11-00-00", 4.0, "other"),
        "job": run("outputs/multirun/grid/abc123", 3.0),
        "typed": run("outputs/thesis", 0.5),
        "outside": run("elsewhere/mine", 9.0, "hidden"),
    }


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("outputs/2026-01-02/10-00-00", "first"),  # a path
        ("elsewhere/mine", "outside"),
        ("last", "third"),  # the latest start below outputs/
        ("demo", "second"),  # of two with one name the newest
        ("other", "third"),
        ("2026-01-03", "third"),  # the beginning of a path
        ("outputs/2026-01-03/11", "third"),
        ("2026-01-02/10-00-00", "first"),  # a whole path, though it also begins another
        ("2026-01-02/10-00-00-", "second"),
        ("multirun/grid/a", "job"),
        ("grid/abc123", "job"),  # a sweep's job as the table shows it
        ("grid/", "job"),
        ("thesis", "typed"),
        ("thes", "typed"),
    ],
)
def test_a_run_is_found(runs: dict[str, Path], typed: str, meant: str) -> None:
    assert find_run(typed) == runs[meant]


def test_an_absolute_path_is_found(runs: dict[str, Path], tmp_path: Path) -> None:
    assert find_run(str(tmp_path / "elsewhere" / "mine")) == tmp_path / "elsewhere" / "mine"


def test_a_beginning_of_several_names_them(runs: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"2026-01 begins the path of 3 runs: .*10-00-00-2") as caught:
        find_run("2026-01")
    assert caught.value.exit_code == 2


def test_a_run_that_is_not_there_names_the_newest(runs: dict[str, Path]) -> None:
    with pytest.raises(ResumeError, match=r"no run is called nope; the newest: .*2026-01-03/11-00-00"):
        find_run("nope")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("dmeo", "demo"),
        ("othr", "other"),
        ("2026-01-03/11-00-0l", "2026-01-03/11-00-00"),
        ("outputs/theses", "thesis"),
    ],
)
def test_a_misspelt_run_names_the_nearest(runs: dict[str, Path], typed: str, meant: str) -> None:
    with pytest.raises(ResumeError, match=f"no run is called {typed}; did you mean {meant}\\?"):
        find_run(typed)
    find_run(meant)


def test_how_many_others_share_the_name_is_told(runs: dict[str, Path]) -> None:
    assert look_up("demo") == (runs["second"], 1)
    assert look_up("other") == (runs["third"], 0)
    assert look_up("last") == (runs["third"], 0)
    assert look_up("outputs/2026-01-02/10-00-00") == (runs["first"], 0)


def test_runs_are_those_below_outputs_by_start(runs: dict[str, Path]) -> None:
    below = [path for path in runs.values() if path.parts[0] == "outputs"]
    started = {path: json.loads((path / "status.json").read_text())["started"] for path in below}
    assert list(all_runs()) == sorted(below, key=lambda path: started[path])
    assert all_runs()[runs["second"]] == "demo"


@pytest.mark.parametrize("started", ["null", '"soon"', "NaN", "Infinity", "1" + "0" * 400, "true", "[]"])
def test_a_start_that_is_no_time_sorts_first(runs: dict[str, Path], started: str) -> None:
    (runs["third"] / "status.json").write_text(f'{{"started": {started}, "name": ["x"]}}')
    assert list(all_runs())[-1] == runs["job"]


def test_a_whole_path_wins_over_a_sweeps_shortened_one(runs: dict[str, Path]) -> None:
    plain = run("outputs/grid/abc123", 0.1)
    assert short(plain) == short(runs["job"]) == "grid/abc123"
    assert find_run("grid/abc123") == plain


def test_before_the_first_run_it_is_said_how_to_start_one() -> None:
    with pytest.raises(ResumeError, match="no run in outputs/ yet; start one with trainrun"):
        find_run("last")


def test_damaged_status_files_hide_no_run(runs: dict[str, Path]) -> None:
    (runs["third"] / "status.json").write_text("{")
    assert find_run("2026-01-03") == runs["third"]
    assert find_run("last") == runs["job"]
