"""Bad data end in exit code 4 with the sample or file named, or in a correct run; never in a traceback."""

from __future__ import annotations

import gzip
import json
import pickle
import shlex
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainrun.vocabulary.errors import DataError, NonFiniteError

ROWS = """
import torch
from torch.utils.data import Dataset, IterableDataset

BAD = {
    "no number": lambda x, y: (x * float("nan"), y),
    "infinite": lambda x, y: (x + float("inf"), y),
    "shape": lambda x, y: (torch.zeros(5), y),
    "empty": lambda x, y: (torch.zeros(0), y),
    "text": lambda x, y: ("text", y),
    "nothing": lambda x, y: None,
    "alone": lambda x, y: x,
    "large class": lambda x, y: (x, 99),
    "negative class": lambda x, y: (x, -1),
    "half class": lambda x, y: (x, 1.5),
    "text class": lambda x, y: (x, "cat"),
    "no target": lambda x, y: (x, float("nan")),
    "label 2": lambda x, y: (x, torch.tensor([2, 1])),
}
TARGETS = {"class": lambda i: i % 3, "value": float, "labels": lambda i: torch.tensor([i % 2, 1])}


class Rows(Dataset):
    def __init__(self, size=40, bad="", at=7, target="class", named=False):
        self.size, self.bad, self.at, self.target = size, bad, at, target
        if bad == "gone":
            raise FileNotFoundError("rows.csv is gone")
        if named:
            self.classes = ("a", "b", "c")

    def __len__(self):
        if self.bad == "no length":
            raise RuntimeError("unknown")
        return self.size + 5 * (self.bad == "too long")

    def __getitem__(self, i):
        if i >= self.size:
            raise IndexError("beyond the end")
        if i == self.at and self.bad == "broken":
            raise OSError("truncated file")
        if i == self.at and self.bad == "exit":
            raise SystemExit(3)
        x, y = torch.full((4,), float(i % 3)), TARGETS[self.target](i)
        return BAD[self.bad](x, y) if i == self.at and self.bad in BAD else (x, y)


class Stream(IterableDataset):
    num_classes = 3

    def __init__(self, size=20, **changes):
        self.rows = Rows(size, **changes)

    def __iter__(self):
        return (self.rows[i] for i in range(self.rows.size))
"""
DATASET = "data=dataset data.train._target_=my_rows.{} budget=2ep batch_size=8 logger=none"
MAPS = DATASET.format("Rows")
STREAM = f"{DATASET.format('Stream')} data.val_fraction=0 data.test_fraction=0 budget=4step"
STREAM += " loop.eval_every=4step checkpoint.every=4step"
VALUES = "task=regression loss=mse monitor=val/loss +data.train.target=value"
LABELS = "task=multilabel loss=bce_with_logits monitor=val/loss +data.train.target=labels"

# words -> what the message says
REFUSED = {
    f"{MAPS} +data.train.bad=broken": "sample 7 of Rows failed: OSError: truncated file (my_rows.py:",
    f"{MAPS} +data.train.bad=broken data.num_workers=1": "sample 7 of Rows failed: OSError",
    f"{MAPS} +data.train.bad=exit": "sample 7 of Rows failed: SystemExit: 3",
    f"{MAPS} '+data.train.bad=too long'": "sample 40 of Rows failed: IndexError: beyond the end",
    f"{MAPS} '+data.train.bad=no length'": "the length of Rows cannot be read: RuntimeError: unknown",
    f"{MAPS} +data.train.bad=gone": "train: my_rows.Rows failed: FileNotFoundError: rows.csv is gone",
    f"{MAPS} +data.train.size=0": "train: Rows is empty",
    f"{MAPS} '+data.train.bad=no number'": "the inputs are not finite (samples 7), met at step",
    f"{MAPS} +data.train.bad=infinite": "the inputs are not finite (samples 7), met at step",
    f"{MAPS} +data.train.bad=shape": "sample 7 cannot be stacked with the others",
    f"{MAPS} +data.train.bad=empty": "sample 7 cannot be stacked with the others",
    f"{MAPS} +data.train.bad=text": "sample 7 cannot be stacked with the others",
    f"{MAPS} +data.train.bad=nothing": "sample 7 cannot be stacked with the others",
    f"{MAPS} +data.train.bad=alone": "a sample is not (input, target), got a Tensor",
    f"{MAPS} '+data.train.bad=negative class'": "sample 7 of Rows has class -1, there are 3",
    f"{MAPS} '+data.train.bad=half class'": "sample 7 of Rows has the target [1.5]",
    f"{MAPS} '+data.train.bad=text class'": "sample 7 of Rows has the target 'cat'",
    f"{MAPS} +data.train.named=true '+data.train.bad=large class'": "sample 7 of Rows has the target 99",
    f"{MAPS} 'data.val={{_target_:my_rows.Rows,bad:large class}}'": "sample 7 of Rows has the target 99",
    f"{MAPS} 'data.test={{_target_:my_rows.Rows,bad:no number}}'": "sample 7 of Rows (test) has an input",
    f"{MAPS} {VALUES} '+data.train.bad=no target'": "sample 7 of Rows has the target [nan], not 1 finite",
    f"{MAPS} {LABELS} '+data.train.bad=label 2'": "sample 7 of Rows has the target [2, 1], not 2 labels",
    f"{STREAM} +data.train.bad=broken": "sample 7 of Stream failed: OSError: truncated file",
    f"{STREAM} '+data.train.bad=no number'": "the inputs are not finite (samples 7), met at step 1",
    f"{STREAM} '+data.train.bad=large class'": "sample 7 of Stream has the target 99, not a class from 0",
    f"{STREAM} +data.train.size=0": "train: Stream is empty",
    f"{STREAM} 'data.val={{_target_:my_rows.Stream,size:0}}'": "a stream to be evaluated is empty",
}


