"""Start the ranks of a sweep's job, as torchrun would: forks of a process that computes nothing."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from trainrun import ranks
from trainrun.session.child import ENDING, end_with_starter, handled
from trainrun.session.exit_code import run_guarded

_LAST_S = 30.0  # for the others to save and end when a rank has failed; torchrun gives as long
_LOOK_S = 0.05


def in_ranks(size: int, work: Callable[[], int]) -> int:
    """Call `work` in as many processes, which meet as the ranks of one run; returns the first one's code.

    This process keeps the store where they meet. A signal goes to the first, and all learn of it there.
    """
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS"):  # what started the sweep starts no job
        os.environ.pop(name, None)
    if size == 1:
        return work()
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    living, received = dict[int, int](), list[int]()  # the pids of ranks

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if 0 in living:
            os.kill(living[0], number)

    reading, writing = os.pipe()
    with handled(ENDING, forward):
        for rank in range(size):
            if (child := os.fork()) == 0:  # before the store has threads
                os._exit(_be_rank(rank, size, reading, work))
            living[rank] = child
            if rank == 0 and received:
                os.kill(child, received[0])
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        os.write(writing, f"{store.port:05}".encode() * size)
        return _first_code(living)


def _be_rank(rank: int, size: int, reading: int, work: Callable[[], int]) -> int:
    for number in ENDING:  # until the run has handlers of its own
        signal.signal(number, signal.SIG_IGN if rank else signal.SIG_DFL)
    end_with_starter(signal.SIGTERM)
    named = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    os.environ.update({name: str(value) for name, value in named.items()})
    port = os.read(reading, 5).decode()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": "True"}
    code = run_guarded(work, [])
    ranks.leave(clean=False)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _first_code(living: dict[int, int]) -> int:
    """Wait for all; the first rank's exit code. A signal that killed it kills this process as well."""
    codes, until = dict[int, int](), float("inf")
    while living:
        time.sleep(_LOOK_S)
        for rank, child in list(living.items()):
            if time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
            if (ended := os.waitpid(child, os.WNOHANG))[0]:
                del living[rank]
                codes[rank] = os.waitstatus_to_exitcode(ended[1])
                until = min(until, time.monotonic() + _LAST_S) if codes[rank] else until
    if codes[0] < 0:
        with suppress(OSError):  # SIGKILL takes no handler
            signal.signal(-codes[0], signal.SIG_DFL)
        os.kill(os.getpid(), -codes[0])
    return codes[0]
