"""The projects of `show migrating`, moved as the page says: the numbers are those of the loops they had."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.end_to_end.conftest import Command
from trainrun.cli.guide.pages import files_of

QUIET = ("logger=none", "run_dir=run")
SCANS = ("data=dataset", "data.train._target_=scans.Scans", "model._target_=scans.Pixels")
DICE = ("task._target_=scans.training_step", "monitor=val/dice", "monitor_mode=max")
SPLITS = (("train", 256), ("val", 64))
LIT = ("model._target_=lit.Classifier", "budget=3ep", "init=default")


ROWS = """
from types import SimpleNamespace
from torch import nn
from torch.utils.data import Dataset


def listed():
    return [{"input_ids": [i % 5, i % 2, 1], "mask": [1, 1, 1], "labels": i % 2} for i in range(60)]


class Tokens(Dataset):
    def __init__(self):
        self.rows = listed()

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 8), nn.Linear(24, 2)

    def forward(self, input_ids=None, labels=None):
        logits = self.head(self.embed(input_ids).flatten(1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SimpleNamespace(loss=loss, logits=logits)
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> Path:
    for name, text in files_of("migrating").items():
        (tmp_path / name).write_text(text)
    return tmp_path


def module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"migrated_{file.stem}", file)
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def evaluations(folder: Path, run: str = "run", split: str = "val") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "eval" and line["split"] == split]


