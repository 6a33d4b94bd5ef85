"""The commit of a checkpoint: its order, and a death at every one of its operations."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torture.harness import Run, assert_finishes_identical, assert_whole
from torture.order import assert_ordered, one_commit
from torture.settings import LONG

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names of descriptors are read from /proc")
Straight = Callable[[str], Run]


def test_files_then_manifest_then_folder_then_rename_then_parent(straight: Straight, tmp_path: Path) -> None:
    run = straight("average").new(tmp_path / "run")
    operations = run.traced(tmp_path / "trace")
    assert assert_ordered(operations) > 10
    assert sum(text.startswith("rmdir checkpoints/") for text in operations) > 5
    run = straight("average").new(tmp_path / "again").killed("rename.*tmp-step", 2)
    assert assert_ordered(run.traced(tmp_path / "trace again")) > 8


# A commit: (what happened before its process, which of the process's commits)
COMMITS = {
    "the first": (None, 0),
    "of a resumed process, removing an older one": (("rename.*-old", 0), 0),
    "the last": (("train", 9), -1),
}


@pytest.mark.parametrize("commit", COMMITS)
def test_death_at_every_operation(
    commit: str, straight: Straight, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    before, which = COMMITS[commit]
    base = straight("tiny").new(tmp_path / "base")
    if before:
        base.killed(*before)
    places = one_commit(base.copy(tmp_path / "whole").traced(tmp_path / "trace"), which)
    assert len(places) >= 11
    places = places if LONG else places[::3]
    for place in places:
        run = base.copy(tmp_path / str(place))
        run.killed("checkpoints", place)
        assert_whole(run)
        assert_finishes_identical(run, straight("tiny"))
    record_property("kills", len(places))
    record_property("identical", len(places))
