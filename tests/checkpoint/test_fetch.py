"""What ranks stored in shards is resumed by any number of them or one process, and the other way round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import ranked
import sharded
import torch
from ranked import Ranks
from torch import Tensor
from toy import same_bits

from trainrun.checkpoint.reader import manifest_hash

pytestmark = pytest.mark.usefixtures("quick_disk")


def close(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Tensor):
        return torch.allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(close(ours[key], theirs[key]) for key in ours)
    return len(ours) == len(theirs) and all(map(close, ours, theirs)) if isinstance(ours, list) else True


@pytest.mark.parametrize("how", [(2, "shards"), (4, "replicas")])
def test_a_divided_state_is_resumed_by_any_number_of_ranks(
    how: tuple[int, str], in_ranks: Ranks, tmp_path: Path
) -> None:
    state, _ = in_ranks.values(*[how[0], ranked.save_divided, tmp_path, how[1], (3,)])[0]
    (tmp_path / "one").mkdir()
    unbroken, _ = sharded.save_divided(tmp_path / "one", "whole", (6,))
    for size, kind in [how, *([(3, "shards"), (2, "whole")] if how[0] == 2 else [])]:
        for rank in in_ranks.values(size, ranked.resume_divided, tmp_path, kind, 3):
            assert rank["warnings"] == []
            assert same_bits(rank["loaded"], state), (size, kind)
            assert rank["best"][0] == "ema" and same_bits(rank["best"][1], state["averager"]["model"])
            assert close(rank["later"], unbroken)
    alone = sharded.resume_divided(tmp_path, "whole", 3)
    assert same_bits(alone["loaded"], state) and same_bits(alone["best"][1], state["averager"]["model"])


def test_a_manifest_of_numbers_beyond_all_measure_ends_no_rank(in_ranks: Ranks, tmp_path: Path) -> None:
    """Ranks tell one another what is in it; numbers of so many digits go by no other way than as text."""
    in_ranks.values(2, ranked.save_divided, tmp_path, "shards", (2, 3))
    path = tmp_path / "checkpoints" / "step-000000003"
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["state.pt"]["bytes"] = 10**700
    manifest["sha256"] = manifest_hash(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    for rank in in_ranks.values(2, ranked.resume_divided, tmp_path, "shards", 0):
        assert ["bytes in state.pt" in warning for warning in rank["warnings"]] in ([True], [])


def test_a_whole_state_is_resumed_in_shards(in_ranks: Ranks, tmp_path: Path) -> None:
    state, _ = sharded.save_whole(tmp_path)
    for rank in in_ranks.values(2, ranked.resume_divided, tmp_path, "shards", 1):
        assert same_bits(rank["loaded"], state)
        assert rank["best"][0] == "ema" and same_bits(rank["best"][1], state["averager"]["model"])
