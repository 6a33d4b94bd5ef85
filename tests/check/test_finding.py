"""The user's own words with every mend in its place."""

from __future__ import annotations

import pytest

from trainrun.check.finding import CheckResult, command_with_fixes, with_fixes
from trainrun.config.compose.composer import Composer


def result(*fix: str) -> CheckResult:
    return CheckResult("a", "b", "c", fix)


@pytest.mark.parametrize(
    ("words", "fixes", "line"),
    [
        (["optimizer.lr=2", "seed=1"], [("optimizer.lr=0.002",)], ["optimizer.lr=0.002", "seed=1"]),
        (["seed=1"], [("init=auto",)], ["seed=1", "init=auto"]),
        (["init=normal", "init.std=9"], [("init=auto",)], ["init=auto"]),
        (["+data.limit=2"], [("data.limit=null",)], ["data.limit=null"]),
        (["seed=1"], [("batch_size=32",), ("batch_size=33", "init=auto")], ["seed=1", "init=auto"]),
        (["init=zeros"], [("init=auto",), ("init=auto",)], ["init=auto"]),
        (["seed=1"], [()], ["seed=1"]),
    ],
)
def test_mends_take_the_place_of_what_they_replace(
    words: list[str], fixes: list[tuple[str, ...]], line: list[str]
) -> None:
    assert with_fixes(words, [result(*fix) for fix in fixes]) == line


def test_a_command_with_fixes_is_one_that_composes() -> None:
    composer = Composer()
    assert command_with_fixes(composer, ["seed=1"], []) is None
    fixed = command_with_fixes(composer, ["optimizer.lr=9"], [result("optimizer.lr=0.01")])
    assert fixed == "trainrun check optimizer.lr=0.01"
    assert command_with_fixes(composer, ["seed=1"], [result("model.nothing=1")]) is None
