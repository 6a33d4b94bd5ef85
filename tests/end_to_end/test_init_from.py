"""`init_from`: a new run from stored weights, its record, and what a resume of it needs."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

COMMON = ("data=iris", "model=mlp", "logger=console")


def weights_of(run: Path, step: int) -> dict[str, torch.Tensor]:
    file = run / f"checkpoints/step-{step:09d}/state.pt"
    found: dict[str, torch.Tensor] = torch.load(file, weights_only=True)["model"]
    return found


def best_step(run: Path) -> int:
    return int(json.loads((run / "status.json").read_text())["best"]["step"])


@pytest.fixture
def source(command: Callable, tmp_path: Path) -> Path:
    """A run of three classes whose best checkpoint is not its last."""
    command(*COMMON, "name=source", "budget=6ep", "run_dir=outputs/source", "regularization=early_stopping")
    return tmp_path / "outputs/source"


def test_a_run_from_another_begins_with_its_best_weights(
    command: Callable, source: Path, tmp_path: Path
) -> None:
    step = best_step(source)
    still = ("optimizer=sgd", "optimizer.lr=1e-30", "budget=1step")  # so that the first weights are the last
    said = command(*COMMON, *still, "init_from=source", "init=zeros", "run_dir=new").err
    assert f"init from  the raw weights of step {step} in outputs/source/checkpoints" in said
    first, best = weights_of(tmp_path / "new", 1), weights_of(source, step)
    assert all(torch.equal(first[name], best[name]) for name in best)

    state = source / f"checkpoints/step-{step:09d}/state.pt"
    config = yaml.safe_load((tmp_path / "new/config.yaml").read_text())
    recorded = json.loads((tmp_path / "new/environment.json").read_text())["init_from"]
    assert config["init_from"] == recorded["path"] == str(state.parent.relative_to(tmp_path))
    assert recorded["sha256"] == hashlib.sha256(state.read_bytes()).hexdigest()

    for words in (str(state), str(state.parent)):
        command(*COMMON, *still, f"init_from={words}", "run_dir=again")
        again = weights_of(tmp_path / "again", 1)
        assert all(torch.equal(again[name], first[name]) for name in first)
        shutil.rmtree(tmp_path / "again")


def test_another_head_is_initialised_anew_and_told(command: Callable, source: Path, tmp_path: Path) -> None:
    words = ("data=wine", "data.limit=60", "model=mlp", "budget=1step", "init_from=last", "run_dir=new")
    said = command(*words).err
    assert re.search(r"\.weight: \((\d+), 4\) stored, \(\1, 13\) here: initialised anew", said)
    said = command(*COMMON[:1], "model=linear", "init_from=source", "run_dir=none", code=5).err
    assert "nothing in outputs/source/checkpoints" in said
    assert "the model has" in said
    assert not (tmp_path / "none").exists()
    assert "no run is called nobody" in command("init_from=nobody", code=5).err
    assert "there is no file none.pt" in command("init_from=none.pt", code=5).err


def begin_again(run: Path) -> None:
    """As if it had been killed before its first checkpoint."""
    shutil.rmtree(run / "checkpoints")
    for name in ("metrics.jsonl", "timing.jsonl"):
        (run / name).write_bytes(b"")


def test_a_resumed_run_needs_the_source_only_until_its_first_checkpoint(
    command: Callable, source: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command(*COMMON, "init_from=source", "budget=2ep", "run_dir=run")
    straight = (run / "metrics.jsonl").read_bytes()
    begin_again(run)
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {"state": "running"}))
    command("resume", "run")
    assert (run / "metrics.jsonl").read_bytes() == straight

    other = command("resume", "run", "budget=3ep", "init_from=last", code=2).err
    assert "init_from: cannot change on resume" in other
    begin_again(run)
    state = source / f"checkpoints/step-{best_step(source):09d}"
    moved = source.parent.parent / "moved"
    state.rename(moved)
    assert "init_from: " in command("resume", "run", "budget=3ep", code=5).err
    moved.rename(state)
    command("resume", "run", "budget=3ep")
    shutil.rmtree(source)
    command("resume", "run", "budget=4ep")
    assert json.loads((run / "status.json").read_text())["state"] == "completed"


def test_a_source_that_changed_is_refused_where_a_run_begins_again(command: Callable, tmp_path: Path) -> None:
    command(*COMMON, "budget=1step", "run_dir=source")
    state = tmp_path / "source/checkpoints/step-000000001/state.pt"
    torch.save(torch.load(state, weights_only=True)["model"], tmp_path / "w.pt")
    command(*COMMON, "budget=1step", "init_from=w.pt", "run_dir=run")
    weights = torch.load(tmp_path / "w.pt", weights_only=True)
    torch.save({name: tensor + 1 for name, tensor in weights.items()}, tmp_path / "w.pt")
    command("resume", "run", "budget=2step")
    shutil.rmtree(tmp_path / "run/checkpoints")
    assert "w.pt has changed since the run began" in command("resume", "run", "budget=3step", code=5).err
