"""`trainrun predict`: what the stored weights say, by hand; and eval's numbers."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn import metrics as sk

import trainrun

SHORT = ("budget=2ep", "logger=none", "name=it")


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def stored(folder: Path) -> tuple[Any, dict[str, Any]]:
    """(the model, what the checkpoint says of the data), as a user's own code gets them."""
    (run,) = (file.parent for file in folder.glob("outputs/*/*/config.yaml"))
    step = json.loads((run / "result.json").read_text())["best"]["step"]
    parts = torch.load(run / "checkpoints" / f"step-{step:09d}" / "state.pt", weights_only=True)
    return trainrun.load(str(run)), parts["fitted"]


def standardized(inputs: np.ndarray, fitted: dict[str, Any]) -> torch.Tensor:
    return (torch.from_numpy(inputs).float() - fitted["shift"]) * fitted["scale"]


def test_classes_are_those_of_a_forward_pass_by_hand_and_as_right_as_eval_says(
    command: Callable, tmp_path: Path
) -> None:
    command(*SHORT, "regularization=[dropout,ema]")
    done = command("predict", "it", "--split", "test", "--out", "predictions.csv")
    assert done.out == ""
    assert "270 predictions: predictions.csv" in done.err
    text = (tmp_path / "predictions.csv").read_text()
    assert (
        command("predict", "last").out == text
    )  # the test split is the default, stdout where no file is named
    found = rows(text)
    model, fitted = stored(tmp_path)
    loaded = datasets.load_digits()
    index = [int(row["index"]) for row in found]
    with torch.no_grad():
        expected = torch.softmax(
            model(standardized(loaded.images[index][:, None], fitted)).double(), 1
        ).numpy()
    probabilities = np.array([[float(row[f"p_{c}"]) for c in range(10)] for row in found])
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose([float(row["probability"]) for row in found], expected.max(1), rtol=1e-5)
    predicted, targets = ([int(row[key]) for row in found] for key in ("predicted", "target"))
    assert predicted == expected.argmax(1).tolist()
    assert targets == loaded.target[index].tolist()
    judged = json.loads(command("eval", "it", "--split", "test").out)
    assert judged["accuracy"] == sk.accuracy_score(targets, predicted)
    assert judged["loss"] == pytest.approx(sk.log_loss(targets, expected), rel=1e-5)
    assert not list(tmp_path.glob(".tmp*"))


def test_values_are_in_the_targets_own_units(command: Callable, tmp_path: Path) -> None:
    command("data=diabetes", *SHORT)
    found = rows(command("predict", "it").out)
    model, fitted = stored(tmp_path)
    loaded = datasets.load_diabetes(scaled=False)
    index = [int(row["index"]) for row in found]
    with torch.no_grad():
        outputs = model(standardized(loaded.data[index], fitted)).double()[:, 0]
    expected = outputs * fitted["target_std"] + fitted["target_mean"]
    predicted, targets = (np.array([float(row[key]) for row in found]) for key in ("predicted", "target"))
    np.testing.assert_allclose(predicted, expected, rtol=1e-5)
    np.testing.assert_array_equal(targets, loaded.target[index])
    judged = json.loads(command("eval", "it", "--split", "test").out)
    assert judged["rmse"] == pytest.approx(sk.root_mean_squared_error(targets, predicted), rel=1e-5)


def test_a_file_of_the_same_samples_is_predicted_alike(command: Callable, tmp_path: Path) -> None:
    command(*SHORT)
    known = rows(command("predict", "it").out)
    images = datasets.load_digits().images[[int(row["index"]) for row in known]]
    np.save(tmp_path / "new.npy", images.astype(np.uint8))
    found = rows(command("predict", "it", "--input", "new.npy", "data.eval_batch_size=50").out)
    assert [row["index"] for row in found] == [str(n) for n in range(270)]
    assert all("target" not in row for row in found)
    for row, same in zip(found, known, strict=True):
        assert row["predicted"] == same["predicted"]
        assert float(row["probability"]) == pytest.approx(float(same["probability"]), rel=1e-5)


def test_a_table_of_ones_own_is_predicted_from_a_file(command: Callable, tmp_path: Path) -> None:
    (tmp_path / "houses.csv").write_text((Path(__file__).parent / "houses.csv").read_text())
    command("data=csv", "data.path=houses.csv", "data.target=price", *SHORT)
    known = {row["index"]: row for row in rows(command("predict", "it", "--split", "train").out)}
    found = rows(command("predict", "it", "--input", "houses.csv").out)
    lines = rows((tmp_path / "houses.csv").read_text())
    assert len(found) == len(lines)
    for row, line in zip(found, lines, strict=True):
        assert float(row["target"]) == float(line["price"])
        if row["index"] in known:
            assert float(row["predicted"]) == pytest.approx(float(known[row["index"]]["predicted"]), rel=1e-5)


