"""The terminal's two faces: live with a table, and plain lines without control codes."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import toy
from rich.console import Console as RichConsole

from trainrun.logger.console import Console, Live, PlainConsole, fitting
from trainrun.vocabulary.events import (
    CheckpointSaved,
    Evaluated,
    Event,
    Failed,
    Interrupted,
    Progressed,
    Replanned,
    Started,
    StepsLogged,
)

STARTED = Started(
    name="demo",
    run_dir="outputs/x",
    step=0,
    total_steps=20,
    monitor="val/accuracy",
    plan=(("data", "digits: [bold]1258[/bold] train"), ("model", "CNN")),
    config="a: 1\n",
)
LOGGED = StepsLogged(
    step=5,
    epoch=1.0,
    loss=0.5,
    lr={"decay": 0.1},
    grad_norm=2.0,
    grad_norm_after=1.0,
    clipped=0.5,
    skipped=3,
    samples_per_s=1234.5,
    data_wait=0.01,
)
VAL = Evaluated(
    step=5,
    epoch=1.0,
    split="val",
    weights="raw",
    metrics={"loss": 0.4, "accuracy": 0.8},
    train={"loss": 0.6, "accuracy": 0.7},
    lr=0.1,
    is_best=True,
    seconds=0.1,
)
TEST = replace(VAL, split="test", weights="ema", metrics={"loss": 0.45, "accuracy": 0.79}, is_best=False)
FINISHED = replace(toy.FINISHED, skipped=3, best=0.8, best_step=5, kept_step=5, kept_weights="ema")
EVENTS: list[Event] = [
    *[STARTED, Progressed(step=2, samples_per_s=1000.0), LOGGED, VAL],
    *[
        CheckpointSaved(step=5, path="p", num_bytes=99, seconds=0.1, blocked_s=0.01),
        replace(VAL, step=10, is_best=False),
    ],
    *[TEST, FINISHED],
]
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def live(screen: io.StringIO) -> Iterator[Live]:
    terminal = RichConsole(file=screen, force_terminal=True, width=100, highlight=False, soft_wrap=True)
    live = Live(terminal)
    yield live
    live.progress.stop()


def test_the_live_view_shows_the_plan_a_table_and_the_test_result(live: Live, screen: io.StringIO) -> None:
    for event in EVENTS:
        live(event)
    text = CONTROL.sub("", screen.getvalue()).replace("\r", "\n")
    assert "digits: [bold]1258[/bold] train" in text  # data are not markup
    lines = [line.rstrip() for line in text.splitlines()]
    heads = [line for line in lines if "train loss" in line]
    assert len(heads) == 1
    assert heads[0].split("  ")[-1].strip() == "lr"
    rows = [line.split() for line in lines if re.match(r"\s+1\s+(5|10)\s", line)]
    assert rows == [
        ["1", "5", "0.6000", "0.7000", "0.4000", "0.8000", "0.1", "best"],
        ["1", "10", "0.6000", "0.7000", "0.4000", "0.8000", "0.1"],
    ]
    assert any(line.startswith("test   loss 0.4500 accuracy 0.7900") for line in lines)
    assert "(ema weights of step 5)" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_line_of_the_plan_too_long_for_the_terminal_hangs_below_its_beginning(
    screen: io.StringIO, width: int
) -> None:
    terminal = RichConsole(file=screen, force_terminal=True, width=width, highlight=False, soft_wrap=True)
    live, text = Live(terminal), "1257 train, 270 val, 270 test; inputs standardised by their mean " * 2
    live(replace(STARTED, plan=(("data", text),)))
    live(FINISHED)
    lines = CONTROL.sub("", screen.getvalue()).replace("\r", "\n").splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("  data "))
    shown = lines[first : lines.index("", first)]
    assert all(line.startswith(" " * 13) for line in shown[1:])
    assert [word for line in shown for word in line.split()] == ["data", *text.split()]
    assert all(len(line) <= width for line in shown)
    assert len(shown) == -(-len(text) // (width - 13)) or width == 40


@pytest.mark.parametrize(
    ("seconds", "total", "said"),
    [
        (1.0, 1005, "about 3 min to go"),  # 5 steps a second, 1,000 ahead: 200 s
        (100.0, 1005, "about 5.6 h to go"),
        (1.0, 105, ""),  # 20 s
        (1.0, None, ""),
    ],
)
def test_a_log_says_once_how_long_it_will_take(
    seconds: float, total: int | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([50.0, 50.0 + seconds])
    plain = PlainConsole(clock=lambda: next(times))
    for event in (replace(STARTED, total_steps=total), LOGGED, replace(LOGGED, step=10)):
        plain(event)
    estimates = [line for line in capsys.readouterr().err.splitlines() if "to go" in line]
    assert estimates == ([f"  {said}, by the first 5 steps"] if said else [])


def test_a_log_that_a_resume_owes_tells_no_pace(capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainConsole(clock=iter([50.0, 60.0]).__next__)
    for event in (replace(STARTED, step=5, resumed_from=5, total_steps=1005), LOGGED):
        plain(event)
    assert "to go" not in capsys.readouterr().err
    plain(replace(LOGGED, step=10))
    assert "about 33 min to go, by the first 5 steps" in capsys.readouterr().err


@pytest.mark.parametrize("width", [40, 70, 80, 100, 200])
def test_the_table_fits_the_terminal(screen: io.StringIO, width: int) -> None:
    terminal = RichConsole(file=screen, force_terminal=True, width=width, highlight=False, soft_wrap=True)
    wide = {"loss": 0.4, "accuracy": 0.8, "f1_macro": 0.7, "top5": 1.0}
    live = Live(terminal)
    live(STARTED)
    live(replace(VAL, metrics=wide))
    live(FINISHED)
    lines = CONTROL.sub("", screen.getvalue()).replace("\r", "\n").splitlines()
    (head,), (row,) = ([x for x in lines if "val accuracy" in x], [x for x in lines if "best" in x])
    assert len(row) <= width and "0.8000" in row
    assert len(head) == len(row) - len("  best")
    assert ("val top5" in head) is (width == 200)


def test_columns_are_left_out_by_weight_and_kept_in_order() -> None:
    names = ["epoch", "step", "train loss", "val loss", "val accuracy", "val f1_macro", "lr"]
    assert fitting(names, "val accuracy", 200) == names
    assert fitting(names, "val accuracy", 45) == ["step", "val loss", "val accuracy"]
    assert fitting(names, "val accuracy", 10) == ["step", "val accuracy"]
    assert fitting(names, "val f1_macro", 10) == ["step", "val f1_macro"]


def test_the_live_view_shows_progress_loss_rate_and_speed(live: Live, screen: io.StringIO) -> None:
    for event in (STARTED, LOGGED):
        live(event)
    live.progress.refresh()
    text = CONTROL.sub("", screen.getvalue())
    assert "step 5/20" in text
    assert "loss 0.5000  lr 0.1  1,234 samples/s" in text


def test_a_budget_by_the_clock_shows_its_steps_once_they_are_known(live: Live) -> None:
    live(replace(STARTED, total_steps=None))
    (task,) = live.progress.tasks
    assert (task.total, task.fields["of"]) == (None, "")
    live(Replanned(step=6, total_steps=300, seconds=0.1, is_first=True))
    live(Replanned(step=9, total_steps=280, seconds=0.2, is_first=False))
    assert (task.total, task.fields["of"]) == (280, "/280")


@pytest.mark.parametrize(
    "end",
    [FINISHED, Interrupted(step=7, signal="SIGINT"), Failed(step=7, reason="x", exit_code=1)],
    ids=lambda event: type(event).__name__,
)
def test_however_a_run_ends_the_terminal_gets_its_cursor_back(
    live: Live, screen: io.StringIO, end: Event
) -> None:
    live(STARTED)
    assert HIDE in screen.getvalue()
    live(end)
    assert screen.getvalue().rindex(SHOW) > screen.getvalue().rindex(HIDE)
    assert not live.progress.live.is_started
    assert ("SIGINT: saved at step 7" in screen.getvalue()) is isinstance(end, Interrupted)


def test_a_resumed_run_says_where_it_goes_on(live: Live, screen: io.StringIO) -> None:
    live(replace(STARTED, step=7, resumed_from=7))
    assert "resumed at step 7" in CONTROL.sub("", screen.getvalue())


def test_plain_lines_have_no_control_codes_and_are_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    plan = (("data", "x" * 300),)
    failed = Failed(step=20, reason="printed by the command", exit_code=1)
    for event in [replace(STARTED, plan=plan), *EVENTS[1:], failed]:
        PlainConsole()(event)
    out, err = capsys.readouterr()
    assert out == ""  # stdout is for results
    assert "\x1b" not in err and "\r" not in err
    lines = err.splitlines()
    assert lines[0] == "run outputs/x"
    assert lines[1].endswith("x" * 300)
    assert lines[2:] == [
        "step 5 train loss 0.5000 lr 0.1 grad_norm 2.0000 after 1.0000 clipped 50% skipped 3 1,234 samples/s",
        "step 5 val loss 0.4000 accuracy 0.8000 best",
        "step 10 val loss 0.4000 accuracy 0.8000",
        "step 5 test (ema) loss 0.4500 accuracy 0.7900",
        "step 20 finished: budget, 1.5 s of training; "
        "restored the ema weights of step 5, best on val/accuracy (0.8000)",
    ]


@pytest.mark.parametrize(("terminal", "view"), [(True, Live), (False, PlainConsole)])
def test_the_terminal_decides(
    terminal: bool, view: type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert isinstance(Console(tmp_path).view, view)


def test_a_monitored_curve_of_a_vector_has_its_column(live: Live, screen: io.StringIO) -> None:
    live(replace(STARTED, monitor="val/recall/cat"))
    assert live.monitor == "val recall/cat"
