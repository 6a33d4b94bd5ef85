"""Splits by group and time, weights of samples, targets of pixels: by values known beforehand."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranked
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from trainrun.assembly.build import build
from trainrun.config.compose.composer import Composer
from trainrun.data.order import hold_out

N = 120
RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(N, 3)).round(3)
VALUES = INPUTS.sum(1) + RANDOM.normal(size=N).round(3)
PATIENTS = [f"p{number}" for number in RANDOM.integers(0, 25, N)]
DATES = [str(np.datetime64("2026-01-01") + day) for day in RANDOM.integers(0, 40, N)]
WEIGHTS = RANDOM.integers(0, 5, N).astype(float)

OWN = """
import csv
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

ROWS = list(csv.DictReader(Path("scans.csv").read_text().splitlines()))


class Scans(Dataset):
    weight = [float(row["weight"]) for row in ROWS]

    def __len__(self):
        return len(ROWS)

    def __getitem__(self, index):
        row = ROWS[index]
        x = torch.tensor([float(row[name]) for name in "abc"])
        entries = {"x": x, "y": float(row["y"]), "patient": row["patient"], "date": row["date"]}
        return entries | {"weight": float(row["weight"])}


class Tuples(Scans):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return sample["x"], sample["y"], sample["patient"]


class Missing(Scans):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return {key: value for key, value in sample.items() if key != "y" or index != 7}


class Negative(Scans):
    weight = [-1.0] * len(ROWS)


class Stream(IterableDataset):
    def __iter__(self):
        return (sample for sample in Scans())


class Pixels(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        image = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(index))
        mask = (image[0] > 1).long() + (image[0] > 0.3).long()
        mask[0] = -100
        return {"image": image, "mask": mask, "weight": float(index % 3)}


def pixels():
    return nn.Conv2d(2, 3, 1)


def linear():
    layer = nn.Linear(3, 1)
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    return layer


def returns_loss(x, y=None):
    return x


def one_mean(outputs, targets):
    return (outputs - targets).square().mean()
"""
KINDS = {
    "csv": ("data=csv", "data.path=scans.csv", "data.target=y"),
    "arrays": ("data=arrays", "data.path=scans.npz"),
    "dataset": ("data=dataset", "data.train._target_=mine.Scans", "task=regression", "loss=mse"),
}
PLAIN = ("init=default", "logger=console", "run_dir=run", "model._target_=mine.linear")
DESCENT = ("optimizer=sgd", "optimizer.lr=0.1", "optimizer.weight_decay=0", "scheduler=constant")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    columns = {"x": INPUTS, "y": VALUES, "patient": PATIENTS, "date": np.array(DATES, "datetime64[D]")}
    np.savez(tmp_path / "scans.npz", **columns, weight=WEIGHTS)  # type: ignore[arg-type]
    lines = ["a,b,c,y,patient,date,weight"]
    for x, y, *rest in zip(INPUTS, VALUES, PATIENTS, DATES, WEIGHTS, strict=True):
        lines.append(",".join(map(str, [*x, y, *rest])))
    (tmp_path / "scans.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "mine.py").write_text(OWN)
    return tmp_path


def evaluations(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "eval" and line["split"] == "val"]


def indices(command: Callable, split: str) -> list[int]:
    """The samples of a stored run's split, as its predictions count them."""
    rows = csv.DictReader(io.StringIO(command("predict", "run", "--split", split).out))
    return [int(row["index"]) for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_no_patient_is_in_two_splits(kind: str, command: Callable, project: Path) -> None:
    said = command(*PLAIN[:3], "model=linear", *KINDS[kind], "data.group=patient", "budget=1step").err
    assert "no patient is in two splits" in said
    splits = [indices(command, split) for split in ("train", "val", "test")]
    patients = [{PATIENTS[index] for index in split} for split in splits]
    assert all(patients) and sum(map(len, patients)) == len(set(PATIENTS))
    assert sorted(index for split in splits for index in split) == list(range(N))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_judged_by_is_later_than_what_is_learned(kind: str, command: Callable, project: Path) -> None:
    said = command(*PLAIN[:3], "model=linear", *KINDS[kind], "data.time=date", "budget=1step").err
    train, val, test = ([DATES[i] for i in indices(command, name)] for name in ("train", "val", "test"))
    assert max(train) < min(val) and max(val) < min(test)
    assert "the latest date is held out" in said


def test_a_column_that_splits_is_learned_from_only_when_told(command: Callable, project: Path) -> None:
    words = (
        "data=csv",
        "data.path=scans.csv",
        "data.target=y",
        "model=linear",
        "logger=console",
        "budget=1step",
    )
    plain = command(*words, "data.group=patient", "run_dir=run").err
    assert "left out: patient (data.group)" in plain and "from 4 columns, 4 of numbers" in plain
    asked = command(*words, "data.group=patient", "data.categorical=[patient]", "run_dir=asked").err
    assert "patient (data.group)" not in asked and "1 of categories: patient" in asked
    tuples = ("data=dataset", "data.train._target_=mine.Tuples", "task=regression", "loss=mse")
    said = command(*tuples, "data.group=2", "model=linear", "logger=console", "budget=1step", "run_dir=t").err
    assert "inputs are 0, the target is 1; left out: 2" in said


def by_hand(steps: int, weights: torch.Tensor) -> list[float]:
    """sum(w l) / sum(w) over the validation samples after each step of descent."""
    x, y = torch.tensor(INPUTS).float(), torch.tensor(VALUES).float()
    rest, _ = hold_out(torch.arange(N), 18, 0, "test", None)
    train, val = hold_out(rest, 18, 0, "val", None)
    layer, losses = nn.Linear(3, 1), []
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)

    def loss(part: torch.Tensor) -> torch.Tensor:
        errors = (layer(x[part])[:, 0] - y[part]).square()
        return (weights[part] * errors).sum() / weights[part].sum()

    for _ in range(steps):
        optimizer.zero_grad()
        loss(train).backward()
        optimizer.step()
        losses.append(loss(val).item())
    return losses


