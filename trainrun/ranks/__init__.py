"""The processes of one run (ranks): numbers and tensors summed by all-reduce, broadcasts, errors shared.

`torchrun` starts one for each GPU. Each computes its share of every window and every split, and
meets the others only here; with one process these functions give back what they are given.
Gradients are summed by `trainrun/parallel/`, which stands on these.
Whenever the hosts add numbers up, two more go with them: whether a rank was asked to stop, or to
save. So all of them learn of it at the same place, and no step needs a meeting for it alone.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from trainrun.ranks.heartbeat import Heartbeat, guard_nccl
from trainrun.ranks.launcher import RankInfo as RankInfo
from trainrun.ranks.launcher import command as command
from trainrun.ranks.launcher import launched as launched
from trainrun.vocabulary.errors import RankFailedError

if TYPE_CHECKING:  # torch is imported where ranks meet, so that mistakes are answered without it
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)  # for a rank that does not come, until `runtime.timeout` is read
LINGER = timedelta(seconds=5)  # so that the launcher does not end the first rank while it writes why
BUCKET_BYTES = 32 << 20  # above it sending costs more than starting; torch's DDP has 25 MB


_place = RankInfo()
_store: Store | None = None
_heartbeat: Heartbeat | None = None
_timeout = TIMEOUT
_turns = 0  # in which the first process went ahead
_dead: set[int] = set()  # and those that did not come
_asked = [0.0, 0.0]  # of this rank: to stop, to save
_agreed = [False, False]  # the same of any rank, as of the last meeting
_meetings = 0


def rank() -> int:
    """The number of this process, from 0."""
    return _place.rank


def size() -> int:
    """How many processes compute this run."""
    return _place.size


def is_main_process() -> bool:
    """Whether this is the process that writes and speaks."""
    return _place.rank == 0


def rank_info() -> RankInfo:
    """This process among all, and among those of its machine."""
    return _place


def join() -> None:
    """Join the processes that the launcher started, once. Raises RankFailedError if they do not come."""
    global _place, _store, _heartbeat
    info = launched()
    if info.size == 1 or _place.size > 1:
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    # Tensors on the host go by gloo whatever the device; NCCL begins at the first tensor on a GPU.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    guard_nccl()
    with _meeting():
        _store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
        dist.init_process_group(backend, store=_store, rank=info.rank, world_size=info.size, timeout=TIMEOUT)
        _heartbeat = Heartbeat(_store, info.rank, info.size)
    _place = info
    atexit.register(leave, clean=False)


def leave(clean: bool) -> None:
    """The last act of a process; `clean` where every rank came to its end.

    The first rank's end is waited for, so that the launcher, which ends all when one has ended,
    does not end it while it saves or writes what happened.
    """
    global _place, _heartbeat
    if _place.size == 1:
        return
    import torch

    if _heartbeat is not None:
        _heartbeat.close()
    with suppress(RuntimeError, RankFailedError):
        if clean:
            add_numbers([0.0])
        if clean or not torch.cuda.is_available():  # NCCL would wait for what the others never send
            torch.distributed.destroy_process_group()  # a rank that waits for this one stops waiting now
        if not clean and _store is not None:
            _store.set("done", "1") if is_main_process() else _store.wait(["done"], LINGER)
    _place, _heartbeat = RankInfo(), None


def set_timeout(timeout_s: float) -> None:
    """How long a rank is waited for from now on."""
    global _timeout
    _timeout = timedelta(seconds=timeout_s)
    if _place.size > 1 and _store is not None:
        from torch.distributed.distributed_c10d import _set_pg_timeout, _world

        for group in _world.pg_map:
            _set_pg_timeout(_timeout, group)


def end(code: int) -> None:
    """End the process of a rank at once, after what others registered for its end.

    A thread of torch that lets go of a tensor while the interpreter ends would abort the process, and
    the launcher would call a finished run failed (seen in one of some hundred runs).
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def report_failure(error: BaseException) -> bool:
    """Let the others know why this rank ends; returns whether to print it.

    A mistake that all ranks make is printed once, and the first rank says that another one failed.
    """
    if _place.size == 1 or _store is None:
        return True
    if isinstance(error, RankFailedError):
        return is_main_process()
    text = str(error) or type(error).__name__
    with suppress(RuntimeError):
        number, first = json.loads(_store.compare_set("failure", "", json.dumps([_place.rank, text])))
        return bool(number == _place.rank or first != text)
    return True


