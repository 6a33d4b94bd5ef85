"""`trainrun new`: the folder it writes is the guide page's, and nothing of the user's is touched."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from imports import run_counted

from trainrun.cli.guide.pages import files_of, read
from trainrun.cli.main import main

FILES = {
    *("README.md", "my_model.py", "my_data.py", "test_project.py", "pytest.ini"),
    *("conf/model/net.yaml", "conf/data/rings.yaml", "conf/experiment/first.yaml"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _written(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["my_project", "two words", "a/b", "./c/"])
def test_the_files_are_those_of_the_page(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", name]) == 0
    out, err = capsys.readouterr()
    assert Path(out.strip()) == Path(name)
    assert re.search(r"  cd (.*)\n  trainrun experiment=first budget=2ep\n  pytest\n", err)
    assert _written(folder / name) == FILES == set(files_of("new"))
    assert (folder / name / "README.md").read_text().startswith(f"# {Path(name).name}\n\n")
    page = {line.strip() for block in read("new") for line in block.text.split("\n")}
    for file in FILES - {"README.md"}:
        assert {line.strip() for line in (folder / name / file).read_text().splitlines()} <= page | {""}


def test_an_empty_folder_is_filled_and_a_used_one_left_as_it_was(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty").mkdir()
    assert main(["new", "empty"]) == 0
    before = {name: (folder / "empty" / name).read_bytes() for name in FILES}
    (folder / "empty" / "my_model.py").write_text("# mine")
    assert main(["new", "empty"]) == 2
    assert "FOLDER: must be new or empty, got empty" in capsys.readouterr().err
    before["my_model.py"] = b"# mine"
    assert {name: (folder / "empty" / name).read_bytes() for name in FILES} == before


@pytest.mark.parametrize(
    "words", [["file"], ["link"], ["file/below"], ["a" * 300], [], ["a", "b"], ["--force", "a"], [""]]
)
def test_what_is_no_folder_to_write_is_refused(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "file").write_text("mine")
    (folder / "link").symlink_to("nowhere")
    assert main(["new", *words]) == 2
    out, err = capsys.readouterr()
    assert not out and err and "Traceback" not in err
    assert _written(folder) == {"file"}


def test_it_imports_neither_torch_nor_hydra() -> None:
    done = run_counted("new", "my_project")
    assert done.code == 0
    assert not done.modules & {"torch", "hydra", "yaml"}


def test_the_projects_code_passes_the_linters(folder: Path) -> None:
    main(["new", "project"])
    for check in (["check", "--select", "E,F,I,B,UP,D205,RUF"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *check, "--isolated", "--line-length", "110"]
        done = subprocess.run(command, capture_output=True, text=True, cwd="project")
        assert done.returncode == 0, done.stdout
