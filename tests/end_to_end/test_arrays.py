"""Arrays without code: every format, with values known beforehand."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

N, TRAIN = 300, 240
WEIGHTS = np.array([1.0, -2.0, 3.0, 0.5])
INPUTS = np.random.default_rng(0).normal(size=(N, 4))
TARGETS = INPUTS @ WEIGHTS + 7
SPLIT = {"x_train": INPUTS[:TRAIN], "y_train": TARGETS[:TRAIN]}
SPLIT |= {"x_test": INPUTS[TRAIN:], "y_test": TARGETS[TRAIN:]}
EXACT = ("model=linear", "optimizer=lbfgs", "batch_size=full", "scheduler=constant", "budget=10step")
QUIET = ("data=arrays", "logger=none", "run_dir=run")


def write_npz(folder: Path) -> tuple[str, ...]:
    np.savez(folder / "x.npz", x=INPUTS, y=TARGETS)
    return ("data.path=x.npz",)


def write_pair(folder: Path) -> tuple[str, ...]:
    np.save(folder / "measured.npy", INPUTS)
    np.save(folder / "wanted.npy", TARGETS)
    return "data.path=measured.npy", "data.targets=wanted.npy"


def write_hdf5(folder: Path) -> tuple[str, ...]:
    h5py = pytest.importorskip("h5py", reason="HDF5 is read by h5py, which is not installed")
    with h5py.File(folder / "x.h5", "w") as file:
        for name, values in SPLIT.items():
            entry, split = name.split("_")
            file.create_dataset(f"{split}/{entry}", data=values, chunks=True, compression="gzip")
    return ("data.path=x.h5",)


def write_pt(folder: Path) -> tuple[str, ...]:
    torch.save((torch.tensor(INPUTS), torch.tensor(TARGETS)), folder / "x.pt")
    return ("data.path=x.pt",)


def write_folder(folder: Path) -> tuple[str, ...]:
    (folder / "parts").mkdir()
    for name, values in SPLIT.items():
        np.save(folder / "parts" / f"{name}.npy", values)
    return ("data.path=parts",)


def evaluations(folder: Path, split: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "eval" and line["split"] == split]


@pytest.mark.parametrize("memory_mib", [2048, 0])
@pytest.mark.parametrize("write", [write_npz, write_pair, write_hdf5, write_pt, write_folder])
def test_a_linear_function_is_learned_from_every_format(
    write: Callable, memory_mib: int, command: Callable, tmp_path: Path
) -> None:
    command(*QUIET, *write(tmp_path), *EXACT, f"data.memory_mib={memory_mib}")
    assert evaluations(tmp_path / "run", "test")[-1]["r2"] > 0.9999


def test_pictures_in_a_file_are_learned_as_the_built_in_ones(command: Callable, tmp_path: Path) -> None:
    from trainrun.data.sklearn import digits

    data = digits(0.15, 0.15, 0, None, 5, None, 256)
    np.savez_compressed(
        tmp_path / "digits.npz", images=data.inputs.numpy()[:, 0], labels=data.targets.numpy()
    )
    same = ("model=cnn", "batch_size=32", "budget=20step", "logger=none")
    command("data=digits", *same, "run_dir=built_in")
    command("data=arrays", "data.path=digits.npz", *same, "run_dir=own")
    built_in, own = (tmp_path / run / "metrics.jsonl" for run in ("built_in", "own"))
    assert own.read_bytes() == built_in.read_bytes()


def test_a_run_from_disk_goes_on_to_the_same_bytes_and_knows_its_file(
    command: Callable, tmp_path: Path
) -> None:
    words = ("data=arrays", *write_pair(tmp_path), "data.memory_mib=0", "budget=6ep", "logger=none")
    command(*words, "run_dir=straight")
    command(*words, "run_dir=cut", "runtime.time_limit=0.01s", code=124)
    changed = INPUTS.copy()
    changed[0, 0] += 1
    np.save(tmp_path / "measured.npy", changed)
    assert "measured.npy" in command("resume", "cut", "runtime.time_limit=null", code=4).err
    np.save(tmp_path / "measured.npy", INPUTS)
    command("resume", "cut", "runtime.time_limit=null")
    straight, cut = (tmp_path / run / "metrics.jsonl" for run in ("straight", "cut"))
    assert cut.read_bytes() == straight.read_bytes()


@pytest.mark.parametrize("memory_mib", [2048, 0])
def test_other_files_are_predicted(memory_mib: int, command: Callable, tmp_path: Path) -> None:
    command(*QUIET, *write_folder(tmp_path), *EXACT, f"data.memory_mib={memory_mib}")
    new = np.eye(4)
    np.save(tmp_path / "new.npy", new)
    np.savez(tmp_path / "new.npz", x=new, y=new @ WEIGHTS + 7)
    torch.save({"x_test": torch.tensor(new)}, tmp_path / "new.pt")
    for file in ("new.npy", "new.npz", "new.pt"):
        rows = list(csv.DictReader(command("predict", "run", "--input", file).out.splitlines()))
        predicted = [float(row["predicted"]) for row in rows]
        assert predicted == pytest.approx(new @ WEIGHTS + 7, abs=0.02)
        assert ("target" in rows[0]) == (file == "new.npz")
    np.save(tmp_path / "wide.npy", np.zeros((2, 5)))
    done = command("predict", "run", "--input", "wide.npy", code=4)
    assert (
        "--input: wide.npy (float64 of shape (2, 5)) must hold samples of the shape and type of" in done.err
    )


@pytest.mark.parametrize(
    ("targets", "task"),
    [
        (np.arange(90) % 2, "binary"),
        (np.arange(90) % 3, "classification"),
        (np.eye(3)[np.arange(90) % 3], "classification"),
        (np.stack([np.arange(90) % 2, np.arange(90) % 3 == 0], 1), "multilabel"),
        (np.arange(90) / 2, "regression"),
        (np.stack([np.arange(90) / 2] * 2, 1), "regression"),
    ],
    ids=["two classes", "three classes", "one-hot", "labels", "values", "vectors"],
)
def test_the_target_chooses_the_task(
    targets: np.ndarray, task: str, command: Callable, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(1).normal(size=(90, 12, 2)), y=targets)
    command(*QUIET, "data.path=x.npz", "model=gru", "model.width=4", "budget=1step")
    assert f"_target_: trainrun.task.{task}." in (tmp_path / "run/config.yaml").read_text()


@pytest.mark.parametrize(
    ("arrays", "words", "code", "said"),
    [
        ({"x": INPUTS, "y": TARGETS[1:]}, (), 4, "x.npz y (float64 of shape (299,)) must have as many rows"),
        (
            {"x": INPUTS, "y": TARGETS},
            ("data.targets=z",),
            2,
            "data.targets: x.npz has no entry z; it has x, y",
        ),
        ({"x": INPUTS}, (), 2, "data.targets: x.npz has x; name the targets"),
        (
            {"x": INPUTS, "image": INPUTS, "y": TARGETS},
            (),
            2,
            "data.inputs: must name one entry beside the target",
        ),
        ({"x": np.array([{}] * 9), "y": np.arange(9)}, (), 4, "x.npz x (object of shape (9,)) holds Python"),
        (
            {"x": np.where(INPUTS > 2, np.nan, INPUTS), "y": TARGETS},
            (),
            4,
            "of x.npz x (float64 of shape (300, 4))",
        ),
        (
            SPLIT | {"x_test": INPUTS[:60, :2]},
            (),
            4,
            "x.npz x_test (float64 of shape (60, 2)) must have the type",
        ),
        (
            SPLIT,
            ("data.fold=0", "data.path=x.npz", "task=classification"),
            2,
            "task: learns one class per sample",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    arrays: dict, words: tuple[str, ...], code: int, said: str, command: Callable, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    done = command(*QUIET, "data.path=x.npz", *words, code=code)
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "run").exists()
