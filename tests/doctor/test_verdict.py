"""A run's own command with a remedy, and its summary in numbers."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from trainrun.doctor.curves import RecordedRun
from trainrun.doctor.verdict import command, started_with, summary


@pytest.mark.parametrize(
    ("base", "overrides", "line"),
    [
        ([], ["optimizer.lr=1"], "trainrun optimizer.lr=1"),
        (["+optimizer.lr=2", "seed=1"], ["optimizer.lr=1"], "trainrun seed=1 optimizer.lr=1"),
        (["scheduler=step", "scheduler.every=5%"], ["scheduler=cosine"], "trainrun scheduler=cosine"),
        (["model=mlp", "model.width=8"], ["model=linear"], "trainrun model=linear"),
        (["regularization=mixup"], ["regularization=ema"], "trainrun 'regularization=[mixup,ema]'"),
        (
            ["regularization=[mixup,ema]", "regularization.ema.decay=0.9"],
            ["regularization=ema"],
            "trainrun regularization.ema.decay=0.9 'regularization=[mixup,ema]'",
        ),
        (["a=x y; rm -r z"], [], "trainrun 'a=x y; rm -r z'"),
    ],
)
def test_the_command_is_the_runs_own_with_other_settings(
    base: list[str], overrides: list[str], line: str
) -> None:
    assert command(1, base, overrides) == line
    assert command(2, base, overrides) == f"torchrun --nproc-per-node 2 -m {line}"
    assert shlex.split(line)[0] == "trainrun"


def test_what_a_run_like_it_takes_over_is_neither_its_place_nor_its_trust(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    words = ["model=mlp", "name=a", "run_dir=b", "+runtime.trust=[os]", "hydra.verbose=true", "resume=auto"]
    (tmp_path / ".hydra" / "overrides.yaml").write_text("".join(f"- {word}\n" for word in words))
    assert started_with(tmp_path) == ["model=mlp"]
    assert started_with(tmp_path / "nowhere") == []


def test_the_summary_says_what_is_missing() -> None:
    points = [{"step": 10 * n, "loss": 1.0 / n} for n in range(1, 6)]
    whole = RecordedRun({}, {"state": "completed"}, points, points, [], [])
    assert summary(whole) == "50 steps, training loss 1.0000 to 0.2000, validation loss 1.0000 to 0.2000"
    died = RecordedRun({}, {"state": "died"}, points[:2], [], [], [], unread=3)
    assert summary(died) == (
        "20 steps, training loss 1.0000 to 0.5000; it died, so this holds so far; too few points to see a "
        "trend: log more often, as with loop.log_every=2step; without a validation split nothing shows "
        "overfitting; 3 lines of its records cannot be read, and are left out"
    )
