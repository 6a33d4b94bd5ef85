"""The suggestion in units of optimizer.lr: the schedule that it makes reaches it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainrun.assembly.build import build
from trainrun.config.compose.composer import Composer
from trainrun.tune.lr_search import search_lr, with_setting

WORDS = ("data=wine", "runtime.threads=1", "budget=20ep", "init=auto")


@pytest.mark.parametrize(
    "words", [(), ("scheduler=noam",), ("optimizer=sgd", "optimizer.lr_scaling=linear", "batch_size=64")]
)
def test_with_the_setting_the_runs_largest_rate_is_the_suggestion(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    composer = Composer()
    passed: list[float] = []

    def follow(points):
        for point in points:
            passed.append(point.lr)
            yield point

    test = search_lr(build(composer.checked([*WORDS, *words]).settings), 1e-5, 10, 60, follow)
    assert list(test.curve.lr) == passed and passed[0] == pytest.approx(1e-5)
    assert (test.setting is None) is (test.verdict.suggestion is None)
    assert test.setting is not None and test.verdict.suggestion
    parts = build(composer.checked(with_setting([*WORDS, *words], test.setting)).settings)
    largest = max(
        parts.rates.lr * parts.state.schedule(update)[0] for update in range(parts.state.total_steps)
    )
    assert largest == pytest.approx(test.verdict.suggestion, rel=0.06)  # two digits of the setting


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["data=wine"], ["data=wine", "optimizer.lr=0.1"]),
        (["optimizer.lr=3", "seed=1"], ["seed=1", "optimizer.lr=0.1"]),
        (["+optimizer.lr=3"], ["+optimizer.lr=0.1"]),
    ],
)
def test_a_rate_that_was_typed_is_replaced(overrides: list[str], line: list[str]) -> None:
    assert with_setting(overrides, "0.1") == line
