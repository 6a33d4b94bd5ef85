"""The commit of a checkpoint: its order, and a death at every one of its operations."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torture.harness import Run, assert_finishes_identical, assert_whole
from torture.order import assert_ordered, commits
from torture.settings import LONG

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names of descriptors are read from /proc")
Straight = Callable[[str], Run]


def test_files_then_manifest_then_folder_then_rename_then_parent(straight: Straight, tmp_path: Path) -> None:
    expected = straight("average")
    run = Run(expected.server, expected.words, tmp_path / "run")
    operations = run.traced(tmp_path / "trace")
    assert assert_ordered(operations) > 10
    assert sum(text.startswith("rmdir checkpoints/") for text in operations) > 5
    run = Run(expected.server, expected.words, tmp_path / "again").killed(at=1, of="rename.*tmp-step")
    assert assert_ordered(run.traced(tmp_path / "trace again")) > 8


# Every operation of a commit is a place to die: (dies before its own process commits, which commit of that).
SAVES = {"first": (None, 0), "first of a resumed process": ("train", 0), "that removes an old one": ("rename", 0)}


@pytest.mark.parametrize("save", ["first", "resumed, removing an older one", "last"])
def test_dies_at_every_operation(save: str, straight: Straight, tmp_path: Path) -> None:
    expected = straight("tiny")
    base = Run(expected.server, expected.words, tmp_path / "base")
    if save != "first":
        base.killed(at=1 if save == "last" else 0, of="rename.*-old" if save == "last" else "train")
    whole = base.copy(tmp_path / "whole") if base.folder.exists() else Run(base.server, base.words, tmp_path / "whole")
    operations = whole.traced(tmp_path / "trace")
