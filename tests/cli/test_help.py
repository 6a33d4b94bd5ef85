"""`trainrun --help`: fast, complete, and its examples run."""

from __future__ import annotations

import shlex

import pytest
from imports import assert_light, run_counted

from trainrun.cli.help import EXAMPLES, _page
from trainrun.cli.main import main
from trainrun.config.check import check
from trainrun.config.commands import COMMANDS
from trainrun.config.compose.composer import Composer, parse_arguments
from trainrun.config.paths import CONF
from trainrun.config.top_level import NAMES


def test_help_imports_little() -> None:
    done = run_counted("--help")
    assert (done.code, done.err) == (0, "")
    assert_light(done, 140, ("torch", "hydra", "yaml"))  # 130 today, 33 of them Python's own at its start


@pytest.mark.parametrize("line", ["--help", "-h", "help", "-m --help", "budget=1ep -h"])
def test_help_goes_to_stdout(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 0
    out, err = capsys.readouterr()
    assert out.startswith("trainrun: ") and not err


def test_help_names_every_command_option_and_dial() -> None:
    text = "\n".join(_page())
    words = set(text.replace("=", " ").split())
    assert {*COMMANDS, *NAMES} <= words
    for file in CONF.glob("*/*.yaml"):
        if file.stem != "default" and file.parent.name != "hydra":
            assert {file.parent.name, file.stem} <= words


def test_help_is_plain_and_fits() -> None:
    for line in _page():
        assert line.isascii() and len(line) <= 110 and line == line.rstrip()


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_compose(line: str) -> None:
    arguments = parse_arguments(shlex.split(line)[1:])
    composer = Composer()
    compose = composer.compose_sweep if arguments.multirun else lambda words: [composer.compose(words)]
    for job in compose(arguments.overrides):
        assert not check(job.settings, job.explicit, job.choices)
