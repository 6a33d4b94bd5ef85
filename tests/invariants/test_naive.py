"""The checks of this suite fail for a save that deserves it, each for another one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torture.damage import flipped
from torture.harness import Run, assert_finishes_identical, assert_storage_failed, assert_whole
from torture.naive import VARIANTS
from torture.order import assert_ordered

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names of descriptors are read from /proc")
Straight = Callable[[str], Run]
Check = Callable[[Run, Run, Path], object]


def survives(of: str, nth: int) -> Check:
    """It is killed at an operation, what it left is whole, and it ends as the straight run."""

    def check(run: Run, straight: Run, tmp_path: Path) -> None:
        run.killed(of, nth)
        assert_whole(run)
        assert_finishes_identical(run, straight)

    return check


def goes_on_after(of: str, nth: int) -> Check:
    """The same, and nothing asked of what it left."""

    def check(run: Run, straight: Run, tmp_path: Path) -> None:
        assert_finishes_identical(run.killed(of, nth), straight)

    return check


def is_ordered(run: Run, straight: Run, tmp_path: Path) -> None:
    assert assert_ordered(run.traced(tmp_path / "trace")) >= 3


def passes_over_damage(run: Run, straight: Run, tmp_path: Path) -> None:
    run.killed(r"rename \S+ checkpoints/step-", 4)
    path = run.checkpoint()
    flipped("state.pt", 4 * (path / "state.pt").stat().st_size)(path)
    ended = assert_finishes_identical(run, straight)
    assert f"{path.name} is damaged and skipped" in ended.err


def tells_a_full_disk(run: Run, straight: Run, tmp_path: Path) -> None:
    ended = run.go_on(strikes=[{"what": "ENOSPC", "of": "write .*state.pt", "nth": 2}])
    assert_storage_failed(run, ended, "No space left on device", older=2)


survives_a_kill = survives("^train$", 24)

# The scenario, the check, and what it says of the naive one
CHECKS: dict[str, tuple[str, Check, str]] = {
    "in_place": ("average", goes_on_after("write .*state.pt", 3), "exit 5"),
    "without_rename": ("average", survives("write .*manifest.json", 3), "cannot be read"),
    "manifest_first": ("average", is_ordered, r"manifest.json', '\S+/state.pt'\]"),
    "unsynced": ("average", is_ordered, r"no fsync \S+/state.pt"),
    "old_first": ("tiny", is_ordered, r"rename \S+ \S+-old"),
    "unhashed": ("average", passes_over_damage, "differs"),
    "newest_only": ("average", passes_over_damage, "none of the 1 checkpoints"),
    "forgetful": ("average", survives_a_kill, "where its steps of 4 samples lead to"),
    "uncut": ("average", survives_a_kill, "differs"),
    "hopeful": ("average", tells_a_full_disk, "exit 0"),
}


def test_there_is_a_check_for_each_of_them() -> None:
    assert CHECKS.keys() == VARIANTS.keys()


@pytest.mark.parametrize("variant", CHECKS)
def test_it_is_caught(variant: str, straight: Straight, tmp_path: Path) -> None:
    scenario, check, said = CHECKS[variant]
    run = replace(straight(scenario), folder=tmp_path / "run", saves=variant)
    with pytest.raises(AssertionError, match=said):
        check(run, straight(scenario), tmp_path)


@pytest.mark.parametrize("variant", {check: name for name, (_, check, _) in CHECKS.items()}.values())
def test_the_real_one_is_not(variant: str, straight: Straight, tmp_path: Path) -> None:
    scenario, check, _ = CHECKS[variant]
    check(straight(scenario).new(tmp_path / "run"), straight(scenario), tmp_path)
