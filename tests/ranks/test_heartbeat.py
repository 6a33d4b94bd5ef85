"""Who died and who hangs, named within the timeout; and waits that go on while another gets on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import ranked
from ranked import Ranks
from torch.distributed import HashStore

from trainrun.ranks import heartbeat
from trainrun.ranks.heartbeat import Heartbeat


@pytest.fixture(scope="module")
def in_ranks() -> Iterator[Ranks]:
    with ranked.serving() as ranks:
        yield ranks


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(
    ("how", "said"),
    [("killed", "rank 1 died"), ("hangs", "rank 1 did not come within 2 s")],
)
def test_the_rank_at_fault_is_named(in_ranks: Ranks, size: int, how: str, said: str) -> None:
    began = time.monotonic()
    ended = in_ranks(size, ranked.fail_alone, 1, how)
    assert time.monotonic() - began < 20
    for rank, end in enumerate(ended):
        if rank != 1:
            assert f"RankFailedError: {said}" in end.error, end.error


def test_a_wait_goes_on_while_the_first_gets_on_and_ends_where_it_does_not(in_ranks: Ranks) -> None:
    assert in_ranks.values(2, ranked.wait_for_first, "gets on") == ["done", "done"]
    first, second = in_ranks(2, ranked.wait_for_first, "stands still")
    assert first.error == ""
    assert "rank 0 was waited for in vain" in second.error or "did not come" in second.error


def test_what_a_rank_tells_is_read_by_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.02)
    monkeypatch.setattr(heartbeat, "SILENT_S", 0.2)
    store = HashStore()
    first, second = Heartbeat(store, 0, 3), Heartbeat(store, 1, 3)
    first.meetings = second.meetings = 5
    assert first.missing() == {2: "died"}  # which never told anything
    third = Heartbeat(store, 2, 3)
    third.meetings = 4
    assert first.missing() == {2: "did not come"}
    third.meetings = 5
    assert first.missing() == {}
    second._ended.set()  # as if it were killed
    assert first.missing() == {1: "died"}
    third.close()  # it leaves because of that, too
    assert first.missing() == {1: "died"}
    first.close()
