"""Where several runs have one name, it is said which one is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainrun.session.find_run import find_run, say_what_name_means


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["demo", "demo", "other", "demo"]):
        folder = Path(f"outputs/2026-01-02/{number}")
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
        (folder / "status.json").write_text(json.dumps({"started": number + 1, "name": name}))


def test_the_newest_of_several_is_taken_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert find_run("demo") == Path("outputs/2026-01-02/3")
    assert capsys.readouterr() == ("", "demo: outputs/2026-01-02/3, the newest of 3 runs with that name\n")


@pytest.mark.parametrize("run", ["other", "last", "outputs/2026-01-02/1"])
def test_one_that_is_meant_alone_needs_no_word(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    find_run(run)
    assert capsys.readouterr() == ("", "")


def test_a_name_that_is_taken_is_said_and_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    say_what_name_means("demo", None)
    line = "name: demo is also the name of outputs/2026-01-02/3; from now on it means this run\n"
    assert capsys.readouterr() == ("", line)
    say_what_name_means("new", "outputs/new")
    say_what_name_means(None, "elsewhere")
    assert capsys.readouterr() == ("", "")


def test_a_name_of_a_run_elsewhere_finds_nothing_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    say_what_name_means("demo", "runs/demo")
    assert "this one is found by its path, runs/demo" in capsys.readouterr().err
