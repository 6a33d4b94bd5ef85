"""Ctrl-C before there is anything to save."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from waiting import HANG_S

from trainrun.runtime.signals import _end, end_at_once, raise_again

SWALLOWS = """
import sys, time
from trainrun.cli import main
def run(name, words):
    print("ready", flush=True)
    while True:
        try:
            time.sleep(600)
        except BaseException:  # as an import that is broken off by an exception may
            pass
main._run, sys.argv = run, ["trainrun", "budget=1step"]
main.main()
"""


def test_a_start_ends_at_once_and_says_nothing() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SWALLOWS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=HANG_S)
    assert (process.returncode, out, err) == (130, "", "")


def test_from_the_folder_on_it_is_an_exception_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        end_at_once()
        assert signal.getsignal(signal.SIGINT) is _end
        raise_again()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a background job
        end_at_once()
        raise_again()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
