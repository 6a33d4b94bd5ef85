"""`trainrun export`: a file whose weights another run can begin with, told what it expects."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

import trainrun

SHORT = ("budget=2ep", "logger=none")


def test_the_judged_weights_go_out_and_come_back(command: Callable, tmp_path: Path) -> None:
    command(*SHORT, "regularization=ema", "name=it")
    (run,) = (file.parent for file in tmp_path.glob("outputs/*/*/result.json"))
    done = command("export", "it", "model.safetensors")
    assert done.out == ""
    assert "float32 (N, 1, 8, 8): (x - shift) * scale" in done.err
    assert "classes    0, 1, 2" in done.err
    assert "on 256 samples the largest difference is 0, " in done.err
    size = (tmp_path / "model.safetensors").stat().st_size
    assert done.err.endswith(f"{size:,} bytes: model.safetensors\n")
    own = trainrun.load(str(run)).state_dict()
    found = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(found[name], own[name]) for name in own)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        told = json.loads(file.metadata()["trainrun"])
    best = json.loads((run / "result.json").read_text())["best"]
    assert (told["step"], told["weights"], told["classes"][3]) == (best["step"], "ema", "3")
    stored = torch.load(run / "checkpoints" / f"step-{best['step']:09d}" / "state.pt", weights_only=True)
    assert told["fitted"]["shift"] == stored["fitted"]["shift"].tolist()
    again = command("init_from=model.safetensors", "budget=1step", "logger=none").err
    assert "initialised anew" not in again


def test_mistakes_are_answered_and_leave_nothing(command: Callable, tmp_path: Path) -> None:
    command("budget=1step", "logger=none", "name=it")
    mistakes = {
        ("it",): "PATH: name the file to write",
        (): "RUN: name the run to export",
        ("it", "model.pth"): "must end in .safetensors, .pt2, .onnx, got model.pth",
        ("it", "nowhere/model.pt2"): "there is no folder nowhere",
        ("it", "m.safetensors", "model=mlp"): "makes it another run; export takes runtime.*",
    }
    for words, message in mistakes.items():
        assert message in command("export", *words, code=2).err
    assert (
        "there are best, last and steps 1"
        in command("export", "it", "m.safetensors", "--checkpoint", "7", code=5).err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
