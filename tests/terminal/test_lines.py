"""Nothing that is told moves the cursor, retitles the window or forges a line, wherever it comes from."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from trainrun.cli.main import main
from trainrun.session.exit_code import run_guarded
from trainrun.terminal.lines import say, show
from trainrun.vocabulary.errors import DataError, OutOfMemoryError, ResumeError

EVIL = "\x1b]0;title\x07\x1b[2J\nforged: all is well\u202e"
CLI = Path(__file__).resolve().parents[2] / "trainrun" / "cli"


def is_tame(text: str) -> bool:
    return text.replace("\n", "").isprintable() and not re.search("^forged", text, re.MULTILINE)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        [f"name={EVIL}"],
        [f"na{EVIL}me=3"],
        [f"optimizer.lr={EVIL}"],
        [f"optimizer={EVIL}"],
        [f"+{EVIL}"],
        [EVIL],
        [f"{EVIL}.yaml"],
        ["show", EVIL],
        ["resume", EVIL],
        ["eval", EVIL],
        ["data=csv", f"data.path={EVIL}", "data.target=y"],
        ["-m", f"optimizer.lr=0.1,{EVIL}"],
        [f"--{EVIL}"],
    ],
    ids=repr,
)
def test_a_word_of_the_shell(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) in (2, 4, 5)
    printed = capsys.readouterr()
    assert is_tame(printed.err) and printed.out == "" and printed.err


def test_an_exception_of_somebody_elses_code(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise RuntimeError(EVIL)

    assert run_guarded(fails, []) == 1
    printed = capsys.readouterr().err
    assert is_tame(printed) and "unexpected RuntimeError" in printed and "in fails" in printed


@pytest.mark.parametrize("kind", [DataError, ResumeError, OutOfMemoryError])
def test_an_error_is_its_lines(kind: type[DataError], capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise kind(f"first {EVIL}", "", "  second")

    assert run_guarded(fails, []) == kind.exit_code
    printed = capsys.readouterr().err
    assert is_tame(printed) and printed.splitlines()[1:] == ["", "  second"]


@pytest.mark.parametrize(
    "change",
    [
        ("name: null", 'name: "x\\e[2J\\nforged: y"'),
        ("resume: never", 'resume: never\n"k\\e[2J\\nforged: y": 5'),
        ("resume: never", 'resume: never\nk: "${oc.env:A\\e[2J\\nforged: y}"'),
        ("resume: never", 'resume: never\nk: "${x\\e[2J\\nforged: y}"'),
        ("resume: never", "resume: never\n\x1b[2J: 5"),
        ("_target_: trainrun.model.linear.Linear", '_target_: "my.x\\e[2J\\nforged: y"'),
    ],
    ids=lambda change: change[1],
)
@pytest.mark.parametrize("command", ["eval", "resume"])
def test_a_strangers_config(
    command: str, change: tuple[str, str], stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(stored, Path("run"))
    text = (run / "config.yaml").read_text()
    assert change[0] in text
    (run / "config.yaml").write_text(text.replace(*change, 1))
    assert main([command, "run"]) in (2, 5)
    assert is_tame(capsys.readouterr().err)


def test_a_strangers_status(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(stored, Path("outputs") / "run")
    status = json.loads((run / "status.json").read_text())
    changed = status | {"name": EVIL, "reason": EVIL, "state": "failed"}
    (run / "status.json").write_text(json.dumps(changed))
    assert main(["runs"]) == 0
    printed = capsys.readouterr()
    assert is_tame(printed.out) and is_tame(printed.err) and r"\x1b]0;title" in printed.out


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("stored") / "run"
    line = ["data=iris", "model=linear", "budget=1step", "logger=none", f"run_dir={run}", "-q"]
    assert main(line) == 0
    return run


def test_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    say("été", EVIL, "")
    say()
    show([EVIL], sys.stdout)
    printed = capsys.readouterr()
    assert (
        printed.err.splitlines()[::2] == ["été", ""]
        and is_tame(printed.err)
        and len(printed.err.splitlines()) == 4
    )
    assert is_tame(printed.out) and len(printed.out.splitlines()) == 1


def test_a_closed_stream_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    say("nobody hears")


def test_everything_that_is_told_goes_through_it() -> None:
    others = []
    for file in (file for file in CLI.rglob("*.py") if file.name != "terminal.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if given.get("file") == "sys.stderr" and "end" not in given:  # else a line that is replaced
                    others.append(f"{file.name}:{node.lineno}")
    assert not others
