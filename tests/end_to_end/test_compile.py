"""runtime.compile through the command, with torch's real compiler, which needs a C++ compiler."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import trainrun
from tests.end_to_end.conftest import Command
from tests.end_to_end.test_finetuning import as_killed_after, same, state_of

pytestmark = pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")), reason="there is no C++ compiler"
)
# 88 samples in batches of 32: the last of each epoch is ragged. Dropout, and an average that is evaluated.
SMALL = ("model=mlp", "model.width=16", "model.dropout=0.5", "data.limit=88", "batch_size=32", "budget=3ep")
RUN = (
    *SMALL,
    "regularization=ema",
    "checkpoint.every=1step",
    "checkpoint.keep_every=1step",
    "logger=console",
)


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("mode", ["step", pytest.param("model", marks=pytest.mark.torture)])
def test_a_compiled_run_resumed_is_the_run_unbroken_and_draws_what_an_uncompiled_one_does(
    mode: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = command(*RUN, f"runtime.compile={mode}", "run_dir=whole")
    assert f"compile    {mode}: some 30 s before the first step, " in done.err
    whole = tmp_path / "whole"
    resumed = as_killed_after(4, whole, tmp_path / "resumed")  # a ragged batch was the third
    command("resume", "resumed")
    assert (resumed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert same(state_of(resumed, 9), state_of(whole, 9))
    command(*RUN, "run_dir=plain")
    assert losses(whole) == pytest.approx(losses(tmp_path / "plain"), rel=1e-3)  # of the same dropout
    assert list(state_of(whole, 9)["model"]) == list(state_of(tmp_path / "plain", 9)["model"])

    monkeypatch.chdir(tmp_path)
    model = trainrun.load(whole)
    assert model._compiled_call_impl is None and model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    command("eval", "whole")
    command("predict", "whole", "--out", "rows.csv")
    command("export", "whole", "weights.pt2")
    command(*SMALL, "init_from=whole", "run_dir=next", "logger=none")


def test_the_model_alone_is_compiled_and_bf16_with_it(command: Command, tmp_path: Path) -> None:
    command(*SMALL, "precision=bf16", "runtime.compile=model", "run_dir=compiled", "loop.log_every=1step")
    command(*SMALL, "precision=bf16", "run_dir=plain", "loop.log_every=1step")
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=0.1, abs=0.02)


def test_without_a_compiler_the_reason_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "trainrun", *SMALL, "runtime.compile=model", "run_dir=run"]
    caches = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    environment = os.environ | caches | {"CXX": "/nowhere/g++"}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "runtime.compile: needs a C++ compiler" in done.stderr and "Traceback" not in done.stderr
    assert "trainrun " in done.stderr and "runtime.compile=off" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


OWN = """
from torch import nn

class Lit(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])
"""


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("model", "runtime.compile: has no effect: the task never calls the model itself; use off"),
        ("step", "runtime.compile: step would compile anew at each step, whose number a LightningModule"),
    ],
)
def test_a_module_whose_forward_is_not_what_trains_is_refused(
    mode: str, message: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "lit.py").write_text(OWN)
    words = ("model._target_=lit.Lit", "task=lightning", "monitor=val/loss", "run_dir=run")
    assert message in command(*words, f"runtime.compile={mode}", code=2).err
    assert not (tmp_path / "run").exists()
