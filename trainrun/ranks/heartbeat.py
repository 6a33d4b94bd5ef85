"""Whether the ranks of a run are alive and get on: each tells the others once a second, in their store.

A rank that was killed or stopped tells nothing more; one that hangs goes on telling, with a number of
meetings that stays behind. So both can be named, and a wait for one that works may go on.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

EVERY_S = 1.0
SILENT_S = 3.5  # without a sign: three were left out

# What makes a hung collective of NCCL end the process, and leave a record of the last ones; the user's win.
WATCHDOG = {
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
    "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
    "TORCH_FR_BUFFER_SIZE": "2000",  # collectives
}


class _Sign(NamedTuple):
    """What a rank last told: how often it has told anything, and how often it has met and got on."""

    beats: int
    meetings: int
    progress: int


_LEFT = _Sign(0, 0, 0)


class Heartbeat:
    """Tells of this rank until it is closed, and looks at the others."""

    def __init__(self, store: Store, rank: int, size: int) -> None:
        self.store, self.rank, self.size = store, rank, size
        self.meetings = 0  # of the hosts or devices that this rank has begun
        self.progress = 0
        self._beats = 0
        self._ended = threading.Event()
        self._tell()
        threading.Thread(target=self._go_on, name="heartbeat", daemon=True).start()

    def close(self) -> None:
        """Tell nothing more, and that this rank has left by itself."""
        self._ended.set()
        with suppress(RuntimeError):
            self.store.set(f"sign {self.rank}", " ".join(map(str, _LEFT)))

    def _go_on(self) -> None:
        with suppress(RuntimeError):  # the store is gone, and with it whoever would read this
            while not self._ended.wait(EVERY_S):
                self._tell()

    def _tell(self) -> None:
        self._beats += 1
        self.store.set(f"sign {self.rank}", f"{self._beats} {self.meetings} {self.progress}")

    def sign_of(self, rank: int) -> _Sign | None:
        """What a rank told last; None before its first sign. Raises RuntimeError without a store."""
        key = f"sign {rank}"
        return _Sign(*map(int, self.store.get(key).split())) if self.store.check([key]) else None

    def missing(self) -> dict[int, str]:
        """The other ranks that died, by number, else those that stay behind: what is wrong, in words.

        Takes some seconds. Raises RuntimeError where the store is gone.
        """
        others = [rank for rank in range(self.size) if rank != self.rank]
        before = {rank: self.sign_of(rank) for rank in others}
        time.sleep(SILENT_S)
        after = {rank: self.sign_of(rank) for rank in others}
        others = [rank for rank in others if after[rank] != _LEFT]  # for the same reason as this one
        if dead := [rank for rank in others if after[rank] == before[rank]]:
            return dict.fromkeys(dead, "died")
        late = [rank for rank in others if (sign := after[rank]) and sign.meetings < self.meetings]
        return dict.fromkeys(late, "did not come")

    def wait(self, key: str, rank: int, limit_s: float, counts: bool) -> None:
        """Wait for `key` in the store, up to `limit_s` from the last sign that `rank` got on.

        With `counts` only progress is one, else that it lives. Raises RuntimeError.
        """
        last, since = None, time.monotonic()
        while not self.store.check([key]):
            sign = self.sign_of(rank)
            mark = sign and (sign.progress if counts else sign.beats)
            if mark != last:
                last, since = mark, time.monotonic()
            if time.monotonic() - since > (limit_s if counts else min(limit_s, 10 * SILENT_S)):
                raise RuntimeError(f"rank {rank} was waited for in vain")
            if self.store.check(["failure"]):
                raise RuntimeError("a rank failed")
            time.sleep(0.02)


def guard_nccl() -> None:
    """Set torch's watchdog, before the ranks meet, where the user has not."""
    for name, value in WATCHDOG.items():
        os.environ.setdefault(name, value)
