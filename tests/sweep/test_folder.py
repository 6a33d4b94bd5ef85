"""Stored sweeps are found as runs are, and a damaged record is refused whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import sweeps as by_hand

from trainrun.sweep.folder import PLACE, find_sweep, read, sweeps
from trainrun.vocabulary.errors import ConfigError, ResumeError


@pytest.fixture(autouse=True)
def _three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three sweeps and a folder without a record; rates was recorded last."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("width", "widths", "rates")):
        folder = by_hand.store(PLACE / name, by_hand.record([by_hand.job(1, {"seed": 0}, 0.5)]))
        os.utime(folder / "sweep.json", (1000 + number, 1000 + number))
    (PLACE / "older").mkdir()


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("last", "rates"),
        ("ra", "rates"),
        ("width", "width"),
        ("outputs/multirun/widths", "widths"),
        ("outputs/multirun/widths/", "widths"),
        ("outputs/multirun/rates/sweep.json", "rates"),
    ],
)
def test_a_sweep_is_found_by_path_name_beginning_or_as_the_last(word: str, name: str) -> None:
    assert find_sweep(word) == PLACE / name


def test_those_that_have_a_record_are_listed_the_last_recorded_at_the_end() -> None:
    assert [folder.name for folder in sweeps()] == ["width", "widths", "rates"]
    os.utime(PLACE / "width" / "sweep.json", (2000, 2000))
    assert find_sweep("last").name == "width"


@pytest.mark.parametrize(
    ("word", "error", "text"),
    [
        ("wi", ConfigError, "begins the name of 2 sweeps"),
        ("rats", ResumeError, "did you mean rates?"),
        ("x", ResumeError, "the newest: outputs/multirun/width, "),
        ("older", ResumeError, "older has no sweep.json"),
    ],
)
def test_what_is_not_found_is_answered_with_what_there_is(
    word: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        find_sweep(word)
    assert text in str(caught.value) and str(caught.value).startswith("SWEEP: ")


def test_where_no_sweep_is_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path / "outputs")
    with pytest.raises(ResumeError, match="there is no sweep in outputs/multirun/ yet"):
        find_sweep("last")


def test_a_record_is_read_whole(tmp_path: Path) -> None:
    jobs = [
        by_hand.job(number, {"optimizer.lr": 0.1, "seed": number}, 0.5 + number / 4) for number in range(2)
    ]
    jobs.append(by_hand.job(2, {"optimizer.lr": 1.0, "seed": 0}, None, "failed"))
    best = {"key": jobs[1]["key"], "folder": "b", "value": 0.75, "command": "trainrun seed=1"}
    sweep = by_hand.sweep_of(tmp_path / "a", jobs, best=best)
    assert (sweep.path, sweep.monitor, sweep.mode, sweep.sweeper) == (
        tmp_path / "a",
        "val/accuracy",
        "max",
        "basic",
    )
    assert [job.value for job in sweep.jobs] == [0.5, 0.75, None]
    assert [job.is_completed for job in sweep.jobs] == [True, True, False]
    assert sweep.jobs[1].swept == {"optimizer.lr": 0.1, "seed": 1}
    assert sweep.jobs[0].test == {"accuracy": 0.5}
    first, last = sweep.settings
    assert (first.swept, first.mean, first.count) == ({"optimizer.lr": 0.1}, 0.625, 2)
    assert first.std == pytest.approx(0.25 / 2**0.5)
    assert (last.mean, last.std, last.jobs) == (None, None, (jobs[2]["key"],))
    assert sweep.best is not None and sweep.best.command == "trainrun seed=1"


def test_numbers_that_are_not_finite_are_none_and_texts_are_one_printable_line(tmp_path: Path) -> None:
    damaged = by_hand.job(1, {"a\x1b[2Jb\nc": 1}, float("nan")) | {"seconds": float("inf"), "step": 10**400}
    (job,) = by_hand.sweep_of(tmp_path / "a", [damaged]).jobs
    assert (job.value, job.seconds, job.step) == (None, None, None)
    assert list(job.swept) == ["a\\x1b[2Jb"]


def _changed(**more: Any) -> str:
    content = by_hand.record([by_hand.job(1, {"seed": 0}, 0.5)])
    return json.dumps(content | {"jobs": [job | more for job in content["jobs"]]})


DAMAGED = {
    "nothing": "",
    "half": _changed()[:100],
    "a list": "[]",
    "deep": "[" * 100_000,
    "deep value": '{"mode": "max", "jobs": ' + "[" * 900 + "]" * 900 + "}",
    "no mode": json.dumps({"jobs": [], "settings": []}),
    "no jobs": json.dumps({"mode": "max", "settings": []}),
    "a text for a number": _changed(value="0.5"),
    "true for a number": _changed(value=True),
    "no swept": _changed(swept=None),
    "a folder elsewhere": _changed(folder="../../etc"),
    "a whole path": _changed(folder="/etc"),
    "no folder": _changed(folder=".."),
    "a job that is not there": json.dumps(
        by_hand.record([by_hand.job(1, {}, 0.5)]) | {"jobs": [by_hand.job(2, {}, 0.5)]}
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(DAMAGED[name])
    with pytest.raises(ResumeError) as caught:
        read(tmp_path)
    assert "is damaged: " in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_bytes_that_are_no_text_and_a_file_too_large_are_refused(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ResumeError, match="is damaged"):
        read(tmp_path)
    with (tmp_path / "sweep.json").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ResumeError, match="larger than a sweep's record can be"):
        read(tmp_path)
