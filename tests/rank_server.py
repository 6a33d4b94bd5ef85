"""Imports trainrun once and calls functions of ranked.py in forks that are the ranks of one run.

Reads pickled (size, function, arguments); answers with what each rank came to. It never computes
itself, so that every fork begins clean.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import ranked
from end_to_end.server import import_everything
from ranked import Ended
from torch.distributed import TCPStore

from trainrun import ranks

LIMIT_S = 300  # less than ranks.TIMEOUT: what waits for that long has not noticed
COMMANDS = ("command", "on_nodes", "late_ranks", "timed_command", "killed_command", "as_tasks")


def main() -> None:
    gc.collect()
    gc.freeze()  # a fork then copies fewer pages
    while True:
        try:
            job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(answer(*job), sys.stdout.buffer)
        sys.stdout.buffer.flush()


def answer(size: int, function: str, arguments: tuple[Any, ...]) -> list[Ended]:
    if function in COMMANDS:
        import_everything()  # once
    with tempfile.TemporaryDirectory() as folder:
        results = [Path(folder) / str(rank) for rank in range(size)]
        keeper = os.fork()
        if keeper == 0:
            os._exit(keep(results, function, arguments))
        os.waitpid(keeper, 0)
        return [
            pickle.loads(result.read_bytes()) if result.exists() else Ended(None, "died")
            for result in results
        ]


def keep(results: list[Path], function: str, arguments: tuple[Any, ...]) -> int:
    """What torchrun does: start the ranks, hold the store where they find each other, and wait for them."""
    started, reading, writing = [], *os.pipe()
    for rank, result in enumerate(results):
        child = os.fork()  # before the store has threads
        if child == 0:
            os.close(writing)
            said = {"RANK": rank, "WORLD_SIZE": len(results), "LOCAL_RANK": rank}
            said |= {"LOCAL_WORLD_SIZE": len(results), "MASTER_ADDR": "127.0.0.1"}
            said |= {"MASTER_PORT": os.read(reading, 5).decode(), "TORCHELASTIC_USE_AGENT_STORE": True}
            os.environ.update({name: str(value) for name, value in said.items()})
            os._exit(be_rank(result, function, arguments))
        started.append(child)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    os.write(writing, f"{store.port:05}".encode() * len(results))
    deadline, stopped = time.monotonic() + LIMIT_S, set[int]()
    while set(started) - stopped and time.monotonic() < deadline:
        for child in started[:]:
            number, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
            if number and os.WIFSTOPPED(status):
                stopped.add(child)  # which is killed once the others have ended
            elif number:
                started.remove(child)
        time.sleep(0.01)
    for child in started:
        os.kill(child, signal.SIGKILL)
    return 0


def be_rank(result: Path, function: str, arguments: tuple[Any, ...]) -> int:
    os.fsync = lambda descriptor: None  # type: ignore[assignment]  # no test here cuts the power
    faulthandler.dump_traceback_later(LIMIT_S - 5)  # where a rank waits in vain
    value, error = None, ""
    try:
        if function not in COMMANDS:  # which joins and leaves by itself
            ranks.join()
        value = getattr(ranked, function)(*arguments)
    except BaseException as raised:
        ranks.report_failure(raised)
        error = f"{type(raised).__name__}: {raised}\n{traceback.format_exc()}"
    temporary = result.with_suffix(".part")
    temporary.write_bytes(pickle.dumps(Ended(value, error)))
    temporary.rename(result)
    ranks.leave(clean=not error)
    return 0


if __name__ == "__main__":
    main()
