"""The processes of one run (ranks): numbers and tensors summed by all-reduce, broadcasts, errors shared.

`torchrun` or `srun` starts one for each GPU. Each computes its share of every window and every split,
and meets the others only here; with one process these functions give back what they are given.
Gradients are summed by `trainrun/parallel/`, which stands on these.
Whenever the hosts add numbers up, two more go with them: whether a rank was asked to stop, or to
save. So all of them learn of it at the same place, and no step needs a meeting for it alone.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from trainrun.ranks.asked import agree as agree
from trainrun.ranks.asked import agreed_to_stop as agreed_to_stop
from trainrun.ranks.asked import ask as ask
from trainrun.ranks.asked import asked as asked
from trainrun.ranks.asked import forget_asked as forget_asked
from trainrun.ranks.asked import num_meetings as num_meetings
from trainrun.ranks.asked import take_agreed_save as take_agreed_save
from trainrun.ranks.heartbeat import LINGER_S, Heartbeat, Verdict, watch_nccl
from trainrun.ranks.launcher import RankInfo as RankInfo
from trainrun.ranks.launcher import command as command
from trainrun.ranks.launcher import launched as launched
from trainrun.ranks.launcher import leave_store, store_of_attempt
from trainrun.vocabulary.errors import RankFailedError

if TYPE_CHECKING:  # torch is imported where ranks meet, so that mistakes are answered without it
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

BUCKET_BYTES = 32 << 20  # above it sending costs more than starting; torch's DDP has 25 MB
TIMEOUT = timedelta(minutes=10)  # for a rank that does not come, until `runtime.timeout` is read


_place = RankInfo()
_store: Store | None = None
_heartbeat: Heartbeat | None = None


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
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else C++ frames wherever the store is gone
    import torch
    import torch.distributed as dist

    # Tensors on the host go by gloo whatever the device; NCCL begins at the first tensor on a GPU.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    if "nccl" in backend:
        watch_nccl()
    hook = sys.excepthook
    with meeting():
        _store = store_of_attempt(info, TIMEOUT)
        heartbeat = Heartbeat(_store, info.rank, info.size, TIMEOUT.total_seconds())
        dist.init_process_group(backend, store=_store, rank=info.rank, world_size=info.size, timeout=TIMEOUT)
    _place, _heartbeat, sys.excepthook = info, heartbeat, hook  # torch's would swallow what ours prints
    atexit.register(_leave_at_exit)


def leave(clean: bool) -> None:
    """The last act of a process; `clean` where every rank came to its end.

    The lowest living rank's end is waited for, so that the launcher, which ends all when one has
    ended, does not end it while it saves or writes what happened.
    """
    global _place, _heartbeat
    if _heartbeat is None:
        return
    import torch

    with suppress(RuntimeError, RankFailedError):
        if clean:
            add_numbers([0.0])
        # NCCL would wait for what the others never send, and gloo for a collective that nobody ends.
        if clean or not (torch.cuda.is_available() or _heartbeat.has_pending):
            torch.distributed.destroy_process_group()  # a rank that waits for this one stops waiting now
        if not clean and _store is not None:
            _heartbeat.close()  # no beat into a store that is gone
            leave_store(_store, _place.rank, _heartbeat.living, LINGER_S)
    _heartbeat.close()
    _place, _heartbeat = RankInfo(), None


def _leave_at_exit() -> None:
    """Leave, where the process is not ours; gloo's thread would keep one that gave up on a collective."""
    is_stuck = _heartbeat is not None and _heartbeat.has_pending
    leave(clean=False)
    if is_stuck:
        end(RankFailedError.exit_code)


def set_timeout(timeout_s: float | None = None) -> None:
    """Wait so long for a rank that makes no progress, from now on; None: the same for new groups of ranks."""
    if _heartbeat is not None:
        _heartbeat.set_timeout(timeout_s)


@contextmanager
def working(task: str) -> Iterator[None]:
    """Within, others wait for this rank as long as it computes; `task` is what it does, as in "saving"."""
    with _heartbeat.working(task) if _heartbeat is not None else nullcontext():
        yield


def meet() -> None:
    """Wait for all ranks, before they send what is not waited for as long: to GPUs, or in torch's engines."""
    add_numbers([])


def progressed() -> None:
    """Note that what others may wait for gets on: a piece of a file was written. For any thread."""
    if _heartbeat is not None:
        _heartbeat.progress += 1


