"""The table of runs fits its width and loses the least first; the objects hold everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainrun.report.runs import age, record, size, table, total
from trainrun.run.listing import ListedRun

NOW = 1_000_000.0


def entry(run: str, **more: Any) -> ListedRun:
    values: dict[str, Any] = {
        "path": Path("outputs") / run,
        "run": run,
        "name": None,
        "sweep": None,
        "state": "completed",
        "reason": "budget",
        "exit_code": 0,
        "data": "digits",
        "model": "CNN",
        "monitor": "val/accuracy",
        "best": 0.9926,
        "best_step": 400,
        "step": 800,
        "total_steps": 800,
        "started": NOW - 7200,
        "num_bytes": 2_500_000,
        "has_checkpoint": True,
    }
    return ListedRun(**(values | more))


FAILED = {"state": "failed", "best": None, "step": 3, "reason": "the gradient's norm is nan at step 3 " * 4}


def text(entries: list[ListedRun], width: int | None, reasons: bool = False) -> list[str]:
    return [line.plain for line in table(entries, width, NOW, reasons)]


def test_a_usual_table_at_its_full_width() -> None:
    lines = text(
        [entry("2026-01-02/10-00-00"), entry("2026-01-02/11-00-00", **FAILED | {"reason": "x"})], None
    )
    assert lines == [
        "state      run                  data    model  val/accuracy   step  age    size  reason",
        "completed  2026-01-02/10-00-00  digits  CNN          0.9926    800  2 h  2.5 MB",
        "failed     2026-01-02/11-00-00  digits  CNN                  3/800  2 h  2.5 MB  x",
    ]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("reasons", [False, True])
def test_the_table_fits_and_always_says_state_run_and_step(width: int, reasons: bool) -> None:
    entries = [
        entry("demo", name="demo", path=Path("outputs/2026-01-02/10-00-00")),
        entry("2026-01-01/10-00-00", name="demo", monitor="val/rmse", best=59.7),
        entry("2026-01-02_10-00-00/1", sweep="2026-01-02_10-00-00", **FAILED),
    ]
    lines = text(entries, width, reasons)
    assert max(map(len, lines)) <= width
    for line, stored_run in zip(lines[1:], entries, strict=True):
        assert line.startswith(stored_run.state) and stored_run.run in line
        assert ("800" if stored_run.step == 800 else "3/800") in line
    assert "2026-01-01/10-00-00 (demo)" in lines[2]
    assert ("the gradient's norm" in lines[3]) is (width >= 120 or (reasons and width >= 80))


def test_the_metric_is_named_in_the_head_or_where_runs_differ_in_each_row() -> None:
    same = text([entry("a"), entry("b")], None)
    assert "val/accuracy" in same[0] and "val/accuracy" not in same[1]
    mixed = text([entry("a"), entry("b", monitor="val/loss", best=0.5)], None)
    assert "val/accuracy 0.9926" in mixed[1] and "val/loss 0.5000" in mixed[2]


def test_each_state_has_its_colour_on_the_word_alone() -> None:
    for state in ("running", "completed", "interrupted", "failed", "died"):
        line = table([entry("a", state=state)], None, NOW, False)[1]
        (span,) = line.spans
        assert (span.start, span.end) == (0, len(state))


def test_the_total_counts_states_and_bytes() -> None:
    assert total([entry("a"), entry("b", state="died"), entry("c", state="died")]) == (
        "3 runs, 7.5 MB: 1 completed, 2 died"
    )
    assert total([entry("a", num_bytes=0)]) == "1 run, 0 B: 1 completed"


def test_a_record_holds_every_field_as_json_can() -> None:
    stored_run = entry("a", name="a")
    recorded = record(stored_run)
    assert recorded.keys() == set(ListedRun.__dataclass_fields__)
    assert (recorded["path"], recorded["best"], recorded["sweep"]) == ("outputs/a", 0.9926, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (86400, "24 h"),
        (172800, "2 d"),
        (1e8, "1157 d"),
    ],
)
def test_an_age_has_the_unit_a_person_would_use(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_345, "12 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (2_468_390, "2.5 MB"),
        (12_000_000_000, "12 GB"),
        (1_200_000_000_000, "1.2 TB"),
        (1_200_000_000_000_000, "1200.0 TB"),
    ],
)
def test_a_size_has_two_figures_and_a_unit(num_bytes: int, text: str) -> None:
    assert size(num_bytes) == text
