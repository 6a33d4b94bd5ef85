"""The closing table of a sweep at several widths, and the exit code that its jobs decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.cells import cell_len

from trainrun.sweep.closing import exit_code, table
from trainrun.sweep.folder import StoredSweep, SweptJob
from trainrun.sweep.sweep_json import ranked


def entry(
    number: int, value: float | None, state: str = "completed", reason: str = "", code: int = 0, **swept: Any
) -> SweptJob:
    swept = {key.replace("__", "."): value for key, value in swept.items()}
    key = f"{number:010x}"
    return SweptJob(key, number, key, (), swept, state, value, 40, 2.0 * number, code, reason, {})


def sweep_of(jobs: list[SweptJob], monitor: str, mode: str) -> StoredSweep:
    settings = ranked(jobs, mode == "max")
    return StoredSweep(Path(), (), None, "basic", monitor, mode, "completed", None, settings, tuple(jobs))


def lines(jobs: list[SweptJob], width: int | None = None) -> list[str]:
    sweep = sweep_of(jobs, "val/accuracy", "max")
    return [line.plain for line in table(sweep, {job.key: {} for job in jobs}, width)]


def test_a_line_per_setting_best_first() -> None:
    jobs = [
        entry(1, 0.5, optimizer__lr=0.1, batch_size=32),
        entry(2, 0.75, optimizer__lr=0.01, batch_size=32),
    ]
    assert [line.split() for line in lines(jobs)] == [
        ["val/accuracy", "lr", "batch_size", "time", "job"],
        ["1", "0.7500", "0.01", "32", "4.0", "s", "0000000002"],
        ["2", "0.5000", "0.1", "32", "2.0", "s", "0000000001"],
    ]


def test_replicates_are_a_mean_a_spread_and_a_count() -> None:
    jobs = [
        entry(1, 0.5, lr=1, seed=0),
        entry(2, 0.7, lr=1, seed=1),
        entry(3, None, "failed", "boom", lr=1, seed=2),
    ]
    text = lines(jobs)
    assert text[1].split() == ["1", "0.6000", "+/-", "0.1414", "2", "of", "3", "1", "4.0", "s"]
    assert "job" not in text[0]
    assert text[-1].split() == ["0000000003", "failed", "lr=1", "seed=2:", "boom"]


def test_two_settings_of_one_last_name_keep_the_whole() -> None:
    head = lines([entry(1, 0.5, a__lr=1, b__lr=2)])[0]
    assert head.split() == ["val/accuracy", "a.lr", "b.lr", "time", "job"]


def test_nothing_is_wider_than_the_terminal() -> None:
    jobs = [
        entry(
            n,
            0.5 + n / 100,
            "completed" if n % 3 else "failed",
            "because " * 30,
            **{f"group__key{k}": n for k in range(9)},
        )
        for n in range(1, 9)
    ]
    for width in (60, 80, 120):
        assert max(cell_len(line) for line in lines(jobs, width)) <= width
        assert "val/accuracy" in lines(jobs, width)[0]


def test_of_many_that_were_given_up_the_furthest_are_told() -> None:
    jobs = [entry(1, 0.9, lr=1), *(entry(n, 0.1, "pruned", lr=n) for n in range(2, 102))]
    text = lines(jobs)
    assert sum("pruned" in line for line in text) == 12
    assert text[-1] == "and 88 more, in sweep.json"
    assert "at step 40, val/accuracy 0.1000" in text[3]


def test_without_a_result_there_is_no_empty_table() -> None:
    assert [line.split()[1] for line in lines([entry(1, None, "failed", "boom", lr=1)])[1:]] == ["failed"]


def test_a_sweep_that_ranks_by_its_loss_shows_the_accuracy_beside_it() -> None:
    jobs = [entry(1, 0.4, data__fold=1), entry(2, 0.2, data__fold=2)]
    metrics = {"0000000001": {"loss": 0.4, "accuracy": 0.75}, "0000000002": {"loss": 0.2, "accuracy": 1.0}}
    text = table(sweep_of(jobs, "val/loss", "min"), metrics, None)
    heads, row = (line.plain.split() for line in text)
    assert heads == ["val/loss", "over", "val/accuracy", "time"]
    assert row == ["1", "0.3000", "+/-", "0.1414", "2", "of", "2", "0.8750", "3.0", "s"]


def test_the_exit_code_is_the_first_failures_then_an_interruptions() -> None:
    jobs = [entry(1, 0.5), entry(2, 0.9, "interrupted", code=130), entry(3, None, "failed", code=7)]
    assert [exit_code(jobs[:count]) for count in (1, 2, 3)] == [0, 130, 7]
    assert exit_code([entry(1, None, "pruned"), entry(2, None, "paused")]) == 0
    assert exit_code([entry(1, 0.5), entry(2, None, "pending")]) == 1  # what never began is no success
