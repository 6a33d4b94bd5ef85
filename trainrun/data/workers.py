"""Loader processes that died: what became of them, and what to do about it."""

from __future__ import annotations

import re
import signal
from collections.abc import Collection
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from trainrun.vocabulary.errors import DataError, OutOfMemoryError, TrainrunError

_BY_TORCH = re.compile(r"DataLoader worker \(pid[^)]*\)(?: is killed by signal: ([^.]+))?")
_NOTICED_S = 2.0  # a process whose connection broke is gone within this time


def workers_error(error: BaseException, workers: Collection[BaseProcess] = ()) -> TrainrunError | None:
    """The error as one of ours where it is the death of a loader process; None where it is another.

    Torch tells of one wherever the run happens to be, so `workers` are known only where samples are read.
    """
    match = _BY_TORCH.match(str(error)) if isinstance(error, RuntimeError) else None
    if match is None and not (workers and isinstance(error, (OSError, EOFError))):
        return None
    codes = _exit_codes(workers)
    if not codes and match is None:
        return None
    words = match[1] if match else None  # `Killed`, as the system calls a signal
    numbers = (number for number in signal.valid_signals() if words and signal.strsignal(number) == words)
    return _died(codes[0] if codes else -next(numbers, 0))


def _exit_codes(workers: Collection[BaseProcess]) -> list[int]:
    """The exit codes other than 0; a process can be collected only a moment after its pipe has closed."""
    if not any(worker.exitcode for worker in workers):
        running = {worker.sentinel: worker for worker in workers if worker.exitcode is None}
        for sentinel in wait(list(running), _NOTICED_S) if running else ():
            running[sentinel].join(_NOTICED_S)  # type: ignore[index]
    return [worker.exitcode for worker in workers if worker.exitcode]


def _died(code: int) -> TrainrunError:
    """`code` is a process's exit code: negative for a signal, 0 where it is not known."""
    if code == -signal.SIGKILL:
        text = "was killed by SIGKILL, as the system does where memory runs out"
        return OutOfMemoryError(f"data: a loader process {text}; set a smaller data.num_workers, 0 for none")
    if code == -signal.SIGBUS:
        text = "was killed by SIGBUS, as where the shared memory (/dev/shm) that batches go through is full"
        return OutOfMemoryError(f"data: a loader process {text}; enlarge it, or set data.num_workers=0")
    fate = f"was killed by {signal.Signals(-code).name}" if code < 0 else "died"
    fate = f"ended with exit code {code}" if code > 0 else fate
    advice = "data.num_workers=0 reads samples in the run's own process, which shows where"
    return DataError(f"data: a loader process {fate} while it read samples; {advice}")
