"""`trainrun check --exact`: says identical of what is, and of what is not, where and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

OWN = """
import os
import torch
from torch import nn
from torch.utils.data import Dataset


class Points(Dataset):
    num_classes = 2

    def __init__(self, counts=False):
        self.counts, self.calls = counts, 0

    def __len__(self):
        return 40

    def __getitem__(self, index):
        self.calls += 1
        shift = self.calls / 100 if self.counts else 0.0
        return torch.randn(4) + index % 2 + shift, index % 2


class Net(nn.Module):
    def __init__(self, input_shape, num_outputs, fault=""):
        super().__init__()
        self.layer, self.fault, self.calls = nn.Linear(4, num_outputs), fault, 0
        self.drop = nn.Dropout(0.3)
        self.register_buffer("seen", torch.zeros(4), persistent=False)

    def forward(self, x):
        if self.training:
            self.calls += 1
            self.seen += x.mean(0)
        if self.fault == "random":
            x = x + int.from_bytes(os.urandom(2), "big") / 1e5
        if self.fault == "attribute":
            x = x * (1 + self.calls / 100)
        if self.fault == "buffer":
            x = x + self.seen
        return self.layer(self.drop(x))

    def load_state_dict(self, state, strict=True):
        if self.fault == "loading":
            state = {key: value * 1.001 for key, value in state.items()}
        return super().load_state_dict(state, strict)


class Forgetful(torch.optim.SGD):
    def step(self, closure=None):
        self.calls = getattr(self, "calls", 0) + 1
        for group in self.param_groups:
            group["lr"] *= 1 / self.calls
        return super().step(closure)
"""
DATA = "+data.{}={{_target_:own.Points,counts:{}}}"
WORDS = ("data=dataset", "model._target_=own.Net", "batch_size=8", "budget=6ep", "runtime.threads=1")


def check(command: Callable, folder: Path, *words: str, counts: bool = False, code: int = 3) -> str:
    (folder / "own.py").write_text(OWN)
    data = [DATA.format(split, str(counts).lower()) for split in ("train", "val")]
    return command("check", "--exact", "--steps", "8", *WORDS, *data, *words, code=code).out


@pytest.mark.parametrize("words", [(), ("regularization=ema", "data.num_workers=2", "loop.accumulate=2")])
def test_a_sound_run_is_identical(words: tuple[str, ...], command: Callable, tmp_path: Path) -> None:
    out = check(command, tmp_path, *words, code=0)
    assert "8 steps, twice: the same" in out
    # Step 4's, or where the disk was slow a later one that was on it at the kill.
    assert re.search(r"gone on from step [4-7]: the same\nidentical\n", out)
    assert {path.name for path in tmp_path.iterdir()} <= {"own.py", "__pycache__"}  # no run is left behind


FAULTS = {  # how many steps after the stored one it shows, and why; None: before anything is killed
    "random": (None, "no run of this configuration is repeated exactly"),
    "attribute": (1, "what no checkpoint holds"),
    "buffer": (1, "what no checkpoint holds"),
    "loading": (0, "changed by loading"),
}


def steps_until_it_differs(out: str) -> int:
    """From the step that the killed run went on from to the first that differs."""
    (found,) = re.findall(r"from step ([4-7]) on, it differs after step (\d) in model/layer", out)
    return int(found[1]) - int(found[0])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_models_fault_is_found_with_its_cause(fault: str, command: Callable, tmp_path: Path) -> None:
    steps, why = FAULTS[fault]
    out = check(command, tmp_path, f"+model.fault={fault}")
    assert why in out
    if steps is None:
        assert "two runs differ after step 1" in out
    else:
        assert steps_until_it_differs(out) == steps


def test_a_data_set_that_counts_is_found(command: Callable, tmp_path: Path) -> None:
    out = check(command, tmp_path, counts=True)
    assert steps_until_it_differs(out) == 1 and "a counter or cache in the data set" in out


def test_an_optimizer_that_forgets_is_found(command: Callable, tmp_path: Path) -> None:
    out = check(command, tmp_path, "optimizer=sgd", "optimizer._target_=own.Forgetful")
    assert steps_until_it_differs(out) == 1 and "the optimizer, schedule or average" in out


def test_what_cannot_be_compared_is_said(command: Callable, tmp_path: Path) -> None:
    assert "gone on from step" in check(command, tmp_path, "budget=5step", code=0)  # shorter than asked
    assert "a single step" in check(command, tmp_path, "budget=1step")
    assert "optimizer.lr" in command("check", "--exact", "optimizer.lr=-1", code=2).err
    assert "at least 2" in command("check", "--exact", "--steps", "1", code=2).err


def test_without_exact_the_plan_is_printed_and_nothing_is_written(command: Callable, tmp_path: Path) -> None:
    done = command("check", "data=synthetic_table", "model=linear", "budget=3step")
    assert "steps      3 (3step)" in done.out
    assert not (tmp_path / "outputs").exists()


def test_the_default_run_is_asked_everything(command: Callable, tmp_path: Path) -> None:
    done = command("check", "--picture", "batch.png", "augment=crop_flip")
    for title in ("plan", "data", "splits", "probe", "model", "numbers", "modes", "start", "overfit"):
        assert f"\n{title}\n" in f"\n{done.out}"
    assert "= ln 10" in done.out and "picture" in done.out
    assert done.out.endswith("\nnothing found\n")
    assert [path.name for path in tmp_path.iterdir()] == ["batch.png"]


def test_what_cannot_be_composed_is_refused_before_anything(command: Callable, tmp_path: Path) -> None:
    assert "val/accuracy" in command("check", "monitor=val/acuracy", code=2).err
    assert "optimizer.lr" in command("check", "optimizer.lr=-1", code=2).err
    assert "FILE.png" in command("check", "--picture", "batch.jpg", code=2).err
    assert "no folder" in command("check", "--picture", "pictures/batch.png", code=2).err
    command("check", "--exact", "--json", code=2)
    assert not list(tmp_path.iterdir())


def test_a_finding_ends_in_a_command_that_can_be_pasted(command: Callable) -> None:
    out = command("check", "data.limit=2", "parameters.rules={head*:{lr:0.5}}", code=3).out
    assert "\nfound: too few training samples\n" in out
    assert out.endswith("\n  trainrun check data.limit=null 'parameters.rules={head*:{lr:0.5}}'\n")


def test_an_error_of_the_users_own_code_is_a_finding(command: Callable, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        OWN.replace("self.calls += 1\n            self.seen", "self.gone\n            self.seen")
    )
    words = ["data=dataset", *(DATA.format(split, "false") for split in ("train", "val"))]
    done = command("check", *words, "model._target_=own.Net", code=3)
    assert "AttributeError: 'Net' object has no attribute 'gone'" in done.out
