"""`trainrun find-lr`: leaves no trace, suggests what the run really takes, and starts it when asked."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

WINE = ("data=wine", "budget=3ep", "batch_size=16", "runtime.threads=1")


def suggested(out: str) -> list[str]:
    """The words of the command that is printed."""
    (line,) = re.findall(r"^  trainrun (.*)$", out, re.M)
    return shlex.split(line)


def trained(folder: Path) -> tuple[list[Any], bytes]:
    """(every value of the final weights and the optimizer, metrics) of the one run below."""
    (run,) = folder.glob("outputs/*/*")
    (state,) = sorted(run.glob("checkpoints/step-*/state.pt"))[-1:]
    stored = torch.load(state, weights_only=True)
    leaves = tree_leaves({name: stored[name] for name in ("model", "optimizer")})
    return [x.tolist() if isinstance(x, Tensor) else x for x in leaves], (run / "metrics.jsonl").read_bytes()


def test_it_leaves_nothing_but_the_picture_and_says_the_same_again(command, tmp_path: Path) -> None:
    first, again = command("find-lr", *WINE), command("find-lr", *WINE)
    assert first.out == again.out
    assert [one.name for one in tmp_path.iterdir()] == ["find-lr.png"]
    for name in ("steepest", "minimum/10", "valley", "slide", "suggestion"):
        assert re.search(rf"  . {{2}}{name} +\d", first.out), name
    assert suggested(first.out)[:-1] == list(WINE)
    assert max(map(len, first.out.splitlines()[:-1])) <= 80


def test_training_after_it_is_the_same_to_the_last_bit(command, tmp_path: Path, monkeypatch) -> None:
    applied = command("find-lr", "--apply", *WINE, "optimizer.lr=0.5", "regularization=[dropout]")
    words = suggested(applied.out)
    assert "optimizer.lr=0.5" not in words
    (run,) = tmp_path.glob("outputs/*/*")
    assert json.loads((run / "environment.json").read_text())["command"] == shlex.join(["trainrun", *words])
    found = trained(tmp_path)
    (tmp_path / "outputs").rename(tmp_path / "applied")
    command(*words)
    assert trained(tmp_path) == found


@pytest.mark.parametrize(
    ("words", "scale"),
    [
        (("optimizer.lr_scaling=linear", "optimizer.lr=0.004"), 16 / 256),
        (("scheduler=noam", "scheduler.d_model=64", "scheduler.warmup=16step"), 64**-0.5 * 16**-0.5),
    ],
    ids=["scaled", "noam"],
)
def test_what_is_written_comes_to_the_rate_that_was_found(
    words: tuple[str, ...], scale: float, command, tmp_path: Path
) -> None:
    done = command("find-lr", "--json", "--apply", *WINE, *words, "loop.log_every=1step", "logger=none")
    found = json.loads(done.out)
    assert found["optimizer.lr"] * scale == pytest.approx(found["lr"], rel=0.05)  # two digits
    events = map(json.loads, trained(tmp_path)[1].splitlines())
    rates = [event["lr"] for event in events if event["event"] == "train"]
    peak = max(max(one.values()) if isinstance(one, dict) else one for one in rates)
    assert peak == pytest.approx(found["lr"], rel=0.05)


def test_the_json_has_the_curve_and_the_verdict(command) -> None:
    found = json.loads(command("find-lr", "--json", "--min", "1e-6", "--steps", "60", *WINE).out)
    rates = [one["lr"] for one in found["points"]]
    assert rates[0] == pytest.approx(1e-6) and rates == sorted(rates)
    assert rates[1] / rates[0] == pytest.approx((10 / 1e-6) ** (1 / 59))
    assert set(found["criteria"]) == {"steepest", "minimum/10", "valley", "slide"}
    assert min(found["criteria"].values()) <= found["lr"] <= max(found["criteria"].values())
    assert found["exit_code"] == 0 and found["reason"] is None
    assert found["command"].startswith("trainrun data=wine")


def test_without_a_suggestion_it_says_why_and_starts_nothing(command, tmp_path: Path) -> None:
    low = command("find-lr", "--apply", "--max", "1e-6", "--out", "a.png", *WINE, code=3)
    assert "no suggestion: the loss never fell clearly" in low.out
    assert "the run is not started" in low.err
    assert suggested(low.out)[:7] == ["find-lr", "--min", "1e-07", "--max", "0.0001", "--steps", "100"]
    high = command("find-lr", "--min", "1", *WINE, "optimizer=sgd", code=3)
    assert "diverged within" in high.out
    assert "--min 0.001 " in high.out
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.png", "find-lr.png"]


def test_a_stream_and_a_budget_by_the_clock_do(command, tmp_path: Path) -> None:
    (tmp_path / "my_stream.py").write_text(
        "import torch\n"
        "from torch.utils.data import IterableDataset\n"
        "class Stream(IterableDataset):\n"
        "    num_classes = 2\n"
        "    def __init__(self, seed: int):\n"
        "        self.seed = seed\n"
        "    def __iter__(self):\n"
        "        draws = torch.Generator().manual_seed(self.seed)\n"
        "        for _ in range(700):\n"
        "            x = torch.randn(8, generator=draws)\n"
        "            yield x, int(x[0] > 0)\n"
    )
    words = ["data=dataset", "data.train._target_=my_stream.Stream", "+data.train.seed=0"]
    words += ["data.val._target_=my_stream.Stream", "+data.val.seed=1", "data.val_fraction=0", "model=mlp"]
    words += ["data.test_fraction=0"]
    words += ["loop.eval_every=100step", "checkpoint.every=100step"]
    done = command("find-lr", *words, "budget=20s", "batch_size=16")
    assert suggested(done.out)[-1].startswith("optimizer.lr=")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--min", "0"), "--min: must be a learning rate above 0, got 0"),
        (("--min", "2", "--max", "1"), "--max: must be greater than --min=2, got 1"),
        (("--max", "nan"), "--max: must be greater than --min"),
        (("--steps", "19"), "--steps: must be at least 20"),
        (("--out", "a.doc"), "--out: must be a .png, .pdf or .svg file"),
        (("lr=3",), "  trainrun find-lr optimizer.lr=3"),
        (("data=wine", "optimizer=lbfgs"), "optimizer: L-BFGS has no rate to find"),
        (("-m", "data=wine"), "unrecognized arguments: -m"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_answered_and_nothing_is_written(
    words: tuple[str, ...], text: str, command, tmp_path: Path
) -> None:
    assert text in command("find-lr", *words, code=2).err
    assert not list(tmp_path.iterdir())
