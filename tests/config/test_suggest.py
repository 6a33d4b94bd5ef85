"""Values come back unchanged through Hydra's parser and through both shells; corrected lines are whole."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from trainrun.config.suggest import corrected_line, did_you_mean, hydra_value, nearest, together
from trainrun.vocabulary.errors import Problem

VALUES: list[Any] = [
    *(
        "a",
        "/a b/c",
        "it's",
        "a,b",
        "a=b",
        "x:y",
        "10ep",
        "5%",
        "1e-3",
        "12",
        "true",
        "null",
        "",
        "a\\",
        "no",
    ),
    *(
        "a\\'b",
        "[x]",
        "{a}",
        "#1",
        "~/d",
        "0x1",
        "interval(1,2)",
        "  lead",
        "-1",
        "nan",
        "10 ep",
        "a\nb",
        '"q"',
    ),
    *("2026-11-21", "/a/2026-11-21/12-00-00", "$HOME", "`id`", "a;b", "a&b", "*", "!x", "a\tb", "\\", "''"),
    *(1e-3, 1e-8, 12, -3, 0.5, True, False, None, 2**63 - 1),
    *([1, "a,b"], [0.5, 0.999], [], ["50%", "75%"], [[1], [2]]),
    *({"norm": 1.0}, {"head*": {"init": "xavier_uniform"}}, {"a": [1, "it's"], "b": None}, {}),
]


def parsed(text: str) -> Any:
    return OverridesParser.create().parse_override(text).value()


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_hydra_reads_a_value_back_unchanged(value: Any) -> None:
    back = parsed(f"key={hydra_value(value)}")
    assert back == value
    assert type(back) is type(value)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="ascii", min_codepoint=32), max_size=12))
def test_hydra_reads_any_printable_text_back(text: str) -> None:
    if "${" not in text:  # a reference, which is Hydra's to resolve
        assert parsed(f"key={hydra_value(text)}") == text


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_an_override_can_be_pasted_into_a_shell(shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell} here")
    words = [shlex.quote(f"some.key={hydra_value(value)}") for value in VALUES]
    command = [shell, *(["-f"] if shell == "zsh" else ["--norc"]), "-c", "printf '%s\\0' " + " ".join(words)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    back = [parsed(word) for word in printed.split("\0")[:-1]]
    assert back == VALUES


@pytest.mark.parametrize(
    ("word", "words", "near"),
    [
        ("adamww", ["adam", "adamw", "sgd"], "adamw"),
        ("AdamW", ["adam", "adamw"], "adamw"),
        ("learningrate", ["learning_rate", "lr"], "learning_rate"),
        ("xyz", ["adam", "sgd"], None),
        ("a", [], None),
    ],
)
def test_nearest_names_the_most_alike_or_none(word: str, words: list[str], near: str | None) -> None:
    assert nearest(word, words) == near
    assert did_you_mean(word, words) == (f"; did you mean {near}?" if near else "")


LINES = [
    (["lr=1"], [Problem("lr", "", "optimizer.lr=1")], "trainrun optimizer.lr=1"),
    (["-m", "+lr=1", "a=2"], [Problem("lr", "", "b=1")], "trainrun -m b=1 a=2"),
    (["a=1"], [Problem("b", "", "b=[x,y]")], "trainrun a=1 'b=[x,y]'"),  # added where no word has the key
    (["lr=1", "lr=2"], [Problem("lr", "", "b=2")], "trainrun b=2"),
    (["lr=1"], [Problem("lr", "", "b=1"), Problem("c", "no fix")], None),
    (["x=1", "y=1"], [Problem("x", "", "g=[a]"), Problem("y", "", "g=[b]")], None),  # one would win silently
    (["ckpt=x"], [Problem("ckpt", "", "trainrun resume x")], "trainrun resume x"),
    (["a=1"], [], None),
]


@pytest.mark.parametrize(("words", "problems", "line"), LINES)
def test_the_corrected_line_is_whole_and_quoted(
    words: list[str], problems: list[Problem], line: str | None
) -> None:
    assert corrected_line(words, problems) == line


def test_the_corrected_line_keeps_its_command() -> None:
    line = corrected_line(["my run", "lr=1"], [Problem("lr", "", "b=1")], "trainrun resume")
    assert line is not None
    assert shlex.split(line) == ["trainrun", "resume", "my run", "b=1"]


def test_jobs_with_the_same_problem_tell_it_once_and_keep_every_value() -> None:
    first, second = Problem("lr", "is x", "x=1"), Problem("lr", "is x", "x=2")
    assert together([[first], [second]]) == [Problem("lr", "is x", "x=1,2")]
    assert together([[first], [first]]) == [first]


def test_a_fix_that_would_break_another_job_is_left_out() -> None:
    problem = Problem("loss", "does not fit", "loss=mse")
    assert together([[problem], []]) == [Problem("loss", "does not fit", None)]
