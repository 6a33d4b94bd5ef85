"""A fork for each job hears every signal, also one that came before it could."""

from __future__ import annotations

import signal
import time

from trainrun.session.child import in_child


def _wait() -> int:
    time.sleep(10)
    return 0


def test_a_signal_that_came_before_the_fork_could_hear_of_it_is_not_lost() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert in_child(_wait, [], lambda: signal.SIGTERM) == -signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