def test_a_classifier_trains_as_in_its_own_loop(command: Command, project: Path) -> None:
    shapes = module(project / "shapes.py")
    torch.manual_seed(0)
    net = shapes.Net()
    torch.save(net.state_dict(), project / "start.pt")
    train, val = (
        [torch.stack(part) for part in ([s[0] for s in data], [torch.tensor(s[1]) for s in data])]
        for data in (list(map(shapes.Shapes(split).__getitem__, range(n))) for split, n in SPLITS)
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
    by_hand = []
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(net(train[0]), train[1]).backward()
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            outputs = net(val[0])
        hits = (outputs.argmax(1) == val[1]).float().mean()
        by_hand.append((F.cross_entropy(outputs, val[1]).item(), hits.item()))
    command("shapes.yaml", *QUIET, "init_from=start.pt", "batch_size=full", "budget=6ep")
    for line, (loss, accuracy) in zip(evaluations(project), by_hand, strict=True):
        assert line["loss"] == pytest.approx(loss, rel=1e-4)
        assert line["accuracy"] == pytest.approx(accuracy)


def test_a_language_model_learns_a_text_without_surprises(command: Command, project: Path) -> None:
    """After `a` comes `b` and so on, so that only a window's first letters cost anything."""
    (project / "letters.txt").write_text("abcdefgh" * 800)
    words = ("data=text", "data.path=letters.txt", "data.tokens=characters", "data.block_size=16")
    model = ("model._target_=lm.char_model", "+model.block_size=16", "+model.width=16")
    given = ("task=model_loss", "task.ignore_index=-1", "optimizer.lr=0.02", "loop.eval_every=60step")
    command(*QUIET, *words, *model, *given, "budget=120step")
    assert evaluations(project)[-1]["loss"] < 0.01 < math.log(8)


def test_a_vae_begins_at_the_loss_of_grey_pictures(command: Command, project: Path) -> None:
    """With all weights 0 each pixel is 1/2, which costs log 2, and the code has no divergence."""
    words = ("data=dataset", "data.train._target_=shapes.Shapes", "+data.train.split=train")
    own = ("model._target_=vae.VAE", "task._target_=vae.training_step", "monitor=val/loss")
    command(*QUIET, *words, *own, "init=zeros", "budget=1step", "optimizer.lr=1e-30")
    (line,) = evaluations(project)
    assert line["loss"] == pytest.approx(64 * math.log(2), rel=1e-6)
    assert line["divergence"] == 0
    command(*QUIET[:1], *words, *own, "run_dir=learned")
    assert evaluations(project, "learned")[-1]["loss"] < 45.5
    heads, *rows = command("predict", "run").out.splitlines()
    assert heads.split(",")[:4] == ["index", "target", "predicted_0", "predicted_1"]
    assert all(row.split(",")[2:] == ["0.5"] * 64 for row in rows)


def test_dice_of_whole_masks_is_that_of_the_formula(command: Command, project: Path) -> None:
    """With all weights 0 no pixel is claimed, and half of each is."""
    val = ("data.val._target_=scans.Scans", "data.test_fraction=0")
    command(*QUIET, *SCANS, *val, *DICE, "init=zeros", "budget=1step", "optimizer.lr=1e-30")
    scans = module(project / "scans.py").Scans()
    counts = torch.stack([scans[index]["mask"].sum() for index in range(len(scans))])
    (line,) = evaluations(project)
    assert line["dice"] == pytest.approx(float((1e-6 / (counts + 1e-6)).mean()), rel=1e-3)
    assert line["loss"] == pytest.approx(math.log(2) + 1 - float((counts / (32 + counts)).mean()), rel=1e-5)


def test_masks_are_learned_and_a_killed_run_ends_in_the_same_bytes(command: Command, project: Path) -> None:
    words = (*SCANS, *DICE, "logger=none", "optimizer.lr=0.05", "budget=20ep", "batch_size=8")
    command(*words, "run_dir=straight")
    assert max(line["dice"] for line in evaluations(project, "straight")) > 0.97
    command(*words, "run_dir=cut", "runtime.time_limit=0.01s", code=124)
    command("resume", "cut", "runtime.time_limit=null")
    assert len({(project / run / "metrics.jsonl").read_bytes() for run in ("straight", "cut")}) == 1
    assert "no table" in command("predict", "cut", code=2).err


def test_what_a_module_logs_is_the_accuracy_and_chooses_the_weights(command: Command, project: Path) -> None:
    command(*QUIET, "task=lightning", *LIT, "monitor=val/acc", "monitor_mode=max")
    command("logger=none", "run_dir=built_in", *LIT)
    logged, built_in = evaluations(project), evaluations(project, "built_in")
    assert [line["acc"] for line in logged] == pytest.approx([line["accuracy"] for line in built_in])
    assert [line["loss"] for line in logged] == pytest.approx([line["loss"] for line in built_in], rel=1e-4)
    best = json.loads((project / "run/status.json").read_text())["best"]
    assert best["metrics"]["acc"] == max(line["acc"] for line in logged)


def test_rows_in_a_list_are_a_data_set(command: Command, project: Path) -> None:
    """Such as a table of Hugging Face, which has a length and rows by number, and no torch in it."""
    (project / "rows.py").write_text(ROWS)
    words = ("data=dataset", "task=model_loss", "model._target_=rows.Classifier", "logger=none")
    for name in ("listed", "Tokens"):
        fit = ("batch_size=8", "optimizer.lr=0.1", "budget=10ep", f"run_dir={name}")
        command(*words, f"data.train._target_=rows.{name}", *fit)
    assert evaluations(project, "listed")[-1]["loss"] < 0.05  # the second token is the class
    assert evaluations(project, "listed") == evaluations(project, "Tokens")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("task=lightning", *LIT, "monitor=val/acc"), "monitor_mode: must be max or min"),
        (
            ("task=lightning", *LIT, "monitor=val/dice", "monitor_mode=max"),
            "monitor: there is no val/dice; there are val/loss, val/acc",
        ),
        (
            (*SCANS, *DICE[:1], "monitor=val/iou", "monitor_mode=max"),
            "monitor: there is no val/iou; there are val/loss, val/dice",
        ),
        (
            ("model._target_=lm.CharModel", "+model.config._target_=lm.Config"),
            "model.config._target_: no call has a place here; make the object in a function of yours",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    words: tuple[str, ...], said: str, command: Command, project: Path
) -> None:
    assert said in command(*QUIET, *words, code=2).err
    assert not (project / "run").exists()
