"""A stored run that tests of several modules look at, and change only in a copy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import trainrun

WORDS = ("data=iris", "model=mlp", "model.width=8", "optimizer.lr=0.1", "batch_size=8", "budget=4step")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps of a small model, a checkpoint after each second one."""
    folder = tmp_path_factory.mktemp("stored")
    before = os.getcwd()
    os.chdir(folder)
    try:
        more = ("loop.eval_every=2step", "checkpoint.every=2step", "logger=none", "runtime.threads=1")
        trainrun.train([*WORDS, *more, "run_dir=run"])
    finally:
        os.chdir(before)
    return folder / "run"


@pytest.fixture
def run(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, named `run`, in the folder where the test runs."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(finished_run, "run"))
