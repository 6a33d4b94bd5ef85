"""Batches of every form, models that bring their loss, and LightningModules: with values known beforehand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import trainrun

DATA = '''
import dataclasses
import torch
from torch.utils.data import Dataset

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.rand(60, 3, generator=GENERATOR) - 0.5
AGES = torch.arange(60.0) % 7
LABELS = (IMAGES.sum(1) > 0).long()


class Dicts(Dataset):
    """Scans with an age and a name."""

    def __len__(self):
        return 60

    def __getitem__(self, i):
        return {"image": IMAGES[i], "age": AGES[i], "label": int(LABELS[i]), "name": f"scan {i}"}


class Pairs(Dicts):
    def __getitem__(self, i):
        return IMAGES[i], IMAGES[i].sum()


class Triples(Dicts):
    def __getitem__(self, i):
        return IMAGES[i], AGES[i], int(LABELS[i])


@dataclasses.dataclass
class Scan:
    image: torch.Tensor
    label: int


class Records(Dicts):
    def __getitem__(self, i):
        return Scan(IMAGES[i], int(LABELS[i]))


class Texts(Dicts):
    """Token sequences of different lengths; the class is that of the first token."""

    def __getitem__(self, i):
        return torch.full((1 + i % 5,), 1 + i % 3), i % 3


SCENES = torch.rand(60, 2, 6, 6, generator=GENERATOR) - 0.5


class Scenes(Dicts):
    """The mask says where the first channel is bright; the border has no class."""

    def __getitem__(self, i):
        mask = (SCENES[i, 0] > 0).long()
        mask[:, 0] = -100
        return {"image": SCENES[i], "mask": mask}


class Depths(Dicts):
    def __getitem__(self, i):
        return SCENES[i], 3 * SCENES[i, 0] + 1


class Sentences(Dicts):
    """A class for each token: whether it is even. Lengths differ."""

    def __getitem__(self, i):
        tokens = torch.arange(i, i + 3 + i % 4) % 8
        return tokens, tokens % 2


def joined(samples):
    return {"x": torch.stack([s["image"] for s in samples]), "y": torch.tensor([s["label"] for s in samples])}
'''

MODELS = '''
import torch
from torch import nn


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, image, age):
        return self.layer(torch.cat([image, age[:, None]], 1))


class Pixels(nn.Module):
    def __init__(self, outputs=2):
        super().__init__()
        self.layer = nn.Conv2d(2, outputs, 1)

    def forward(self, x):
        return self.layer(x)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(8, 2)

    def forward(self, x):
        return self.embed(x)


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(4, 8, padding_idx=0), nn.Linear(8, 3)

    def forward(self, tokens):
        return self.head(self.embed(tokens).sum(1))


class WithLoss(nn.Module):
    """As nanoGPT's: (logits, loss), without targets no loss."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        nn.init.zeros_(self.layer.weight), nn.init.zeros_(self.layer.bias)

    def forward(self, x, targets=None):
        y = self.layer(x)[:, 0]
        return y, None if targets is None else ((y - targets) ** 2).mean()


class Detector(WithLoss):
    """As torchvision's: a dict of losses while training, else predictions."""

    def forward(self, x, targets=None):
        y, loss = super().forward(x, targets)
        return {"loss_box": loss / 4, "loss_label": loss * 3 / 4} if self.training else [y]
'''

LIT = '''
import torch
from torch import nn
from torch.nn import functional as F


class LightningModule(nn.Module):
    """A stand-in for the package's."""


LightningModule.__module__ = "lightning.pytorch.core.module"