def is_lowest_living() -> bool:
    """Whether this rank writes and speaks: the first one, or where it died the next that lives."""
    return _place.rank == (min(_heartbeat.living) if _heartbeat is not None else 0)


def verdict() -> Verdict:
    """Why this rank could not meet the others; without text where it could."""
    return _heartbeat.verdict if _heartbeat is not None else Verdict("")


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
    if isinstance(error, RankFailedError):
        return is_lowest_living()
    cause = str(error).partition("\n")[0] or type(error).__name__
    mine = first = Verdict(f"rank {_place.rank} failed: {cause}", cause=cause)
    if _heartbeat is not None:
        with suppress(RuntimeError):
            first = _heartbeat.publish(mine)
    return first.text == mine.text or first.cause != cause


@contextmanager
def silence_other_ranks() -> Iterator[None]:
    """Within, only the first rank prints; what ends another one is told outside."""
    if is_main_process():
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def local_first() -> Iterator[None]:
    """The first process of each machine goes ahead, the others follow: for downloads and caches."""
    if _place.local_rank > 0:
        add_numbers([0.0])
    with working("reading data"):
        yield
    if _place.local_rank == 0:
        add_numbers([0.0])


def start_sum(tensors: Sequence[Tensor], group: Any = None) -> Callable[[], None]:
    """Begin to sum contiguous tensors over the ranks, in place; what is returned waits for the sums.

    `group`: torch's, of some of the ranks.
    """
    waits = [_start(tensor, "SUM", group=group) for tensor in tensors]

    def wait() -> None:
        for wait_for_tensor in waits:
            wait_for_tensor()

    return wait


def broadcast(tensors: Sequence[Tensor]) -> None:
    """Give every rank the first one's values, in place and to the last bit."""
    if _place.size == 1 or not tensors:
        return
    import torch
    from torch._C._distributed_c10d import _compute_bucket_assignment_by_size

    for indices in _compute_bucket_assignment_by_size([*tensors], [BUCKET_BYTES])[0]:
        bucket = [tensors[index].detach() for index in indices]
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        _start(flat.view(torch.uint8), None)()
        pieces = zip(flat.split([tensor.numel() for tensor in bucket]), bucket, strict=True)
        torch._foreach_copy_(bucket, [piece.view(tensor.shape) for piece, tensor in pieces])


def add_numbers(numbers: Sequence[float]) -> list[float]:
    """Sum each number over the ranks. The hosts meet here, so that a rank that died is noticed."""
    return _start_on_hosts(numbers, "SUM")()


def largest(numbers: Sequence[float]) -> list[float]:
    """Of each number the ranks' largest."""
    return _start_on_hosts(numbers, "MAX")()


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


def post(to: int, text: str) -> None:
    """Leave another rank a text, which it must `collect`; also in a thread beside the loop."""
    assert _heartbeat is not None
    with meeting():
        _heartbeat.post(to, text)


def collect(source: int) -> str:
    """The next text of another rank. Raises RankFailedError where none comes and it makes no progress."""
    assert _heartbeat is not None
    with meeting():
        return _heartbeat.collect(source)


def _start_on_hosts(numbers: Sequence[float], operation: str) -> Callable[[], list[float]]:
    """Begin to join numbers; with them go what this rank was asked."""
    if _place.size == 1:
        return lambda: list(numbers)
    import torch

    row = torch.tensor([*numbers, *asked()], dtype=torch.float64)
    wait_for_row = _start(row, operation)

    def wait() -> list[float]:
        wait_for_row()
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
    _start(length, None, source)()
    flat = torch.frombuffer(bytearray(body or bytes(int(length))), dtype=torch.uint8)
    _start(flat, None, source)()
    sent: T = torch.load(io.BytesIO(flat.numpy().tobytes()), map_location="cpu", weights_only=True)
    return sent


def _start(tensor: Tensor, operation: str | None, source: int = 0, group: Any = None) -> Callable[[], None]:
    """Begin to join a contiguous tensor over the ranks, as `Heartbeat.begin` does; what is returned waits."""
    assert _heartbeat is not None
    with meeting():
        return meeting()(_heartbeat.begin(tensor, operation, source, group))


@contextmanager
def meeting() -> Iterator[None]:
    """Raises RankFailedError where the ranks cannot meet, with what is known of the rank at fault."""
    try:
        yield
    except RuntimeError as error:
        text = _heartbeat.judge(error) if _heartbeat is not None else f"the other ranks did not come: {error}"
        raise RankFailedError(text) from error