@pytest.mark.parametrize(
    "cut",
    [("batch_size=full",), ("batch_size=28", "loop.accumulate=3"), ("batch_size=50", "loop.accumulate=2")],
)
def test_weights_give_the_weighted_mean_of_the_window(
    cut: tuple[str, ...], command: Callable, project: Path
) -> None:
    """84 training samples: in one, as 28 + 28 + 28, and as 50 + 34."""
    words = ("data.weights=weight", "task.standardize=false", "budget=4step", "loop.eval_every=1step")
    said = command(*PLAIN, *DESCENT, *KINDS["dataset"], *words, *cut).err
    assert "each sample's loss counts weight, metrics count all alike" in said
    measured = evaluations(project)
    assert [line["loss"] for line in measured] == pytest.approx(by_hand(4, torch.tensor(WEIGHTS)), rel=1e-4)
    unweighted = by_hand(4, torch.ones(N))
    assert measured[-1]["loss"] != pytest.approx(unweighted[-1], rel=1e-2)
    again = json.loads(command("eval", "run", "--split", "val").out)
    assert again["loss"] == pytest.approx(min(line["loss"] for line in measured), rel=1e-4)
    assert again["rmse"] ** 2 != pytest.approx(again["loss"], rel=1e-2)  # of all samples alike


def test_weights_of_all_ones_change_nothing(command: Callable, project: Path) -> None:
    text = (project / "scans.csv").read_text().splitlines()
    lines = [text[0], *(line.rpartition(",")[0] + ",1" for line in text[1:])]
    (project / "scans.csv").write_text("\n".join(lines))
    words = (
        "data=csv",
        "data.path=scans.csv",
        "data.target=y",
        "model=linear",
        "logger=console",
        "budget=3ep",
    )
    command(*words, "data.ignore=[weight]", "run_dir=run")
    plain = evaluations(project)
    command(*words, "data.weights=weight", "run_dir=run2")
    (project / "run").rename(project / "plain"), (project / "run2").rename(project / "run")
    for with_weights, without in zip(evaluations(project), plain, strict=True):
        assert with_weights["loss"] == pytest.approx(without["loss"], rel=1e-6)