class Lit(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        nn.init.zeros_(self.layer.weight), nn.init.zeros_(self.layer.bias)

    def forward(self, x):
        return self.layer(x)[:, 0]

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.mse_loss(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_mae", (self(x) - y).abs().mean())
        self.log("val_loss", F.mse_loss(self(x), y))

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self(batch[0]).mean() * 0 + 7)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)
'''

OWN = ("data=dataset", "init=default", "logger=none", "run_dir=run")
PLAIN = (
    "optimizer=sgd",
    "optimizer.lr=0.5",
    "optimizer.weight_decay=0",
    "scheduler=constant",
    "batch_size=full",
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in (("mine", DATA), ("nets", MODELS), ("lit", LIT)):
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def evaluations(folder: Path, split: str = "val") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "eval" and line["split"] == split]


@pytest.mark.parametrize(
    "words",
    [
        ("data.train._target_=mine.Dicts", "data.inputs=[image,age]", "model._target_=nets.Two"),
        ("data.train._target_=mine.Dicts", "data.inputs=image", "data.targets=label", "model=linear"),
        ("data.train._target_=mine.Dicts", "model=linear"),
        ("data.train._target_=mine.Triples", "model._target_=nets.Two"),
        ("data.train._target_=mine.Records", "model=linear"),
        ("data.train._target_=mine.Dicts", "data.collate=mine.joined", "model=linear"),
        ("data.train._target_=mine.Texts", "data.collate=pad", "model._target_=nets.Bag"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_samples_of_every_form_are_learned(
    words: tuple[str, ...], workers: int, command: Callable, project: Path
) -> None:
    """The classes are separable by a line, or by a token."""
    command(*OWN, *words, "budget=60ep", "optimizer.lr=0.1", f"data.num_workers={workers}")
    assert evaluations(project)[-1]["accuracy"] >= 8 / 9


@pytest.mark.parametrize(
    ("words", "metric", "least"),
    [
        (("data.train._target_=mine.Scenes", "model._target_=nets.Pixels"), "mean_iou", 0.95),
        (
            ("data.train._target_=mine.Sentences", "data.collate=pad", "model._target_=nets.Tagger"),
            "accuracy",
            1,
        ),
        (
            ("data.train._target_=mine.Depths", "model._target_=nets.Pixels", "+model.outputs=1")
            + ("task=regression", "loss=mse"),
            "r2",
            0.999,
        ),
    ],
)
def test_a_target_for_each_pixel_or_token_is_learned(
    words: tuple[str, ...], metric: str, least: float, command: Callable, project: Path
) -> None:
    """Each is a function of its own pixel or token alone, which one layer can give exactly."""
    command(*OWN, *words, "budget=60ep", "optimizer.lr=0.1", "batch_size=8", "loop.accumulate=2")
    last, axes = evaluations(project)[-1], 1 if "mine.Sentences" in words[0] else 2
    assert last[metric] >= least
    again = json.loads(command("eval", "run", "--split", "val").out)
    assert again[metric] == pytest.approx(last[metric], abs=0.01)  # of the best weights
    heads = command("predict", "run").out.partition("\n")[0].split(",")
    assert heads[1 : 1 + axes] == (["step"] if axes == 1 else ["row", "column"])


@pytest.mark.parametrize(("given", "names"), [("Dicts", ["image", "age"]), ("Triples", ["0", "1"])])
def test_a_model_of_several_arguments_is_exported_with_them(
    given: str, names: list[str], command: Callable, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    inputs = ("data.inputs=[image,age]",) if given == "Dicts" else ()
    words = (f"data.train._target_=mine.{given}", *inputs, "model._target_=nets.Two")
    command(*OWN, *words, "budget=1ep")
    said = command("export", "run", "m.pt2").err
    assert "image float32 (N, 3), age float32 (N): " in said or "float32 (N, 3), float32 (N): " in said
    command("export", "run", "m.onnx")
    files = {"trainrun.json": ""}
    program = torch.export.load(project / "m.pt2", extra_files=files).module()
    assert json.loads(files["trainrun.json"])["input"]["shape"] == {names[0]: ["N", 3], names[1]: ["N"]}
    image, age = torch.randn(5, 3), torch.rand(5)
    layer = trainrun.load("run").layer
    outputs = program(image=image, age=age) if inputs else program(image, age)
    torch.testing.assert_close(outputs, layer(torch.cat([image, age[:, None]], 1)))


def test_a_mask_with_255_for_none_is_told(command: Callable, project: Path) -> None:
    (project / "mine.py").write_text(DATA.replace("-100\n", "255\n"))
    words = ("data.train._target_=mine.Scenes", "model._target_=nets.Pixels")
    assert "if 255 means no class, give -100" in command(*OWN, *words, code=2).err


def by_hand(steps: int) -> list[float]:
    """Validation loss after each step of gradient descent on the same split, written out."""
    namespace: dict[str, Any] = {}
    exec(DATA, namespace)
    images, targets = namespace["IMAGES"], namespace["IMAGES"].sum(1)
    from trainrun.data.order import hold_out

    rest, _ = hold_out(torch.arange(60), 9, 0, "test", None)
    train, val = hold_out(rest, 9, 0, "val", None)
    layer, losses = nn.Linear(3, 1), []
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), 0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        (layer(images[train])[:, 0] - targets[train]).square().mean().backward()
        optimizer.step()
        losses.append((layer(images[val])[:, 0] - targets[val]).square().mean().item())
    return losses


@pytest.mark.parametrize(
    ("model", "task", "words"),
    [
        ("nets.WithLoss", "model_loss", ()),
        ("nets.Detector", "model_loss", ()),
        ("lit.Lit", "lightning", ()),
        ("nets.WithLoss", "model_loss", ("batch_size=14", "loop.accumulate=3")),
        ("nets.WithLoss", "model_loss", ("batch_size=10", "loop.accumulate=5")),
    ],
)
def test_a_model_that_brings_its_loss_learns_as_by_hand(
    model: str, task: str, words: tuple[str, ...], command: Callable, project: Path
) -> None:
    """42 training samples: windows of 14 + 14 + 14, and of 10 + 10 + 10 + 10 + 2."""
    given = (f"task={task}", f"model._target_={model}", "data.train._target_=mine.Pairs")
    command(*OWN, *PLAIN, *given, *words, "budget=4step", "loop.eval_every=1step")
    losses = [line["loss"] for line in evaluations(project)]
    assert losses == pytest.approx(by_hand(4), rel=1e-5)
    if model == "nets.Detector":
        last = evaluations(project)[-1]
        assert last["loss_box"] == pytest.approx(last["loss"] / 4)
    if model == "lit.Lit":
        assert 0 < evaluations(project)[-1]["mae"] < 1


def test_a_module_without_forward_is_checked_and_listed_layer_by_layer(
    command: Callable, project: Path
) -> None:
    (project / "lit.py").write_text(
        LIT.replace("def forward(self, x)", "def ahead(self, x)").replace("self(", "self.ahead(")
    )
    given = ("task=lightning", "model._target_=lit.Lit", "data.train._target_=mine.Pairs")
    said = command(*OWN, *PLAIN, *given, "budget=2step", "-v").err
    assert re.search(r"layer +Linear +1 +4\n", said)
    done = command("check", *OWN[:2], *PLAIN, *given)
    assert "fails" not in done.err + done.out


def test_every_way_to_evaluate_calls_a_modules_own_test_step(command: Callable, project: Path) -> None:
    given = ("task=lightning", "model._target_=lit.Lit", "data.train._target_=mine.Pairs")
    command(*OWN, *PLAIN, *given, "budget=2step")
    assert evaluations(project, "test")[-1]["loss"] == 7
    assert json.loads(command("eval", "run", "--split", "test").out)["loss"] == 7
    assert json.loads(command("eval", "run", "--split", "val").out)["loss"] < 7


def test_a_run_of_own_batches_goes_on_to_the_same_bytes(command: Callable, project: Path) -> None:
    words = (
        *OWN[:-1],
        "data.train._target_=mine.Dicts",
        "data.inputs=[image,age]",
        "model._target_=nets.Two",
    )
    command(*words, "budget=6ep", "batch_size=8", "run_dir=straight")
    command(*words, "budget=6ep", "batch_size=8", "run_dir=cut", "runtime.time_limit=0.01s", code=124)
    command("resume", "cut", "runtime.time_limit=null")
    files = [project / run / "metrics.jsonl" for run in ("straight", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("data.inputs=[picture]",),
            "data.inputs: 'picture' is no entry of a sample; it has image, age, label, name",
        ),
        (("data.targets=grade",), "data.targets: 'grade' is no entry of a sample"),
        (("data.inputs=[image,age]", "model=linear"), "model: takes one tensor"),
        (
            ("task=model_loss", "loss=focal", "model._target_=nets.Two"),
            "loss: has no effect with task=model_loss",
        ),
        (("task=lightning", "model._target_=nets.Bag"), "model: Bag has no training_step"),
        (("data.collate=mine.missing",), "data.collate"),
        (
            ("data.train._target_=mine.Scenes", "model._target_=nets.Pixels", "augment=crop_flip"),
            "augment: would change the inputs and not the target of each step or pixel",
        ),
        (
            ("data.train._target_=mine.Scenes", "model=cnn"),
            "model: gives outputs of shape (2, 2) for targets of shape (2, 6, 6)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    words: tuple[str, ...], said: str, command: Callable, project: Path
) -> None:
    done = command(*OWN, "data.train._target_=mine.Dicts", *words, code=2)
    assert said in done.err
    assert not (project / "run").exists()


def test_predictions_of_a_model_with_its_loss(command: Callable, project: Path) -> None:
    given = ("task=model_loss", "model._target_=nets.WithLoss", "data.train._target_=mine.Pairs")
    command(*OWN, *PLAIN, *given, "budget=200step", "loop.eval_every=100step")
    done = command("predict", "run")
    assert done.out or list((project / "run").glob("predictions*"))
