"""Weights & Biases itself, offline: its file in the run's folder holds the run, which it does not change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def test_a_run_is_written_offline_and_a_resume_goes_on_with_the_same(
    command: Callable, tmp_path: Path
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    short = ("budget=2step", "data.limit=300", "augment=crop_flip")
    command(*short, "logger=none", "run_dir=plain")
    code = "def probe(model, batches, step): return {'p': next(iter(batches)).inputs[0], 't': [{'a': 1}]}"
    (tmp_path / "my_probe.py").write_text(code)
    words = ("logger=wandb", "logger.wandb.samples=4", "loop.probes=[my_probe.probe]")
    command(*short, *words, "run_dir=shown")
    records = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("plain", "shown")]
    assert records[0] == records[1]
    command("resume", "shown", "budget=3step")
    files = sorted((tmp_path / "shown/wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert len({file.name for file in files}) == 1  # the run's own identity
    for name in (
        b"optimizer.lr",
        b"train/loss",
        b"val/accuracy",
        b"confusion/test",
        b"samples",
        b"probe/p",
        b"probe/t",
    ):
        assert name in files[0].read_bytes(), name
