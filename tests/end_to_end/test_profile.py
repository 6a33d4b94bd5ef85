"""`runtime.profile` and the line on where a run's time went, through the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from trainrun.loop.clock import PARTS

from .conftest import Command

SHORT = ("model=linear", "data.limit=200", "logger=console", "budget=20step", "loop.log_every=5step")
STEP = """
from torch.nn import functional as F
from trainrun.loop.step import Step, set_learning_rates
from trainrun.protocols import StepResult


class Plain(Step):
    def __call__(self, state, window):
        set_learning_rates(state)
        state.set_modes()
        [batch] = window
        state.optimizer.zero_grad()
        loss = F.cross_entropy(state.model(batch.inputs), batch.targets)
        loss.backward()
        state.optimizer.step()
        size = len(batch)
        result = StepResult(size, {"loss": loss.detach() * size}, {"loss": size}, {}, 1.0, 1.0, applied=True)
        self.account(state, window, result)
        return result
"""


def names_in(trace: Path) -> set[str]:
    events = json.loads(trace.read_text())["traceEvents"]
    return {event["name"] for event in events if event.get("cat") == "user_annotation"}


def seconds_of(lines: str) -> dict[str, float]:
    return {name: float(s) for name, s in re.findall(r"^  ([\w-]+) +(\d+\.\d\d) s +\d+%$", lines, re.M)}


def test_a_run_says_where_its_time_went(command: Command, tmp_path: Path) -> None:
    err = command(*SHORT, "run_dir=run").err
    (line,) = re.findall(r"^time: (.*)$", err, re.M)
    shares = {name: int(share) for share, name in re.findall(r"(\d+)% (\w+)", line)}
    assert shares.keys() <= {"steps", *PARTS} and {"steps", "evaluation", "logging"} <= shares.keys()
    assert 97 <= sum(shares.values()) <= 103
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert set(result["seconds_by_part"]) == {"steps", *PARTS}
    assert sum(result["seconds_by_part"].values()) == pytest.approx(result["seconds"], abs=0.01)
    (last,) = [
        line
        for line in map(json.loads, (tmp_path / "run/timing.jsonl").read_text().splitlines())
        if line["event"] == "finished"
    ]
    assert last["seconds_by_part"] == result["seconds_by_part"]
    assert result["seconds_by_part"]["profiling"] == 0


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("loop.accumulate=2", "batch_size=16", "loop.clip.norm=0.1", "precision=bf16"),
        ("model=gru", "data=text", "batch_size=2", "data.limit=400", "budget=12step", "optimizer=sam"),
    ],
    ids=["plain", "accumulated", "recurrent"],
)
def test_a_profiled_run_writes_the_same_and_a_trace(
    command: Command, tmp_path: Path, words: tuple[str, ...]
) -> None:
    command(*SHORT, *words, "run_dir=plain")
    done = command(*SHORT, *words, "run_dir=traced", "runtime.profile=5")
    plain, traced = tmp_path / "plain", tmp_path / "traced"
    assert (plain / "metrics.jsonl").read_bytes() == (traced / "metrics.jsonl").read_bytes()
    assert {"data", "forward", "backward", "clip", "optimizer", "logging"} <= names_in(
        traced / "profile/trace.json"
    )
    assert "USDT" not in done.err
    seconds = seconds_of(done.err)
    whole = json.loads((traced / "result.json").read_text())["seconds"]
    assert sum(seconds.values()) == pytest.approx(whole, rel=0.02, abs=0.15)
    assert re.search(
        r"GFLOP a step, .* GFLOP/s; the peak of this CPU in (fp32|bf16) is not known$", done.err, re.M
    )
    assert (traced / "trainrun.log").read_text().count("profile: ") == 1


def test_a_step_of_your_own_is_divided_and_a_resumed_run_profiles_again(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(STEP)
    words = (*SHORT, "loop.step._target_=mine.Plain", "runtime.profile=3")
    seconds = seconds_of(command(*words, "run_dir=run").err)
    assert seconds["clip"] == 0
    assert {"forward", "backward", "optimizer"} <= names_in(tmp_path / "run/profile/trace.json")
    again = command("resume", "run", "budget=40step", "runtime.profile=4")
    assert "runtime.profile: 3 -> 4 (free)" in again.err
    assert "divided as 26 to 29 in run/profile/trace.json" in again.err
    short = command("resume", "run", "budget=43step")
    assert "warning: runtime.profile: nothing was traced, the process made 3 steps" in short.err


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0", "runtime.profile: must be a whole number of at least 1 or null, got 0"),
        ("true", "runtime.profile: must be"),
        ("10step", "runtime.profile: must be"),
        ("30", "runtime.profile: traces 30 steps after the first 5, the run has 20; give it more"),
    ],
)
def test_what_cannot_be_traced_is_refused(command: Command, tmp_path: Path, value: str, said: str) -> None:
    done = command(*SHORT, f"runtime.profile={value}", code=2)
    assert said in done.err
    assert not (tmp_path / "outputs").exists()
    if value == "30":
        assert "runtime.profile=15" in done.err
