"""Numbers that are not finite and memory that does not suffice, as a person meets them."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

OWN = '''
import torch
from torch import nn

class Logs(nn.Module):
    """Takes the logarithm of what is not positive, once its weights have learnt `after` steps."""

    def __init__(self, input_shape, num_outputs, after):
        super().__init__()
        self.first, self.last, self.after = nn.Linear(input_shape[0], 4), nn.Linear(4, num_outputs), after
        self.register_buffer("steps", torch.zeros(()))
        self.inner = Log()

    def forward(self, x):
        if self.training:
            self.steps += 1
        return self.last(self.inner(self.first(x), bool(self.steps > self.after)))


class Log(nn.Module):
    def forward(self, x, fails):
        return torch.log(x) if fails else x


class Hungry(nn.Module):
    """Has no room for more than `limit` samples at a time, in training or in evaluation."""

    def __init__(self, input_shape, num_outputs, limit, training):
        super().__init__()
        self.layer, self.limit, self.when = nn.Linear(input_shape[0], num_outputs), limit, training

    def forward(self, x):
        if self.training == self.when and len(x) > self.limit:
            torch.empty(2**60)
        return self.layer(x)
'''
SHORT = ("data=synthetic_table", "data.limit=400", "logger=none", "budget=2ep", "batch_size=32")
LOGS = ("model._target_=own.Logs", "checkpoint.every=4step")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


def last_run(folder: Path) -> Path:
    return max(folder.glob("outputs/*/*/config.yaml"), key=lambda file: file.stat().st_mtime_ns).parent


def events(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_that_stops_says_where_and_keeps_what_shows_it_again(command: Callable, own: Path) -> None:
    done = command(*SHORT, *LOGS, "+model.after=9", code=7)
    assert "at step 10; first not finite: the output of inner (Log) (samples " in done.err
    assert "Traceback" not in done.err
    run = last_run(own)
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("failed", 7)
    assert [one["step"] for one in events(run) if one["event"] == "nonfinite"] == [10]
    replay = torch.load(run / "failures" / "step-000000010.pt", weights_only=True)
    assert (replay["step"], replay["where"]) == (10, "the output of inner (Log)")
    inputs, weights = replay["batches"][0]["inputs"], replay["model"]
    first = inputs @ weights["first.weight"].T + weights["first.bias"]
    assert not torch.isfinite(torch.log(first)).all()
    assert set(replay["samples"]) <= set(replay["batches"][0]["indices"].tolist())
    command("resume", str(run), "loop.nonfinite=skip", "loop.nonfinite_limit=2", code=7)  # takes effect


def test_skipping_and_rolling_back_end_at_their_limit(command: Callable, own: Path) -> None:
    for policy, told in (("skip", "skipped"), ("rollback", "rolled back to step 4, learning rate x 0.25")):
        words = [
            "model._target_=own.Logs",
            "+model.after=9",
            "checkpoint.every=4step",
            "loop.nonfinite_limit=2",
        ]
        done = command(*SHORT, *words, f"loop.nonfinite={policy}", "logger=console", code=7)
        assert told in done.err and "loop.nonfinite_limit: 2" in done.err


@pytest.mark.parametrize("training", [True, False])
def test_what_an_out_of_memory_run_prints_goes_on_to_the_same_result(
    training: bool, command: Callable, own: Path
) -> None:
    model = ["model._target_=own.Hungry", f"+model.training={training}"]
    words = [*SHORT, *model, "data.eval_batch_size=60"]
    done = command(*words, f"+model.limit={16 if training else 30}", code=8)
    line = done.err.strip().splitlines()[-1].strip()
    wanted = ["batch_size=16", "loop.accumulate=2"] if training else ["data.eval_batch_size=30"]
    assert shlex.split(line)[3:] == wanted
    command(*shlex.split(line)[1:])  # as printed
    run = last_run(own)
    command(*words, "+model.limit=1000", f"run_dir={own / 'straight'}")
    ours, theirs = events(run), events(own / "straight")
    assert [one["step"] for one in ours] == [one["step"] for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.get("loss", 0.0) == pytest.approx(other.get("loss", 0.0), rel=1e-5)


def test_a_model_that_has_no_room_at_all_is_said_in_words(command: Callable, own: Path) -> None:
    done = command("data=synthetic_table", "model=mlp", "model.width=50000000", code=8)
    assert "out of memory before training began" in done.err and "Traceback" not in done.err
    assert not (own / "outputs").exists()


def test_no_line_holds_a_number_that_json_has_not(command: Callable, own: Path) -> None:
    command(*SHORT, *LOGS, "+model.after=3", "loop.nonfinite=skip", code=7)
    for file in ("metrics.jsonl", "timing.jsonl", "status.json"):
        text = (last_run(own) / file).read_text()
        for line in text.splitlines() if file.endswith("l") else [text]:
            json.loads(line, parse_constant=pytest.fail)
    assert math.isfinite(sum(one.get("loss") or 0.0 for one in events(last_run(own))))
