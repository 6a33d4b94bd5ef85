"""The first signal asks, the second ends at once, and after a run signals are as they were."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from types import SimpleNamespace

import pytest
from waiting import HANG_S

from trainrun.runtime.signals import ECHO_S, Signals, Stopped, exit_code
from trainrun.vocabulary.errors import INTERRUPTED

WAIT = """
import time
from trainrun.runtime.signals import Signals, Stopped
signals = Signals()
signals.install()
print("ready", flush=True)
try:
    while True:
        signals.check()
        time.sleep(0.01)
except Stopped as stopped:
    print(stopped.reason, flush=True)
time.sleep(600)  # a step that takes its time
"""


@pytest.fixture
def signals() -> Iterator[Signals]:
    signals = Signals(preemption="USR2")
    signals.install()
    yield signals
    signals.restore()


@pytest.mark.parametrize("name", INTERRUPTED)
def test_the_first_asks_and_the_second_exits_at_once(name: str) -> None:
    with subprocess.Popen([sys.executable, "-c", WAIT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, name))
        assert process.stdout.readline() == f"{name}\n"  # still running
        time.sleep(ECHO_S + 0.1)
        process.send_signal(getattr(signal, name))
        assert process.wait(timeout=HANG_S) == INTERRUPTED[name] == 128 + getattr(signal, name)


def test_an_echo_of_the_first_is_not_a_second(signals: Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainrun.runtime.signals.ECHO_S", 60.0)  # on a busy machine this process may pause
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)  # would have ended this process
    with pytest.raises(Stopped, match="SIGTERM"):
        signals.check()


def test_without_a_signal_nothing_is_asked(signals: Signals) -> None:
    signals.check()
    with signals.interruptible():
        pass
    assert not signals.take_save()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2"])
def test_what_changes_nothing_is_left_at_once(signals: Signals, name: str) -> None:
    threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, getattr(signal, name))).start()
    as_a_data_set_might = contextlib.suppress(Exception)
    with pytest.raises(Stopped, match=name), signals.interruptible(), as_a_data_set_might:
        time.sleep(60)


class Closing:
    """As a loader's iterator, which ends its processes when nobody holds it any more."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.1)


def finalizer() -> None:
    Closing()


def fork() -> None:
    at_fork = [signal.SIGTERM]

    def once() -> None:  # a hook stays for the life of this process
        while at_fork:
            signal.raise_signal(at_fork.pop())

    os.register_at_fork(after_in_parent=once)
    process = get_context("fork").Process(target=int)
    process.start()
    process.join()


def callback() -> None:
    """Of a weak reference: nothing in its frames says that its exceptions are lost."""
    weakref.finalize(threading.Event(), signal.raise_signal, signal.SIGTERM)


def bare_except() -> None:
    """As of a data set that tries a sample again, whatever happens."""
    with contextlib.suppress(BaseException):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("lose", [finalizer, fork, callback, bare_except])
def test_a_stop_is_not_lost_where_exceptions_are(
    signals: Signals, lose: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lost.append)

    def wait() -> None:
        lose()
        time.sleep(60)

    with pytest.raises(Stopped, match="SIGTERM"), signals.interruptible():
        wait()
    assert len(lost) == (lose is callback)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)  # nothing comes after it


def told_first() -> None:
    threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGTERM)).start()
    raise RuntimeError("DataLoader worker is killed by signal: Terminated.")


def told_while_cleaned_up() -> None:
    try:
        raise RuntimeError("DataLoader worker is killed by signal: Terminated.")
    finally:
        finalizer()


@pytest.mark.parametrize("fail", [told_first, told_while_cleaned_up])
def test_an_error_that_a_stop_led_to_is_the_stop(
    signals: Signals, fail: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal to a whole group may end a loader process before it arrives here."""
    monkeypatch.setattr("trainrun.runtime.signals.GROUP_S", 60.0)  # on a busy machine it comes late
    with pytest.raises(Stopped, match="SIGTERM"), signals.interruptible():
        fail()


def test_an_error_without_a_stop_is_itself(signals: Signals) -> None:
    with pytest.raises(ValueError, match="a bad sample"), signals.interruptible():
        raise ValueError("a bad sample")


def test_elsewhere_a_signal_waits_for_the_check(signals: Signals) -> None:
    with signals.interruptible():
        pass
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Stopped), signals.interruptible():
        raise AssertionError("begun after the signal")


def test_usr1_asks_for_one_save(signals: Signals) -> None:
    signal.raise_signal(signal.SIGUSR1)
    signals.check()
    assert signals.take_save()
    assert not signals.take_save()


def test_a_time_limit_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("trainrun.runtime.signals.time", SimpleNamespace(monotonic=lambda: now[0]))
    signals = Signals(time_limit_s=5.0)
    signals.install()
    try:
        now[0] += 4.9
        signals.check()
        now[0] += 0.2
        with pytest.raises(Stopped, match="time_limit"):
            signals.check()
    finally:
        signals.restore()
    assert exit_code("time_limit") == 124


def test_after_a_run_the_handlers_are_the_old_ones() -> None:
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        _check_that_handlers_come_back()
    finally:
        signal.signal(signal.SIGINT, ours)


def _check_that_handlers_come_back() -> None:
    numbers = [signal.SIGUSR1, *(getattr(signal, name) for name in INTERRUPTED)]
    before = [signal.getsignal(number) for number in numbers]
    signals = Signals()
    signals.install()
    assert all(signal.getsignal(n) != old for n, old in zip(numbers, before, strict=True))
    signal.raise_signal(signal.SIGINT)  # and no KeyboardInterrupt
    signals.restore()
    assert [signal.getsignal(number) for number in numbers] == before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signals.restore()  # twice is once


def test_in_another_thread_nothing_is_installed_and_nothing_fails() -> None:
    before, failures = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        try:
            signals = Signals()
            signals.install()
            signals.restore()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
    assert signal.getsignal(signal.SIGINT) is before
