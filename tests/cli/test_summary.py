"""The closing lines of a sweep against figures computed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainrun.cli.summary import Job, summary


def job(folder: Path, words: str, **status: Any) -> Job:
    folder.mkdir()
    (folder / "status.json").write_text(json.dumps(status))
    return Job(tuple(words.split()), folder)


def done(folder: Path, words: str, accuracy: float, **more: Any) -> Job:
    best = {"step": 1, "metrics": {"loss": 9.0, "accuracy": accuracy}}
    return job(folder, words, state="completed", exit_code=0, monitor="val/accuracy", best=best, **more)


def test_every_job_repeats_what_it_swept_and_seeds_are_averaged(tmp_path: Path) -> None:
    figures = {("sgd", 0): 0.5, ("sgd", 1): 0.7, ("adam", 0): 0.9, ("adam", 1): 0.9}
    jobs = [
        done(tmp_path / f"{name}{seed}", f"budget=1ep optimizer={name} seed={seed}", value)
        for (name, seed), value in figures.items()
    ]
    lines, code = summary(jobs)
    assert code == 0
    assert [line.split() for line in lines[:4]] == [
        [str(n), "completed", "best", "val/accuracy", f"{value:.4f}", f"optimizer={name}", f"seed={seed}"]
        + [str(tmp_path / f"{name}{seed}")]
        for n, ((name, seed), value) in enumerate(figures.items(), 1)
    ]
    assert len({line.index(str(tmp_path)) for line in lines[:4]}) == 1  # folders in a column
    assert lines[4:] == [
        "",
        "optimizer=sgd val/accuracy 0.6000 +/- 0.1414 over 2 seeds",  # 0.2 / sqrt 2
        "optimizer=adam val/accuracy 0.9000 +/- 0.0000 over 2 seeds",
    ]


def test_without_a_swept_seed_there_is_no_average(tmp_path: Path) -> None:
    jobs = [done(tmp_path / name, f"seed=3 optimizer={name}", 0.5) for name in ("a", "b")]
    assert len(summary(jobs)[0]) == 2


def test_a_seed_alone_needs_no_name(tmp_path: Path) -> None:
    jobs = [done(tmp_path / str(seed), f"seed={seed}", value) for seed, value in enumerate((1.0, 2.0, 3.0))]
    assert summary(jobs)[0][-1] == "val/accuracy 2.0000 +/- 1.0000 over 3 seeds"


def test_folds_are_averaged_with_the_split_that_judges(tmp_path: Path) -> None:
    figures = {0: (0.5, 0.2), 1: (0.7, 0.6)}
    jobs = [
        done(
            tmp_path / f"{fold}{seed}",
            f"data.fold={fold} seed={seed}",
            val,
            test={"loss": 2.0, "accuracy": test},
        )
        for fold, (val, test) in figures.items()
        for seed in (0, 1)
    ]
    assert summary(jobs)[0][-2:] == [
        "val/accuracy 0.6000 +/- 0.1155 over 2 seeds and 2 folds",  # 0.2 / sqrt 3
        "test/loss 2.0000 +/- 0.0000 test/accuracy 0.4000 +/- 0.2309 over 2 seeds and 2 folds",
    ]


def test_what_failed_is_told_not_averaged_and_gives_the_exit_code(tmp_path: Path) -> None:
    jobs = [
        done(tmp_path / "a", "seed=0", 0.5),
        job(tmp_path / "b", "seed=1", state="failed", exit_code=7, reason="the gradient norm is inf"),
        job(tmp_path / "c", "seed=2", state="failed", exit_code=4, reason="later"),
        Job(("seed=3",), tmp_path / "never"),
    ]
    lines, code = summary(jobs)
    assert code == 7
    assert "failed" in lines[1] and "the gradient norm is inf" in lines[1]
    assert "failed" in lines[3]
    assert len(lines) == 4


@pytest.mark.parametrize("best", [None, {}, {"metrics": {"accuracy": None}}, {"metrics": {}}])
def test_a_status_without_a_figure_is_no_error(tmp_path: Path, best: Any) -> None:
    lines, code = summary([job(tmp_path / "a", "", state="interrupted", exit_code=143, best=best)])
    assert code == 143 and "interrupted" in lines[0]


def test_an_empty_sweep_has_no_lines() -> None:
    assert summary([]) == ([], 0)
