"""The first signal asks, the second ends at once, and after a run signals are as they were."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from trainrun.errors import INTERRUPTED
from trainrun.run.signals import StopSignal

WAIT = """
import sys, time
from trainrun.run.signals import StopSignal
stop = StopSignal()
stop.install()
print("ready", flush=True)
while stop() is None:
    time.sleep(0.01)
print(stop(), flush=True)
time.sleep(60)  # a step that takes its time
"""


@pytest.mark.parametrize("name", INTERRUPTED)
def test_the_first_sets_the_flag_and_the_second_exits_at_once(name: str) -> None:
    with subprocess.Popen([sys.executable, "-c", WAIT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, name))
        assert process.stdout.readline() == f"{name}\n"  # still running
        process.send_signal(getattr(signal, name))
        assert process.wait(timeout=10) == INTERRUPTED[name] == 128 + getattr(signal, name)


def test_no_signal_is_none() -> None:
    assert StopSignal()() is None


def test_after_a_run_the_handlers_are_the_old_ones() -> None:
    numbers = [getattr(signal, name) for name in INTERRUPTED]
    before = [signal.getsignal(number) for number in numbers]
    stop = StopSignal()
    stop.install()
    assert [signal.getsignal(number) for number in numbers] != before
    signal.raise_signal(signal.SIGINT)
    assert stop() == "SIGINT"  # and no KeyboardInterrupt
    stop.restore()
    assert [signal.getsignal(number) for number in numbers] == before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    stop.restore()  # twice is once


def test_in_another_thread_nothing_is_installed_and_nothing_fails() -> None:
    before, failures = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        try:
            stop = StopSignal()
            stop.install()
            stop.restore()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
    assert signal.getsignal(signal.SIGINT) is before
