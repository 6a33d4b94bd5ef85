"""A search's study in optuna-dashboard as a person sees it: opened in a real browser, without an error."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import browser, need_browser, serving, shown


def test_a_study_opens_with_its_trials_and_its_best_value(command: Callable, tmp_path: Path) -> None:
    program = shutil.which("optuna-dashboard", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("optuna-dashboard is not installed")
    need_browser()
    space = ("optimizer.lr=tag(log,interval(1e-4,1e-1))", "optimizer.weight_decay=0.0,0.1")
    short = ("budget=4step", "loop.eval_every=2step", "data.limit=300", "model=linear", "logger=none")
    done = command("-m", "hydra/sweeper=optuna", "sweep.trials=6", *space, *short, "run_dir=search")
    best = json.loads((tmp_path / "search" / "sweep.json").read_text())["best"]["value"]
    storage = next(word for word in done.err.split() if word.startswith("sqlite:///"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = [program, storage, "--port", str(port)]
    with (
        serving(server, r"Listening on (http://\S+)/", "stderr", tmp_path) as url,
        browser(tmp_path) as session,
    ):
        shown(session, f"{url}/dashboard/", ("search",))
        top = shown(session, f"{url}/dashboard/studies/1", ("Best Trial", "optimizer.lr"))
        assert str(best) in top
        listed = shown(session, f"{url}/dashboard/studies/1/trials", ("Trial 5", "Complete", "weight_decay"))
        assert "Fail" not in listed
