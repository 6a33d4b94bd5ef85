"""Every event that matters has its line, and numbers keep the digits that matter."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toy import FINISHED

from trainrun.logger.lines import describe_kept_weights, lines_of, markdown_table
from trainrun.terminal.numbers import number
from trainrun.vocabulary.events import (
    CheckpointSaved,
    Failed,
    Interrupted,
    Probed,
    Progressed,
    Replanned,
    Sampled,
    Warned,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[
            (0.99261, "0.9926"),
            (12.3456, "12.35"),
            (3.14159e-5, "3.14e-05"),
            (0.0, "0.0000"),
            (1.0, "1.0000"),
        ],
        *[(123456.0, "1.23e+05"), (-0.5, "-0.5000"), (9999.5, "9999.50"), (float("nan"), "nan")],
        *[(float("inf"), "inf"), (-float("inf"), "-inf"), (0.001, "0.0010"), (-0.0001, "-0.0001")],
    ],
)
def test_numbers_are_short_and_keep_four_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_what_happened_is_said_in_one_line() -> None:
    saved = CheckpointSaved(step=5, path="p", num_bytes=12345, seconds=0.0123, blocked_s=0.01)
    assert lines_of(saved) == ["step 5 saved 12,345 bytes in 0.012 s"]
    assert lines_of(Interrupted(step=5, signal="SIGTERM")) == ["step 5 interrupted by SIGTERM, saved"]
    assert lines_of(Failed(step=5, reason="no space", exit_code=9)) == ["step 5 failed: no space"]
    assert lines_of(Warned(step=5, text="lost")) == ["step 5 warning: lost"]
    assert lines_of(Progressed(step=5, samples_per_s=1.0)) == []


def test_the_first_plan_of_a_budget_by_the_clock_is_said_and_the_later_ones_are_not() -> None:
    first = Replanned(step=6, total_steps=12345, seconds=0.5, is_first=True)
    assert lines_of(first) == ["step 6 planned: about 12,345 steps in all"]
    assert lines_of(Replanned(step=9, total_steps=12000, seconds=0.6, is_first=False)) == []


@pytest.mark.parametrize(
    ("best_step", "kept_step", "weights", "said"),
    [
        (5, 5, "raw", "restored the weights of step 5, best on val/loss (0.2500)"),
        (5, 5, "swa", "restored the swa weights of step 5, best on val/loss (0.2500)"),
        (9, 9, "raw", "kept the weights of step 9, best on val/loss (0.2500)"),
        (5, 9, "ema", "kept the ema weights of step 9, the last"),
        (None, 9, "raw", "kept the weights of step 9, the last"),
    ],
)
def test_a_run_says_which_weights_it_ends_with(
    best_step: int | None, kept_step: int, weights: str, said: str
) -> None:
    best = 0.25 if best_step else None
    ended = replace(FINISHED, step=9, reason="early_stopping", monitor="val/loss", seconds=1.0)
    finished = replace(ended, best=best, best_step=best_step, kept_step=kept_step, kept_weights=weights)
    assert describe_kept_weights(finished) == said
    assert lines_of(finished) == [f"step 9 finished: early_stopping, 1.0 s of training; {said}"]


def test_a_sample_is_shown_line_by_line_and_cannot_steer_the_terminal() -> None:
    text = "\nif é:\n\tred \x1b[31m \x07"
    assert lines_of(Sampled(step=7, text=text)) == ["step 7 sample:", "  | if é:", "  |  red ?[31m ?"]


def test_what_probes_return_is_a_line_and_their_texts() -> None:
    probed = Probed(step=5, numbers={}, pictures={}, texts={}, tables={})
    assert lines_of(probed) == []
    assert lines_of(replace(probed, texts={"note": "a\nb"})) == ["step 5 probe note:", "  | a", "  | b"]
    shown = replace(probed, numbers={"spread": 0.5}, pictures={"grid": (b"", (1, 1))}, tables={"worst": []})
    assert lines_of(shown) == ["step 5 probe spread 0.5000 pictures and tables: grid, worst"]


def test_a_table_of_markdown_has_the_columns_of_all_rows() -> None:
    rows = [{"a": 1, "b": "x|y\nz"}, {"a": 2.5, "c": None}]
    assert markdown_table(rows).split("\n") == [
        "| a | b | c |",
        "| --- | --- | --- |",
        "| 1 | x\\|y z |  |",
        "| 2.5 |  | None |",
    ]
    assert markdown_table([]) == "no rows"
