"""The commands at a run's end are about splits that it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainrun.session.session import Result
from trainrun.session.summary import print_summary

PARTS = {"steps": 0.75, "data": 0.0, "evaluation": 0.25}


@pytest.mark.parametrize(
    ("splits", "said"),
    [(("val", "test"), ["--split val"]), (("test",), ["--split test"]), ((), [])],
)
def test_the_split_to_evaluate_is_one_there_is(
    splits: tuple[str, ...], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = {split: {"loss": 0.5} for split in splits}
    ended = (0, "completed", "budget", 20, 0.5, 1.0)
    result = Result(Path("outputs/a b"), *ended, metrics, "kept the weights", PARTS, "memory: 5 MB")
    print_summary(result, "2ep", quiet=False)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if " eval " in line] == [
        f"  trainrun eval 'outputs/a b' {arguments}" for arguments in said
    ]
    at = lines.index("time: 75% steps, 25% evaluation")
    assert lines[at + 1] == "memory: 5 MB"
    assert "  trainrun resume 'outputs/a b' budget=4ep" in lines
    assert "  trainrun doctor 'outputs/a b'" in lines


@pytest.mark.parametrize(
    ("folder", "logdir"), [("outputs/2026-01-02/03-04-05", "outputs"), ("my runs/é", "'my runs/é'")]
)
def test_the_curves_are_looked_for_where_they_are(
    folder: str, logdir: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = Result(Path(folder), 0, "completed", "budget", 20, 0.5, 1.0, {}, "kept the weights", PARTS)
    print_summary(result, "2ep", quiet=False)
    assert f"\n  tensorboard --logdir {logdir}\n" in capsys.readouterr().err