def test_a_table_in_another_notation_is_read_so_ever_after(command: Callable, tmp_path: Path) -> None:
    lines = [f"{n};{n % 7},5;{1 + n}.{200 + n},25 €;{('Köln', 'Rom')[n % 2]}" for n in range(60)]
    text = "\n".join(["id;area;price;city", *lines]).encode("cp1252")
    (tmp_path / "t.gz").write_bytes(gzip.compress(text))
    done = command(
        "data=csv", "data.path=t.gz", "data.target=price", "data.ignore=[id]", "name=it", "budget=2ep"
    )
    for said in (
        "unpacked from gzip",
        "read as latin-1 (Windows-1252): byte 0x80",
        "price is learned as a value",
        "read with decimal comma, point between thousands, currency €: price",
        "read with decimal comma: area",
    ):
        assert said in done.err
    command("resume", "it", "budget=4ep")
    same = rows(command("predict", "it", "--split", "train").out)
    assert [float(row["target"]) for row in same] == [
        1000 + 1000 * int(row["index"]) + 200 + int(row["index"]) + 0.25 for row in same
    ]
    # Alone 3,500 might be 3500, and 1.200 little more than 1.
    (tmp_path / "new.csv").write_text(
        "city;area;price\nKöln;3,500;1.200\nRom;2,500;2.300\n", encoding="utf-8"
    )
    found = rows(command("predict", "it", "--input", "new.csv").out)
    assert [float(row["target"]) for row in found] == [1200, 2300]
    (tmp_path / "plain.csv").write_text("city,area,price\nKöln,3.5,1200\nRom,2.5,2300\n", encoding="utf-8")
    told = command("predict", "it", "--input", "plain.csv", code=4).err
    assert (
        "plain.csv:2, 3: column area is not a number written as in training (decimal comma), got '3.5'"
        in told
    )


def test_views_change_eval_and_predict_alike(command: Callable, tmp_path: Path) -> None:
    command(*SHORT, "augment=crop_flip")
    plain = json.loads(command("eval", "it", "--split", "test").out)
    done = command("eval", "it", "--split", "test", "--tta", "flip,crop")
    judged = json.loads(done.out)
    assert "the mean output of 10 views; mirrored; moved by 1 and 1 pixels" in done.err
    assert judged["tta"] == "flip,crop"
    assert judged["loss"] != plain["loss"]
    found = rows(command("predict", "it", "--tta", "flip,crop").out)
    assert judged["accuracy"] == sum(row["target"] == row["predicted"] for row in found) / len(found)
    note = "the run was trained without mirrored pictures"
    assert note not in done.err
    command("budget=1step", "logger=none", "name=plain")
    assert note in command("eval", "plain", "--tta", "flip").err


MISTAKES = {
    "a folder": (("--out", "nowhere/p.csv"), 2, "--out: there is no folder nowhere"),
    "no file": (("--input", "gone.npy"), 4, "--input: there is no file gone.npy"),
    "a file that is none": (("--input", "text.txt"), 4, "--input: text.txt: must be .npy, .npz"),
    "another shape": (("--input", "other.npy"), 4, "must hold samples as in training, (N, 1, 8, 8)"),
    "two sources": (("--input", "a.npy", "--split", "val"), 2, "not allowed with argument"),
    "a view": (("--tta", "turn"), 2, "--tta: must be flip, crop or flip,crop, got turn"),
    "another run": (("model=mlp",), 2, "makes it another run; predict takes runtime.*"),
}


def test_mistakes_are_answered_and_leave_nothing(command: Callable, tmp_path: Path) -> None:
    command("budget=1step", "logger=none", "name=it")
    (tmp_path / "text.txt").write_text("1 2 3")
    np.save(tmp_path / "other.npy", np.zeros((5, 3)))
    before = sorted(path.name for path in tmp_path.iterdir())
    for words, code, message in MISTAKES.values():
        out = () if "--out" in words else ("--out", "p.csv")
        done = command("predict", "it", *words, *out, code=code)
        assert message in done.err
        assert done.out == ""
    assert "name the run to predict" in command("predict", code=2).err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_table_that_fails_half_way_leaves_the_one_before(command: Callable, tmp_path: Path) -> None:
    command("budget=1step", "logger=none", "name=it")
    (tmp_path / "p.csv").write_text("before")
    values = np.zeros((300, 8, 8))
    values[290, 3, 3] = np.nan
    np.save(tmp_path / "new.npy", values)
    words = ("predict", "it", "--input", "new.npy", "--out", "p.csv", "data.eval_batch_size=100")
    assert "sample 290 has an input that is not a finite number" in command(*words, code=4).err
    assert (tmp_path / "p.csv").read_text() == "before"
    assert not list(tmp_path.glob(".tmp*"))


def test_text_has_no_table(command: Callable, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be " * 50)
    command("data=text", "data.path=text.txt", "model=lstm", "budget=1step", "logger=none", "name=it")
    done = command("predict", "it", code=2)
    assert "which is no table" in done.err
    assert "reads no samples beside its own" in command("predict", "it", "--input", "text.txt", code=2).err
    assert "views pictures" in command("predict", "it", "--tta", "flip", code=2).err
