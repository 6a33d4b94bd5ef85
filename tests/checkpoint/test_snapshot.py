"""A copy that later changes of the source do not reach, in memory that is used again."""

from __future__ import annotations

import io
from resource import RUSAGE_SELF, getrusage

import torch
from torch import nn
from toy import mlp, new_state, same_bits

from trainrun.checkpoint.snapshot import Snapshot


def test_a_copy_is_equal_and_its_source_may_change() -> None:
    state = new_state(mlp(seed=1, batch_norm=True))
    before = torch.load(packed(state.state_dict()), weights_only=True)
    taken = Snapshot().take(state.state_dict())
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.fill_(7.0)
    assert same_bits(taken, before)


def packed(tree: object) -> io.BytesIO:
    body = io.BytesIO()
    torch.save(tree, body)
    body.seek(0)
    return body


def test_the_memory_of_the_first_is_that_of_the_second() -> None:
    snapshot = Snapshot()
    tree = {"a": torch.ones(3), "b": [torch.zeros(3), {"c": torch.arange(4)}], "d": (1, "text", None)}
    first = snapshot.take(tree)
    places = sorted(t.data_ptr() for t in (first["a"], first["b"][0], first["b"][1]["c"]))
    tree["a"] += 1
    second = snapshot.take(tree)
    assert same_bits(second, tree)
    assert sorted(t.data_ptr() for t in (second["a"], second["b"][0], second["b"][1]["c"])) == places


def test_a_tensor_that_comes_later_gets_memory_of_its_own() -> None:
    snapshot = Snapshot()
    snapshot.take({"weight": torch.ones(3)})
    tree = {"weight": torch.ones(3), "momentum": torch.full((3,), 2.0)}  # after the first step
    assert same_bits(snapshot.take(tree), tree)


def test_tied_weights_are_stored_once() -> None:
    model = nn.Sequential(nn.Linear(100, 100, bias=False), nn.Linear(100, 100, bias=False))
    untied = packed(Snapshot().take(model.state_dict())).getbuffer().nbytes
    model[1].weight = model[0].weight
    tied = packed(Snapshot().take(model.state_dict())).getbuffer().nbytes
    assert untied - tied > 39_000


def test_a_part_of_a_large_tensor_does_not_carry_the_rest() -> None:
    large = torch.zeros(100_000)
    assert packed(Snapshot().take({"part": large[:10]})).getbuffer().nbytes < 10_000


def test_memory_order_and_layer_versions_are_kept() -> None:
    kernel = torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    assert Snapshot().take([kernel])[0].stride() == kernel.stride()
    stored = nn.BatchNorm1d(3).state_dict()
    assert Snapshot().take(stored)._metadata == stored._metadata


def test_a_second_copy_pages_in_nothing() -> None:
    state = {"weight": torch.ones(2048, 2048), "moments": [torch.zeros(2048, 2048) for _ in range(2)]}
    snapshot = Snapshot()
    snapshot.take(state)
    before = getrusage(RUSAGE_SELF).ru_minflt
    taken = snapshot.take(state)
    faults = getrusage(RUSAGE_SELF).ru_minflt - before
    assert same_bits(taken, state)
    assert faults < 1000  # of 12,288 pages of 4 KiB


def test_copies_share_no_storage_and_hold_no_more_than_their_own() -> None:
    state = [torch.ones(3), torch.ones(5, dtype=torch.bfloat16), torch.ones(1, dtype=torch.bool)]
    taken = Snapshot().take(state)
    assert [copy.untyped_storage().nbytes() for copy in taken] == [12, 10, 1]
    assert len({copy.untyped_storage().data_ptr() for copy in taken}) == 3


def test_a_tensor_larger_than_a_region_and_one_with_holes_are_copied() -> None:
    large, holes = torch.arange(1 << 25, dtype=torch.int32), torch.arange(24).view(4, 6)[:, ::2]
    assert same_bits(Snapshot().take([large, holes]), [large, holes])


def test_a_conjugate_is_not_taken_for_what_it_shares_memory_with() -> None:
    numbers = torch.randn(3, 2, dtype=torch.complex64)
    copies = Snapshot().take(
        {"numbers": numbers, "conjugate": numbers.conj(), "negative": numbers.conj().imag}
    )
    assert torch.equal(copies["numbers"], numbers)
    assert torch.equal(copies["conjugate"], numbers.conj())
    assert torch.equal(copies["negative"], -numbers.imag)
