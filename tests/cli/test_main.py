"""The dispatch of the command line: which command a line means, and its exit code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import trainrun
from trainrun.cli import main as module
from trainrun.cli.arguments import ArgumentParser, ParserExitError
from trainrun.cli.main import main
from trainrun.config.commands import COMMANDS


@pytest.fixture
def dispatched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, list[str]]]:
    """What was run instead of the commands themselves."""
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COMP_LINE", raising=False)
    monkeypatch.setattr(module, "_run", lambda name, words: calls.append((name, words)) or 0)
    return calls


@pytest.mark.parametrize(
    ("words", "name", "rest"),
    [
        ([], "train", []),
        (["optimizer=sgd"], "train", ["optimizer=sgd"]),
        (["-m", "seed=1,2"], "train", ["-m", "seed=1,2"]),
        (["my.yaml", "seed=1"], "train", ["my.yaml", "seed=1"]),
        (["+x=1"], "train", ["+x=1"]),
        (["eval", "last"], "eval", ["last"]),
        (["find-lr", "--steps", "20"], "find-lr", ["--steps", "20"]),
        (["-q", "resume", "last"], "resume", ["last", "-q"]),
        (["-q", "seed=1"], "train", ["-q", "seed=1"]),
        (["help"], "help", []),
        (["seed=1", "--help"], "help", ["--help"]),
        (["runs", "--help"], "runs", ["--help"]),
        (["-sc", "install=bash"], "complete", ["-sc", "install=bash"]),
    ],
)
def test_a_line_means_a_command(
    words: list[str], name: str, rest: list[str], dispatched: list[tuple[str, list[str]]]
) -> None:
    assert main(words) == 0
    assert dispatched == [(name, rest)]


def test_every_command_has_its_module() -> None:
    folder = Path(module.__file__).parent
    for command in COMMANDS:
        name = {"eval": "evaluate"}.get(command, command.replace("-", "_"))
        assert (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file(), command


@pytest.mark.parametrize(
    ("word", "text"), [("evl", "no such command"), ("recipe", "there is a file of that name")]
)
def test_no_command_is_answered_with_what_was_meant(
    word: str, text: str, dispatched: list[tuple[str, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("recipe.yaml").write_text("seed: 1\n")
    assert main([word]) == 2
    out, err = capsys.readouterr()
    assert text in err and not out and not dispatched


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"trainrun {trainrun.__version__}\n"


@pytest.mark.parametrize(("words", "code"), [(["runs", "--nothing"], 2), (["runs", "--help"], 0)])
def test_words_that_a_parser_answers_end_in_its_code(
    words: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    assert main(words) == code


def test_a_parser_does_not_end_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ParserExitError) as caught:
        ArgumentParser(prog="trainrun x").error("what is wrong")
    assert caught.value.code == 2
    assert "trainrun x: error: what is wrong" in capsys.readouterr().err