@contextmanager
def silence_other_ranks() -> Iterator[None]:
    """Within, only the first rank prints; what ends another one is told outside."""
    if is_main_process():
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def local_first() -> AbstractContextManager[None]:
    """The first process of each machine goes ahead, the others follow: for downloads and caches."""
    return _ahead(_place.rank - _place.local_rank, counts=False)


def main_first(counts: bool = False) -> AbstractContextManager[None]:
    """The first process goes ahead; the others wait while it lives or, with `counts`, while it gets on."""
    return _ahead(0, counts)


@contextmanager
def _ahead(first: int, counts: bool) -> Iterator[None]:
    global _turns
    if _place.size == 1 or _store is None or _heartbeat is None:
        yield
        return
    _turns += 1
    key = f"turn {_turns} {first}"
    if _place.rank != first:
        with _meeting():
            _heartbeat.wait(key, first, _timeout.total_seconds(), counts)
    yield
    if _place.rank == first:
        with _meeting():
            _store.set(key, "1")


def progressed() -> None:
    """Note that what others may wait for gets on: a piece of a file was written."""
    if _heartbeat is not None:
        _heartbeat.progress += 1


def start_sum(tensors: Sequence[Tensor]) -> Callable[[], None]:
    """Begin to sum contiguous tensors over the ranks, in place; what is returned waits for the sums."""
    import torch

    with _meeting():
        works = [torch.distributed.all_reduce(tensor, async_op=True) for tensor in tensors]

    def wait() -> None:
        with _meeting():
            for work in works:
                work.wait()

    return wait


def add(tensors: Sequence[Tensor]) -> None:
    """Sum each tensor over the ranks, in place; shapes and types are the same on all."""
    if _place.size == 1:
        return
    import torch

    flats = [(bucket, torch.cat([t.reshape(-1) for t in bucket])) for bucket in _buckets(tensors)]
    start_sum([flat for _, flat in flats])()
    for bucket, flat in flats:
        _copy_back(bucket, flat)


def broadcast(tensors: Sequence[Tensor]) -> None:
    """Give every rank the first one's values, in place and to the last bit."""
    if _place.size == 1:
        return
    import torch

    for bucket in _buckets([tensor.detach() for tensor in tensors]):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        with _meeting():
            torch.distributed.broadcast(flat.view(torch.uint8), 0)
        _copy_back(bucket, flat)


def add_numbers(numbers: Sequence[float]) -> list[float]:
    """Sum each number over the ranks. The hosts meet here, so that a rank that died is noticed."""
    return _on_hosts(numbers, "SUM")


def largest(numbers: Sequence[float]) -> list[float]:
    """Of each number the ranks' largest."""
    return _on_hosts(numbers, "MAX")


def ask(stop: bool = False, save: bool = False) -> None:
    """Let all ranks know, when they next add numbers up, that this one was asked to stop or to save."""
    if _place.size == 1:
        return
    _asked[:] = [float(stop or _asked[0]), float(save or _asked[1])]


def asked() -> list[float]:
    """What this rank was asked, to be summed over all and given to `agree`."""
    sent = [*_asked]
    if sent[1]:  # else a signal may come just now
        _asked[1] = 0.0
    return sent


def agree(asked: Sequence[float]) -> None:
    """Take note, as all ranks do at this place, of what any of them was asked."""
    global _meetings
    _meetings += 1
    _agreed[:] = [before or count > 0 for before, count in zip(_agreed, asked, strict=True)]


def forget_asked() -> None:
    """Begin anew: what was asked and agreed was of a run that has ended."""
    _asked[:], _agreed[:] = [0.0, 0.0], [False, False]


def agreed_to_stop() -> bool:
    """Whether any rank was asked to stop before they last added numbers up; the same on all."""
    return _agreed[0]


def take_agreed_save() -> bool:
    """Whether any was asked to save; each asking counts once."""
    asked, _agreed[1] = _agreed[1], False
    return asked


def num_meetings() -> int:
    """How often the hosts have met: with it grows what they have agreed on."""
    return _meetings


