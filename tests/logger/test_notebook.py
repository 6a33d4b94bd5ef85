"""The notebook's line: replaced while the run trains, the run's figures at its end."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import toy

from trainrun.logger.console import Console, PlainConsole
from trainrun.logger.notebook import NotebookConsole, publisher
from trainrun.vocabulary.events import Evaluated, Event, Failed, Interrupted, Started, StepsLogged, Warned

STARTED = Started(
    name="demo", run_dir="outputs/x", step=0, total_steps=20, monitor="val/accuracy", plan=(), config=""
)
LOGGED = StepsLogged(
    step=5,
    epoch=1.0,
    loss=0.5,
    lr={"decay": 0.1},
    grad_norm=2.0,
    grad_norm_after=None,
    clipped=None,
    skipped=0,
    samples_per_s=1234.5,
    data_wait=0.0,
)
VAL = Evaluated(
    step=5, epoch=1.0, split="val", weights="raw", metrics={"loss": 0.4, "accuracy": 0.8}, seconds=0.1
)
TEST = replace(VAL, split="test", weights="ema", metrics={"loss": 0.45, "accuracy": 0.79})
FINISHED = replace(
    toy.FINISHED, monitor="val/accuracy", best=0.8, best_step=5, step=10, kept_step=5, kept_weights="ema"
)
Shown = list[tuple[str, bool]]


def _shown(*sent: Event, seconds: float = 1.0) -> Shown:
    """What is shown of events that come `seconds` apart."""
    shown: Shown = []
    times = iter(range(1000))
    console = NotebookConsole(lambda *text: shown.append(text), lambda: next(times) * seconds)
    for event in sent:
        console(event)
    return shown


def test_a_line_lives_and_ends_as_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    shown = _shown(STARTED, LOGGED, VAL, replace(VAL, step=10), TEST, FINISHED)
    assert [replaces for _, replaces in shown] == [False] + [True] * (len(shown) - 1)
    assert shown[0][0] == "step 0/20"
    assert ("step 5/20  loss 0.5000  val accuracy 0.8000  1,234 samples/s", True) in shown
    assert all("\n" not in text for text, _ in shown[:-1])
    last = shown[-1][0].split("\n")
    assert last == [
        f"finished in {FINISHED.seconds:.1f} s: outputs/x",
        "restored the ema weights of step 5, best on val/accuracy (0.8000)",
        "val   loss 0.4000 accuracy 0.8000 (step 10)",
        "test  loss 0.4500 accuracy 0.7900 (ema weights of step 5)",
    ]
    assert capsys.readouterr() == ("", "")


def test_the_line_changes_a_few_times_a_second() -> None:
    steps = [replace(LOGGED, step=step) for step in range(100)]
    assert 1 < len(_shown(STARTED, *steps, seconds=0.01)) < 12
    assert len(_shown(STARTED, *steps)) == 101


def test_what_goes_wrong_is_said_beside_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    plan = (*STARTED.plan, ("caution", "batch norm of 2 samples\x1b[31m"))
    shown = _shown(replace(STARTED, plan=plan), Warned(step=3, text="slow"), VAL)
    assert capsys.readouterr().err == "caution: batch norm of 2 samples\\x1b[31m\nstep 3 warning: slow\n"
    assert len(shown) == 2
    assert _shown(STARTED, Interrupted(step=7, signal="SIGINT", seconds=1.0))[-1] == (
        *("SIGINT: saved at step 7: outputs/x", True),
    )
    failed = Failed(step=7, reason="ValueError: x", exit_code=1)
    assert _shown(STARTED, failed)[-1] == ("failed at step 7: outputs/x", True)


def test_a_kernel_makes_a_notebook_and_a_terminals_ipython_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[dict[str, object]] = []
    display = SimpleNamespace(publish=lambda **what: published.append(what))
    shell = SimpleNamespace(kernel=object(), display_pub=display)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    console = Console(Path("outputs/x"))
    assert isinstance(console.view, NotebookConsole)
    console(STARTED)
    console(LOGGED)
    assert [what["update"] for what in published] in ([False], [False, True])
    assert published[0]["data"] == {"text/plain": "step 0/20"}
    for terminal in (None, SimpleNamespace()):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda t=terminal: t))
        assert isinstance(Console(Path("outputs/x")).view, PlainConsole)
    first, second = publisher(shell), publisher(shell)
    first("a", False)
    second("a", False)
    assert published[-1]["transient"] != published[-2]["transient"]
