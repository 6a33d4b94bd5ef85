"""A page as a person sees it: a server, and a headless Chromium that is driven through WebDriver."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

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


def need_browser() -> None:
    """Skip the test where there is none."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("there is no chromium with its chromedriver here")


def shown(session: str, address: str, words: Sequence[str]) -> str:
    """The text of a page once it has these words, or after three minutes, without an error in its console."""
    ask(f"{session}/url", {"url": "about:blank"})
    ask(f"{session}/url", {"url": address})
    deadline, text = time.monotonic() + 180, ""
    while not all(word in text for word in words) and time.monotonic() < deadline:
        time.sleep(0.5)
        text = ask(f"{session}/execute/sync", {"script": TEXT, "args": []})
    assert not [word for word in words if word not in text], f"{address}: {text}"
    messages = ask(f"{session}/se/log", {"type": "browser"})
    assert not [one["message"] for one in messages if one["level"] == "SEVERE"], address
    return str(text)
