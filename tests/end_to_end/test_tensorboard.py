"""A sweep in TensorBoard as a person sees it: every tab opened in a real browser, without an error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from browser import browser, need_browser, serving, shown
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TABS = {
    "timeseries": ("train", "confusion", "samples", "multirun/tabs/"),
    "scalars": ("best/accuracy", "lr", "speed", "val"),
    "histograms": ("weights/head.weight", "gradients/head.weight"),
    "distributions": ("weights/head.weight",),
    "images": ("confusion/test", "confusion/val", "samples"),
    "text": ("config/text_summary", "budget: 2step"),
    "hparams": ("optimizer.lr", "adamw", "momentum", "Trial ID"),
}


def test_samples_and_histograms_are_shown_on_request_and_change_nothing(
    command: Callable, tmp_path: Path
) -> None:
    short = ("budget=2step", "data.limit=300", "logger=tensorboard", "augment=crop_flip")
    command(*short, "run_dir=plain")
    asked = ("logger.tensorboard.samples=9", "logger.tensorboard.histograms=true")
    command(*short, "run_dir=shown", *asked)
    records = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("plain", "shown")]
    assert records[0] == records[1]
    stored = EventAccumulator(str(tmp_path / "shown/tensorboard"))
    stored.Reload()
    histograms = stored.Tags()["histograms"]
    assert {"weights/head.weight", "gradients/head.weight"} <= set(histograms)
    assert [event.step for event in stored.Histograms("weights/head.weight")] == [2]
    done = command("data=synthetic_table", "logger.tensorboard.samples=9", "run_dir=no", code=2)
    assert "logger.tensorboard.samples: needs pictures" in done.err
    assert "trainrun data=synthetic_table logger.tensorboard.samples=0 run_dir=no" in done.err
    assert not (tmp_path / "no").exists()


def test_every_tab_shows_a_sweep_without_an_error(command: Callable, tmp_path: Path) -> None:
    need_browser()
    sweep = ("-m", "optimizer=adamw,momentum", "budget=2step", "data.limit=300", "model=linear", "name=tabs")
    asked = ("logger.tensorboard.samples=9", "logger.tensorboard.histograms=true")
    command(*sweep, "logger=tensorboard", *asked)
    server = [sys.executable, "-m", "tensorboard.main", "--logdir", "outputs", "--port", "0"]
    with serving(server, r"(http://localhost:\d+/)", "stderr", tmp_path) as url, browser(tmp_path) as session:
        for tab, words in TABS.items():
            shown(session, f"{url}#{tab}", words)
