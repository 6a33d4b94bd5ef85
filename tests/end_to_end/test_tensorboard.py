"""A sweep in TensorBoard as a person sees it: every tab opened in a real browser, without an error."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# The text of a page, also that inside its components.
TEXT = """
const found = [];
const walk = node => {
  if (node.shadowRoot) walk(node.shadowRoot);
  if (['STYLE', 'SCRIPT', 'NOSCRIPT'].includes(node.nodeName)) return;
  if (node.nodeType === Node.TEXT_NODE) found.push(node.textContent);
  node.childNodes.forEach(walk);
};
walk(document.body);
return found.join(' ').replace(/\\s+/g, ' ');
"""
TABS = {
    "timeseries": ("train", "confusion", "samples", "/0/tensorboard", "/1/tensorboard"),
    "scalars": ("best/accuracy", "lr", "speed", "val"),
    "histograms": ("weights/head.weight", "gradients/head.weight"),
    "distributions": ("weights/head.weight",),
    "images": ("confusion/test", "confusion/val", "samples"),
    "text": ("config/text_summary", "budget: 2step"),
    "hparams": ("optimizer.lr", "adamw", "momentum", "Trial ID"),
}


@contextlib.contextmanager
def serving(command: list[str], said: str, stream: str, folder: Path) -> Iterator[str]:
    """A server, ended afterwards; what the group of `said` matched in its output."""
    pipes: Any = {stream: subprocess.PIPE}
    process = subprocess.Popen(command, cwd=folder, text=True, **pipes)
    output = getattr(process, stream)
    try:
        found = next((match for line in output if (match := re.search(said, line))), None)
        assert found, f"{command[0]} did not start"
        yield found[1]
    finally:
        process.terminate()
        process.wait(60)
        output.close()


def ask(address: str, body: Any = None, method: str = "POST") -> Any:
    """WebDriver's answer."""
    data = None if method == "DELETE" else json.dumps(body or {}).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)["value"]


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[str]:
    """The address of a session of headless Chromium, its profile in `folder`."""
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    options = {"args": [*flags, "--window-size=1400,1200", f"--user-data-dir={folder / 'profile'}"]}
    wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
    with serving(["chromedriver", "--port=0"], r"on port (\d+)\.", "stdout", folder) as port:
        root = f"http://localhost:{port}/session"
        session = f"{root}/{ask(root, {'capabilities': {'alwaysMatch': wanted}})['sessionId']}"
        try:
            yield session
        finally:
            ask(session, method="DELETE")


def test_samples_and_histograms_are_shown_on_request_and_change_nothing(
    command: Callable, tmp_path: Path
) -> None:
    short = ("budget=2step", "data.limit=300", "logger=tensorboard", "augment=crop_flip")
    command(*short, "run_dir=plain")
    asked = ("logger.tensorboard.samples=9", "logger.tensorboard.histograms=true")
    command(*short, "run_dir=shown", *asked)
    records = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("plain", "shown")]
    assert records[0] == records[1]
    shown = EventAccumulator(str(tmp_path / "shown/tensorboard"))
    shown.Reload()
    histograms = shown.Tags()["histograms"]
    assert {"weights/head.weight", "gradients/head.weight"} <= set(histograms)
    assert [event.step for event in shown.Histograms("weights/head.weight")] == [2]
    done = command("data=synthetic_table", "logger.tensorboard.samples=9", "run_dir=no", code=2)
    assert "logger.tensorboard.samples: wants pictures" in done.err
    assert "trainrun data=synthetic_table logger.tensorboard.samples=0 run_dir=no" in done.err
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_every_tab_shows_a_sweep_without_an_error(command: Callable, tmp_path: Path) -> None:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("there is no chromium with its chromedriver here")
    sweep = ("-m", "optimizer=adamw,momentum", "budget=2step", "data.limit=300", "model=linear")
    shown = ("logger.tensorboard.samples=9", "logger.tensorboard.histograms=true")
    command(*sweep, "logger=tensorboard", *shown)
    server = [sys.executable, "-m", "tensorboard.main", "--logdir", "outputs", "--port", "0"]
    with serving(server, r"(http://localhost:\d+/)", "stderr", tmp_path) as url, browser(tmp_path) as session:
        for tab, words in TABS.items():
            ask(f"{session}/url", {"url": "about:blank"})
            ask(f"{session}/url", {"url": f"{url}#{tab}"})
            deadline, text = time.monotonic() + 180, ""
            while not all(word in text for word in words) and time.monotonic() < deadline:
                time.sleep(0.5)
                text = ask(f"{session}/execute/sync", {"script": TEXT, "args": []})
            assert not [word for word in words if word not in text], f"{tab}: {text}"
            messages = ask(f"{session}/se/log", {"type": "browser"})
            assert not [one["message"] for one in messages if one["level"] == "SEVERE"], tab