def test_a_weighted_run_split_by_group_goes_on_to_the_same_bytes(command: Callable, project: Path) -> None:
    words = (*KINDS["csv"], "data.weights=weight", "data.group=patient", "model=linear", "budget=6ep")
    words = (*words, "batch_size=8")
    command(*words, "run_dir=straight")
    command(*words, "run_dir=cut", "runtime.time_limit=0.01s", code=124)
    assert (
        "data.weights: cannot change on resume" in command("resume", "cut", "data.weights=null", code=2).err
    )
    table, text = project / "scans.csv", (project / "scans.csv").read_text()
    table.write_text(text.replace("p1,", "p2,", 1))
    assert "data: the run has seen" in command("resume", "cut", "runtime.time_limit=null", code=4).err
    table.write_text(text)
    command("resume", "cut", "runtime.time_limit=null")
    files = [project / run / "metrics.jsonl" for run in ("straight", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("data.group=doctor",), 2, "data.group: scans.csv has no column doctor"),
        (
            ("data.group=patient", "data.time=date"),
            2,
            "data.time: decides the splits, and so does data.group",
        ),
        (("data.time=date", "data.fold=1"), 2, "data.fold: takes a part by chance"),
        (("data.time=patient",), 4, "data.time: patient must hold numbers, or dates such as 2026-12-31"),
        (
            ("data.weights=patient",),
            4,
            "data.weights: patient must hold numbers of at least 0: could not convert",
        ),
        (("data.weights=weight", "loss._target_=mine.one_mean"), 2, "loss: returns one mean for a batch"),
        (("data=digits", "data.group=patient"), 2, "data.group: has no effect on digits"),
        (("data=text", "data.time=date"), 2, "data.time: has no effect on"),
        (("data=text", "data.weights=w"), 2, "data.weights: has no effect on"),
        (
            ("data=arrays", "data.path=scans.npz", "data.group=doctor"),
            2,
            "scans.npz has no entry doctor with a number, text or date for each row; it has x, y, patient",
        ),
        (
            (*KINDS["dataset"], "data.group=doctor"),
            2,
            "data.group: a sample has no entry 'doctor'; it has x, y, patient, date, weight",
        ),
        (
            (*KINDS["dataset"], "data.group=patient", "data.val={_target_: mine.Scans}"),
            2,
            "data.group: has no effect because the validation split is given",
        ),
        (
            (
                "data=dataset",
                "data.train._target_=mine.Negative",
                "data.weights=weight",
                "task=regression",
                "loss=mse",
            ),
            4,
            "data.weights: sample 0 must have at least 0 as weight, got -1.0",
        ),
        (
            ("data=dataset", "data.train._target_=mine.Stream", "data.val_fraction=0", "data.test_fraction=0")
            + ("data.weights=weight", "task=regression", "loss=mse"),
            2,
            "data.weights: has no meaning on a stream",
        ),
        (
            ("data=dataset", "data.train._target_=mine.Scans", "task=model_loss", "data.weights=weight"),
            2,
            "data.weights: has no meaning with ModelLoss",
        ),
        (
            ("data=digits", "regularization=[mixup]", "+data.weights=w", "model=linear"),
            2,
            "regularization.mixup: mixes samples, whose losses cannot have data.weights",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(
    words: tuple[str, ...], code: int, said: str, command: Callable, project: Path
) -> None:
    base = () if any(word.startswith("data=") for word in words) else KINDS["csv"]
    done = command(*base, "logger=console", "run_dir=run", *words, code=code)
    assert said in done.err and "Traceback" not in done.err
    assert not (project / "run").exists()


def test_a_sample_without_its_target_is_named_by_its_number(command: Callable, project: Path) -> None:
    words = (
        "data=dataset",
        "data.train._target_=mine.Missing",
        "data.targets=y",
        "task=regression",
        "loss=mse",
    )
    done = command(*words, "data.inputs=x", "model=linear", "logger=none", "budget=1ep", code=4)
    assert "sample 7 has no entry 'y'; it has x, patient, date, weight" in done.err


PIXELS = ("data=dataset", "data.train._target_=mine.Pixels", "data.inputs=image", "data.targets=mask")
PIXELS += ("model._target_=mine.pixels", "init=default", "logger=console")


def test_balanced_weights_of_pixels_are_scikit_learns(project: Path) -> None:
    parts = build(Composer().checked([*PIXELS, "loss.class_weights=balanced"]).settings)
    masks = torch.cat([batch.targets.flatten() for batch in parts.data.eval_batches("train")])
    masks = masks[masks != -100].numpy()
    expected = compute_class_weight("balanced", classes=np.arange(3), y=masks)
    weights: Any = parts.task.loss.class_weights  # type: ignore[attr-defined]
    torch.testing.assert_close(weights.double(), torch.tensor(expected), rtol=1e-6, atol=0)


def test_pixels_of_weighted_samples_average_as_torchs_own(project: Path) -> None:
    words = [*PIXELS, "loss.class_weights=balanced", "data.weights=weight"]
    parts = build(Composer().checked(words).settings)
    model, weights = parts.state.model, parts.task.loss.class_weights  # type: ignore[attr-defined]
    batch = next(iter(parts.data.eval_batches("train")))
    losses = nn.functional.cross_entropy(model(batch.inputs), batch.targets, weights, reduction="none")
    each = torch.tensor([index % 3 for index in batch.indices.tolist()])[:, None, None]
    counted = weights[batch.targets.clamp(min=0)] * (batch.targets != -100)
    term, count = parts.task(model, batch).terms["loss"], parts.task.count(batch)["loss"]
    torch.testing.assert_close(term / count, (losses * each).sum() / (counted * each).sum())


def test_predictions_of_pixels_are_a_row_each(command: Callable, project: Path) -> None:
    command(*PIXELS, "budget=2ep", "run_dir=run")
    import trainrun

    rows = list(csv.DictReader(io.StringIO(command("predict", "run", "--split", "val").out)))
    model = trainrun.load("run")
    from_mine: dict[str, Any] = {}
    exec(OWN, from_mine)
    assert len(rows) == 6 * 3 * 3  # six pictures; the first of four lines has no class
    for row in rows:
        sample = from_mine["Pixels"]()[int(row["index"])]
        place = (int(row["row"]), int(row["column"]))
        with torch.no_grad():
            expected = model(sample["image"][None])[0].softmax(0)[:, *place]
        assert int(row["target"]) == sample["mask"][place] != -100
        assert int(row["predicted"]) == expected.argmax()
        assert float(row["probability"]) == pytest.approx(expected.max().item(), rel=1e-5)
    first = trainrun.predict("run", split="val")[0]
    assert (first["row"], first["column"]) == (1, 0) and isinstance(first["predicted"], str)


@pytest.mark.parametrize("labels", [(0, 10), (-1, 1), (3, 4)])
@pytest.mark.parametrize("kind", ["csv", "arrays"])
def test_two_labels_are_predicted_as_they_are(
    kind: str, labels: tuple[int, int], command: Callable, project: Path
) -> None:
    classes = np.where(INPUTS.sum(1) > 0, labels[1], labels[0])
    np.savez(project / "two.npz", x=INPUTS, y=classes)
    rows = [",".join(map(str, [*x, y])) for x, y in zip(INPUTS, classes, strict=True)]
    (project / "two.csv").write_text("\n".join(["a,b,c,y", *rows]))
    data = {"csv": ("data=csv", "data.path=two.csv", "data.target=y")}.get(
        kind, ("data=arrays", "data.path=two.npz")
    )
    command(*data, "model=linear", "logger=console", "run_dir=run", "budget=60ep", "optimizer.lr=0.1")
    rows_of_test = list(csv.DictReader(io.StringIO(command("predict", "run").out)))
    for row in rows_of_test:
        assert int(row["target"]) == classes[int(row["index"])]
    right = [row["predicted"] == row["target"] for row in rows_of_test]
    assert sum(right) >= 0.8 * len(right)
    again = command("predict", "run", "--input", data[1].partition("=")[2]).out
    assert {row["target"] for row in csv.DictReader(io.StringIO(again))} == set(map(str, labels))


def test_a_sigmoid_before_a_loss_of_logits_is_told(command: Callable, project: Path) -> None:
    text = "\n\ndef yes():\n    return nn.Sequential(nn.Linear(3, 1), nn.Sigmoid())\n"
    (project / "mine.py").write_text(OWN + text)
    np.savez(project / "two.npz", x=INPUTS, y=VALUES > 0)
    words = ("data=arrays", "data.path=two.npz", "model._target_=mine.yes", "logger=console", "budget=2step")
    assert "the model ends in a sigmoid, which the loss applies too" in command(*words, "run_dir=run").err
    code = "\n\nclass Own(nn.Linear):\n    def forward(self, x):\n        return {}\n"
    for output, said in (("super().forward(x).sigmoid()", 1), ("super().forward(x).sigmoid() * 9", 0)):
        (project / "mine.py").write_text(OWN + code.format(output))
        model = ("model._target_=mine.Own", "+model.in_features=3", "+model.out_features=1")
        printed = command(*words, *model, f"run_dir=own{said}").err
        assert printed.count("the model ends in a sigmoid") == said


@pytest.mark.parametrize("kind", ["csv", "dataset"])
def test_two_ranks_weigh_as_one_process_that_accumulates(kind: str, project: Path) -> None:
    """84 samples in windows of 16 and one of 4, of which the second rank's part weighs otherwise."""
    words = [*KINDS[kind], "data.weights=weight", "model=linear", "logger=none", "budget=3ep", "batch_size=8"]
    with ranked.serving() as in_ranks:
        ended = in_ranks(2, ranked.command, project, *words, "run_dir=together")
        assert [rank.value and rank.value.code for rank in ended] == [0, 0], ended
        alone = in_ranks(1, ranked.command, project, *words, "loop.accumulate=2", "run_dir=run")
        assert alone[0].value.code == 0, alone
    expected = [line["loss"] for line in evaluations(project)]
    (project / "run").rename(project / "alone"), (project / "together").rename(project / "run")
    assert [line["loss"] for line in evaluations(project)] == pytest.approx(expected, rel=1e-5)


def test_every_question_before_a_run_takes_weights(command: Callable, project: Path) -> None:
    words = (*KINDS["csv"], "data.weights=weight", "model=linear", "budget=2ep")
    done = command("check", *words)
    assert "fails" not in done.out and "each sample's loss counts weight" in done.out
    assert (
        "--as-code: data.weights=weight is not in the plain script"
        in command(*("show", "loop", "--as-code", *words), code=2).err
    )