@pytest.fixture
def rows(tmp_path: Path) -> None:
    (tmp_path / "my_rows.py").write_text(ROWS)


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("words", REFUSED)
def test_bad_samples_are_named(words: str, command: Any) -> None:
    done = command(*shlex.split(words), code=4)
    said = [line for line in done.err.splitlines() if REFUSED[words] in line]
    assert said == done.err.splitlines()[-1:]
    assert said[0].startswith("data")


# words -> (training samples, validation samples)
TRAINED = {
    f"{MAPS} +data.train.size=1": (1, 0),
    f"{MAPS} {VALUES} +data.train.size=1": (1, 0),
    f"{MAPS} +data.train.size=3 data.val_fraction=0.4": (
        2,
        1,
    ),  # fewer than the batch, and a class in no split
    f"{MAPS} {VALUES} +data.train.size=5 data.val_fraction=0.2": (3, 1),  # r2 of a single sample
    f"{MAPS} 'data.val={{_target_:my_rows.Rows,size:1}}'": (34, 1),
    f"{MAPS} 'data.val={{_target_:my_rows.Rows,size:0}}' 'data.test={{_target_:my_rows.Rows,size:0}}'": (
        40,
        0,
    ),
    "data=iris data.limit=2 data.val_fraction=0.02 budget=2ep logger=none": (2, 3),
    "data=diabetes data.limit=1 budget=2ep logger=none": (1, 66),
}


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("words", TRAINED)
def test_few_samples_are_trained_on(words: str, command: Any, tmp_path: Path) -> None:
    command("run_dir=run", *shlex.split(words))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["event"] == "finished" and not any(line.get("nonfinite") for line in lines)
    assert [line["epoch"] for line in lines if line["event"] == "train"][-1] == 2.0
    assert any(line["event"] == "eval" and line["split"] == "val" for line in lines) is (
        TRAINED[words][1] > 0
    )
    log = (tmp_path / "run/trainrun.log").read_text()
    train, val = TRAINED[words]
    assert f": {train} train" in log and (f" {val} val" in log) is (val > 0)


IMAGES = "train-images-idx3-ubyte"
HEAD = struct.pack(">IIII", 0x803, 300, 28, 28)
# what stands in place of the training pictures; None: no file
FILES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, f"raw lacks {IMAGES}"),
    "empty": (b"", f"{IMAGES} is not an IDX file of bytes, it begins with nothing"),
    "truncated": (HEAD + b"\0" * 99, f"{IMAGES} should have 235216 bytes for shape (300, 28, 28), got 115"),
    "wrong magic": (
        b"\x89PNG" + b"\0" * 99,
        f"{IMAGES} is not an IDX file of bytes, it begins with 89504e47",
    ),
    "pickled": (pickle.dumps([print]), f"{IMAGES} is not an IDX file of bytes"),
    "too long": (HEAD + b"\0" * (300 * 784 + 1), f"{IMAGES} should have 235216 bytes"),
    "fewer pictures": (struct.pack(">IIII", 0x803, 2, 1, 1) + b"ab", f"{IMAGES} has 2 pictures"),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_a_bad_file_is_named(
    name: str, kind: str, command: Any, tmp_path: Path, small_mnist: Callable[..., None]
) -> None:
    small_mnist(tmp_path / "set")
    body, text = FILES[kind]
    file = tmp_path / "set/raw" / IMAGES
    file.unlink()
    if body is not None:
        file.write_bytes(body)
    done = command(f"data={name}", "data.root=set", code=4)
    assert done.err.startswith("data.root: set/raw") and text in done.err and done.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_a_small_file_that_unpacks_to_more_than_memory_is_refused(
    command: Any, tmp_path: Path, small_mnist: Callable[..., None]
) -> None:
    small_mnist(tmp_path / "set")
    (tmp_path / "set/raw" / IMAGES).unlink()
    bomb = gzip.compress(HEAD + bytes(16 << 20)) * 17  # a gzip file may have several members
    assert len(bomb) < 1_000_000
    (tmp_path / "set/raw" / f"{IMAGES}.gz").write_bytes(bomb)
    done = command("data=mnist", "data.root=set", code=4)
    assert f"{IMAGES}.gz holds more than 268,435,456 bytes" in done.err


def test_the_guide_names_the_exit_code_of_data_that_are_not_finite() -> None:
    """4, as of all data that cannot be learned from; 7 where the run itself came to it."""
    page = Path(__file__).resolve().parents[2] / "trainrun/cli/guide/failures.md"
    sentence = "| `stop` | end the run with exit 7, or 4 where the data themselves are not finite |"
    assert sentence in page.read_text()
    assert DataError.exit_code == 4 and NonFiniteError.exit_code == 7
