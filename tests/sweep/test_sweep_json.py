"""What sweep.json holds of a running sweep, read back, and which stored words are trusted."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainrun.config.space import Point
from trainrun.sweep.closing import close_sweep
from trainrun.sweep.folder import SweptJob, read
from trainrun.sweep.job import STOP
from trainrun.sweep.sweep_json import (
    RunningSweep,
    is_trusted,
    ranked,
    write_sweep_json,
)
from trainrun.vocabulary.errors import StorageError

TYPED = ["-m", "data=iris", "optimizer.lr=0.1,0.2", "seed=0,1", "sweep.retries=1", "name=mine"]


def running(folder: Path, typed: list[str] | None = None, quiet: bool = False) -> RunningSweep:
    search = SimpleNamespace(name="basic", monitor="val/accuracy", maximize=True)
    sweep = RunningSweep(None, folder, TYPED if typed is None else typed, {"ranks": 1}, search, quiet, {})  # type: ignore[arg-type]
    for number, (lr, seed) in enumerate([(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]):
        words = (f"optimizer.lr={lr}", f"seed={seed}")
        job: Any = SimpleNamespace(overrides=["data=iris", *words, "sweep.retries=1"])
        sweep.planned[f"key{number}"] = (Point(words), job)
    return sweep


def end(folder: Path, number: int, value: float | None, state: str = "completed", **more: Any) -> None:
    (folder / f"key{number}").mkdir(parents=True, exist_ok=True)
    status = {"state": state, "monitor": "val/accuracy", "step": 40, "seconds": 1.5} | more
    status |= {"best": {"step": 40, "metrics": {"accuracy": value}}}
    (folder / f"key{number}/status.json").write_text(json.dumps(status))


@pytest.fixture
def sweep(tmp_path: Path) -> RunningSweep:
    """Three jobs of four are completed."""
    for number, value in enumerate([0.5, 0.7, 0.9]):
        end(tmp_path, number, value, reason="budget", exit_code=0, test={"accuracy": value - 0.25})
    return running(tmp_path)


def test_what_is_written_is_what_is_read(sweep: RunningSweep) -> None:
    write_sweep_json(sweep, "running")
    stored = read(sweep.folder)
    assert (stored.state, stored.mode, stored.monitor, stored.words) == (
        "running",
        "max",
        "val/accuracy",
        tuple(TYPED),
    )
    assert [job.state for job in stored.jobs] == ["completed"] * 3 + ["pending"]
    assert stored.jobs[0].swept == {"optimizer.lr": 0.1, "seed": 0}
    assert stored.jobs[0].overrides == ("data=iris", "optimizer.lr=0.1", "seed=0")  # nothing of the sweep
    assert [(setting.swept, setting.mean) for setting in stored.settings] == [
        ({"optimizer.lr": 0.2}, 0.9),
        ({"optimizer.lr": 0.1}, pytest.approx(0.6)),
    ]
    assert stored.best is not None
    assert (stored.best.key, stored.best.value) == ("key2", 0.9)
    assert stored.best.command == "trainrun data=iris optimizer.lr=0.2 seed=0"


def test_before_any_job_has_ended_there_is_no_best(tmp_path: Path) -> None:
    write_sweep_json(running(tmp_path), "running")
    assert read(tmp_path).best is None


def test_a_disk_that_takes_nothing_is_a_storage_failure(
    sweep: RunningSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match=r"sweep\.json: cannot be written: No space left"):
        write_sweep_json(sweep, "running")


@pytest.mark.parametrize(
    "word",
    [
        *("-m", "--multirun", "optimizer.lr=0.1,0.2", "hydra/sweeper=optuna", "hydra.sweeper.seed=3"),
        *("hydra/launcher=joblib", "hydra.launcher.n_jobs=4", "+model.x=1"),
    ],
)
def test_words_of_a_sweep_are_trusted(word: str) -> None:
    assert is_trusted(word)


@pytest.mark.parametrize(
    "word",
    [
        *("--config-dir", "--config-dir=x", "-cd", "runtime.trust=[os]", "+runtime.trust=[os]"),
        *("hydra.launcher.setup=[rm]", "hydra.launcher.n_jobs=-1", "hydra.searchpath=[x]", "hydra.run.dir=x"),
        "hydra/job_logging=x",
    ],
)
def test_words_that_run_or_name_code_are_not(word: str) -> None:
    assert not is_trusted(word)


# The ranking


def entry(number: int, value: float | None, state: str = "completed", **swept: Any) -> SweptJob:
    swept = {key.replace("_", "."): value for key, value in swept.items()}
    key = f"key{number}"
    return SweptJob(key, number, key, (), swept, state, value, 40, 1.5, 0, "", {})


JOBS = [
    entry(1, 0.5, lr=0.1, seed=0),
    entry(2, 0.7, lr=0.1, seed=1),
    entry(3, 0.9, lr=0.2, seed=0),
    entry(4, 0.8, lr=0.2, seed=1),
    entry(5, 0.99, "interrupted", lr=0.2, seed=2),
    entry(6, None, "failed", lr=0.3, seed=0),
]


def test_seeds_are_replicates_of_one_setting() -> None:
    best, second, none = ranked(JOBS, maximize=True)
    assert (best.swept, best.values) == ({"lr": 0.2}, (0.9, 0.8))  # what did not come to its end is no value
    assert abs(best.mean - 0.85) < 1e-12 and abs(best.std - 0.1 / 2**0.5) < 1e-12  # type: ignore[operator]
    assert abs(second.mean - 0.6) < 1e-12  # type: ignore[operator]
    assert (none.swept, none.mean, none.std) == ({"lr": 0.3}, None, None)
    assert best.jobs == ("key3", "key4", "key5") and best.count == 2


def test_less_is_better_where_it_is() -> None:
    assert [setting.swept["lr"] for setting in ranked(JOBS, maximize=False)] == [0.1, 0.2, 0.3]


def test_the_best_job_is_the_best_of_the_best_setting(tmp_path: Path) -> None:
    for number, value in enumerate([0.5, 0.95, 0.9, 0.85]):  # the means of two are 0.725 and 0.875
        end(tmp_path, number, value)
    best = write_sweep_json(running(tmp_path), "completed").best
    assert best is not None and (best.key, best.value) == ("key2", 0.9)


def test_a_single_value_has_no_spread_and_folds_are_replicates_too() -> None:
    (setting,) = ranked([entry(1, 0.5, data_fold=0), entry(2, 0.6, data_fold=1)], maximize=True)
    assert setting.swept == {} and len(setting.values) == 2
    (single,) = ranked([entry(1, 0.5, lr=1)], maximize=True)
    assert single.std is None


def test_1_and_true_are_two_settings() -> None:
    assert len(ranked([entry(1, 0.5, a=1), entry(2, 0.6, a=True)], maximize=True)) == 2


def test_a_setting_one_of_whose_seeds_failed_is_behind_those_that_hold() -> None:
    jobs = [entry(1, 0.9, a=1, seed=0), entry(2, None, "failed", a=1, seed=1), entry(3, 0.5, a=2, seed=0)]
    assert [setting.swept["a"] for setting in ranked(jobs, maximize=True)] == [2, 1]


# The closing table


def test_the_end_names_the_best_and_the_way_to_go_on(
    sweep: RunningSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert close_sweep(sweep) == 1  # the job that never began is no success
    err = capsys.readouterr().err
    assert f"sweep {sweep.folder}, 4 jobs: 3 completed, 1 pending" in err
    assert f"best: {sweep.folder / 'key2'}\nagain:\n  trainrun data=iris optimizer.lr=0.2 seed=0\n" in err
    assert "row 1 on the test split, which chose nothing: accuracy 0.6500\n" in err
    assert f"to go on:\n  trainrun resume {sweep.folder}\n" in err
    assert read(sweep.folder).state == "interrupted"


def test_replicates_have_a_spread_on_the_test_split(
    sweep: RunningSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    end(sweep.folder, 3, 0.8, test={"accuracy": 0.45})
    assert close_sweep(sweep) == 0
    err = capsys.readouterr().err
    assert "chose nothing: accuracy 0.5500 +/- 0.1414 over 2\n" in err and "to go on" not in err
    assert read(sweep.folder).state == "completed"


def test_a_failure_decides_the_exit_code_and_can_be_repeated(
    sweep: RunningSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    end(sweep.folder, 3, None, "failed", reason="boom", exit_code=7)
    assert close_sweep(sweep) == 7
    line = f"to repeat what failed:\n  trainrun resume {sweep.folder} sweep.repeat_failed=true\n"
    assert line in capsys.readouterr().err
    assert read(sweep.folder).state == "failed"


def test_a_signal_decides_the_exit_code_unless_a_job_failed(sweep: RunningSweep) -> None:
    (sweep.folder / STOP).write_text("SIGTERM")
    assert close_sweep(sweep) == 143
    end(sweep.folder, 3, None, "failed", reason="boom", exit_code=7)
    assert close_sweep(sweep) == 7


def test_a_line_that_no_file_may_say_is_given_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    close_sweep(running(tmp_path, ["-m", "seed=0,1", "runtime.trust=[timm]"]))
    assert "to go on:\n  trainrun -m seed=0,1 'runtime.trust=[timm]'\n" in capsys.readouterr().err


def test_quietly_the_best_folder_alone_goes_to_stdout(
    sweep: RunningSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.quiet = True
    end(sweep.folder, 9, 0.1)
    close_sweep(sweep)
    out, err = capsys.readouterr()
    assert out == f"{sweep.folder / 'key2'}\n"
    assert "1 more job lie here that this line does not ask for" in err