def start_total(numbers: Mapping[str, float | Tensor]) -> Callable[[], dict[str, float | Tensor]]:
    """Begin to sum each number over the ranks; what is returned waits for the sums.

    Those on the host are summed by the host, tensors on their device in float32.
    """
    if _place.size == 1:
        return lambda: dict(numbers)
    from torch import Tensor

    on_host = {name: x for name, x in numbers.items() if not isinstance(x, Tensor)}
    wait = _start_on_hosts(list(on_host.values()), "SUM")
    tensors = {name: x.detach().float().clone() for name, x in numbers.items() if isinstance(x, Tensor)}
    wait_for_tensors = start_sum(list(tensors.values()))

    def finish() -> dict[str, float | Tensor]:
        totals = dict(zip(on_host, wait(), strict=True))
        wait_for_tensors()
        return {**totals, **tensors}

    return finish


def gather(value: T) -> list[T]:
    """Every rank's value, in order; with several ranks tensors are on the host."""
    return [broadcast_object(value, source) for source in range(_place.size)]


def _on_hosts(numbers: Sequence[float], operation: str) -> list[float]:
    return _start_on_hosts(numbers, operation)() if _place.size > 1 else list(numbers)


def _start_on_hosts(numbers: Sequence[float], operation: str) -> Callable[[], list[float]]:
    """Begin to join numbers; with them go what this rank was asked."""
    import torch

    row = torch.tensor([*numbers, *asked()], dtype=torch.float64)
    with _meeting():
        reduce = getattr(torch.distributed.ReduceOp, operation)
        work = torch.distributed.all_reduce(row, reduce, async_op=True)

    def wait() -> list[float]:
        with _meeting():
            work.wait()
        joined = row.tolist()
        agree(joined[-2:])
        return joined[:-2]

    return wait


def broadcast_object(value: T, source: int = 0) -> T:
    """The value of rank `source`: tensors, numbers, texts, and containers of them; no code is unpickled.

    With several ranks tensors are on the host.
    """
    if _place.size == 1:
        return value
    import torch

    body, length = b"", torch.zeros(1, dtype=torch.int64)
    if _place.rank == source:
        buffer = io.BytesIO()
        torch.save(value, buffer)
        body, length[0] = buffer.getvalue(), buffer.tell()
    with _meeting():
        torch.distributed.broadcast(length, source)
        flat = torch.frombuffer(bytearray(body or bytes(int(length))), dtype=torch.uint8)
        torch.distributed.broadcast(flat, source)
    sent: T = torch.load(io.BytesIO(flat.numpy().tobytes()), map_location="cpu", weights_only=True)
    return sent


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Tensors of one type and device together, up to BUCKET_BYTES."""
    buckets: list[list[Tensor]] = []
    kinds = groupby(sorted(tensors, key=lambda t: str((t.dtype, t.device))), lambda t: (t.dtype, t.device))
    for _, same in kinds:
        room = 0
        for tensor in same:
            if room < tensor.nbytes:
                buckets.append([])
                room = BUCKET_BYTES
            buckets[-1].append(tensor)
            room -= tensor.nbytes
    return buckets


def _copy_back(bucket: list[Tensor], flat: Tensor) -> None:
    import torch

    pieces = zip(flat.split([tensor.numel() for tensor in bucket]), bucket, strict=True)
    with torch.no_grad():
        torch._foreach_copy_(bucket, [piece.view(tensor.shape) for piece, tensor in pieces])


@contextmanager
def _meeting() -> Iterator[None]:
    """Raises RankFailedError where the ranks cannot meet, with what is known of the rank at fault."""
    if _heartbeat is not None:
        _heartbeat.meetings += 1
    try:
        yield
    except RuntimeError as error:
        reason = re.sub(r"^\[\S+\] ", "", str(error).splitlines()[0]).partition(". ")[0]  # without C++'s line
        raise RankFailedError(_fault() or f"another rank died: {reason}") from error


def _fault() -> str:
    """Which rank is why the others cannot meet; empty where nothing tells."""
    try:
        if _store is not None and _store.check(["failure"]):
            return "rank {} failed: {}".format(*json.loads(_store.get("failure")))
        missing = _heartbeat.missing() if _heartbeat is not None else {}
        if _store is not None and _store.check(["failure"]):  # it came while the others were looked at
            return "rank {} failed: {}".format(*json.loads(_store.get("failure")))
    except RuntimeError:
        return "rank 0 or its machine died: the store where ranks meet is gone"
    _dead.update(missing)
    ends = [f"rank {rank} {end}" for rank, end in missing.items()]
    late = f" within {_timeout.total_seconds():g} s" if "did not come" in missing.values() else ""
    return f"{', '.join(ends)}{late}" if ends else ""


def is_lowest_living() -> bool:
    """Whether all ranks below this one are known to have died."""
    return all(rank in _dead for rank in range(_place.rank))
