"""The profiler: what it traces and counts, by formula and by the trace, and that it changes nothing."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toy import CLASSES, FEATURES, Toy, ToyTask, adamw, mlp, same_bits

from trainrun.loop.profiler import WARM_UP, Profiler, check_profile
from trainrun.loop.step import Clip
from trainrun.precision import Precision
from trainrun.vocabulary.errors import ConfigError, StorageError
from trainrun.vocabulary.events import Finished, Interrupted, Profiled, Warned

pytestmark = pytest.mark.usefixtures("quick_disk")

PARTS = ("data", "forward", "backward", "clip", "optimizer")  # of every step
BETWEEN = ("logging", "evaluation", "save")


def profiled(toy: Toy, steps: int = 4) -> Toy:
    return toy.but(clock=lambda state: Profiler(state, steps, toy.folder, toy.task()))


def ranges(run: Path) -> Counter[str]:
    """How often each range is in the trace, which is what Perfetto reads: complete events in JSON."""
    trace = json.loads((run / "profile/trace.json").read_text())
    return Counter(event["name"] for event in trace["traceEvents"] if event.get("cat") == "user_annotation")


def lines_of(trained: Any) -> list[str]:
    (event,) = trained.of(Profiled)
    return list(event.lines)


def seconds_in(lines: list[str]) -> dict[str, float]:
    rows = [re.fullmatch(r"([\w-]+) +(\d+\.\d+) s +\d+%", line) for line in lines[1:]]
    return {row[1]: float(row[2]) for row in rows if row}


class Slow(ToyTask):
    """A forward pass that takes long beside everything else."""

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        torch.mm(torch.ones(700, 700), torch.ones(700, 700))
        return super().__call__(model, batch)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("plain", {}),
        ("clipped", {"step": {"clip": Clip(0.1, None, None)}, "state": {"optimizer": adamw}}),
        ("bf16", {"state": {"precision": lambda: Precision("bf16", torch.bfloat16, torch.device("cpu"))}}),
        (
            "batch norm",
            {"model": partial(mlp, dropout=0.5, batch_norm=True), "accumulate": 1, "batch_size": 6},
        ),
        (
            "lbfgs",
            {
                "state": {
                    "optimizer": lambda p, lr: torch.optim.LBFGS(
                        [{**p[0], "params": p[0]["params"]}], lr, max_iter=3
                    )
                }
            },
        ),
    ],
)
def test_a_profiled_run_is_the_run(tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    toy = Toy(tmp_path / "plain").but(**changes)
    plain, traced = toy.train(), profiled(toy.but(folder=tmp_path / "traced")).train()
    assert plain.metrics == traced.metrics
    assert same_bits(plain.weights, traced.weights)
    assert ranges(tmp_path / "traced")["forward"] >= 4


def test_the_trace_has_every_part_of_the_steps_that_were_asked_for(tmp_path: Path) -> None:
    toy = Toy(tmp_path / "run", accumulate=3, batch_size=4, log_every=2, eval_every=4, save_every=8)
    toy = toy.but(health=False)  # which takes norms of its own
    profiled(toy).train()
    counted = ranges(toy.folder)
    sizes = [3, 3, 2, 3]  # micro-batches of steps 6 to 9: the last window of an epoch of 41 is short
    assert {name: counted[name] for name in PARTS} == {
        **dict.fromkeys(("data", "clip", "optimizer"), 4),
        **dict.fromkeys(("forward", "backward"), sum(sizes)),
    }
    assert counted["evaluation"] == 1
    assert counted["save"] == 1
    assert counted["logging"] >= 3  # of the logs after steps 6 and 8, and the evaluation


def test_flops_are_those_of_the_formula(tmp_path: Path) -> None:
    """2 mkn of (m, k) times (k, n): forward, for weights, and for inputs but those of the first layer."""
    toy = Toy(tmp_path / "run", batch_size=4, accumulate=3)
    m, width = 12, 8
    forward = 2 * m * FEATURES * width + 2 * m * width * CLASSES
    whole = 2 * forward + 2 * m * width * CLASSES
    assert f" {whole / 1e9:.3g} GFLOP a step" in lines_of(profiled(toy).train())[-1]


def test_the_parts_add_up_to_the_run(tmp_path: Path) -> None:
    trained = profiled(Toy(tmp_path / "run", task=Slow, state={"total_steps": 40})).train()
    (finished,), lines = trained.of(Finished), lines_of(trained)
    seconds = seconds_in(lines)
    assert {*PARTS, *BETWEEN} <= seconds.keys()
    assert sum(seconds.values()) == pytest.approx(finished.seconds, rel=0.02, abs=0.06)
    assert sum(finished.seconds_by_part.values()) == pytest.approx(finished.seconds, abs=0.005)
    assert seconds["forward"] > 5 * (seconds["backward"] + seconds["clip"] + seconds["optimizer"])
    assert lines[0].endswith("the steps divided as 6 to 9 in " + str(tmp_path / "run/profile/trace.json"))


def test_shares_are_the_lengths_of_the_ranges(tmp_path: Path) -> None:
    toy = Toy(tmp_path / "run", task=Slow)
    seconds = seconds_in(lines_of(profiled(toy).train()))
    trace = json.loads((toy.folder / "profile/trace.json").read_text())["traceEvents"]
    lengths: Counter[str] = Counter()
    for event in trace:
        if event.get("cat") == "user_annotation":
            lengths[event["name"]] += event["dur"]
    share = lengths["forward"] / sum(lengths[name] for name in PARTS[1:])
    assert seconds["forward"] / sum(seconds[name] for name in PARTS[1:]) == pytest.approx(share, abs=0.1)


class Event:
    """A GPU's event, recorded by the host's clock, which runs a thousand times as fast there."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: str) -> None:
        assert stream == "stream of cuda:1"
        self.at = time.perf_counter()

    def elapsed_time(self, later: Event) -> float:
        return 1e6 * (later.at - self.at)


def test_on_a_gpu_time_is_that_of_its_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synchronized = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", synchronized.append)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")

    def clock(state: Any) -> Profiler:
        profiler = Profiler(state, 4, tmp_path / "run", Slow())
        profiler.device = torch.device("cuda:1")
        return profiler

    trained = Toy(tmp_path / "run", task=Slow, clock=clock, state={"total_steps": 40}).train()
    (finished,), lines = trained.of(Finished), lines_of(trained)
    seconds = seconds_in(lines)
    assert synchronized == [torch.device("cuda:1")]
    assert sum(seconds.values()) == pytest.approx(finished.seconds, rel=0.02, abs=0.06)  # shares, not sums
    assert seconds["forward"] > 5 * (seconds["backward"] + seconds["clip"] + seconds["optimizer"])
    assert re.search(r"TFLOP/s: 0\.\d% of 67, the peak of NVIDIA H200 in fp32$", lines[-1])


def test_what_was_replaced_for_a_step_is_itself_again(tmp_path: Path) -> None:
    before = (torch.autograd.backward, nn.Module.__call__, nn.utils.get_total_norm)

    class Fails(ToyTask):
        def __call__(self, model: nn.Module, batch: Any) -> Any:
            if nn.Module.__call__ is not before[1]:
                raise RuntimeError("in a traced step")
            return super().__call__(model, batch)

    call = Fails.__call__
    with pytest.raises(RuntimeError, match="traced"):
        profiled(Toy(tmp_path / "run", task=Fails)).train()
    assert (torch.autograd.backward, nn.Module.__call__, nn.utils.get_total_norm) == before
    assert Fails.__call__ is call


def test_each_process_of_a_run_traces_once(tmp_path: Path) -> None:
    toy = profiled(Toy(tmp_path / "run", state={"total_steps": 30}))
    whole = toy.but(folder=tmp_path / "whole", clock=Toy(tmp_path).clock).train()
    first = toy.train(signal_at=12)
    assert "divided as 6 to 9 in" in lines_of(first)[0]
    (stopped,) = first.of(Interrupted)
    assert sum(stopped.seconds_by_part.values()) == pytest.approx(stopped.seconds, abs=0.005)
    second = toy.train()
    assert "divided as 18 to 21 in" in lines_of(second)[0]
    assert second.metrics == whole.metrics
    (finished,) = second.of(Finished)
    assert sum(finished.seconds_by_part.values()) == pytest.approx(finished.seconds, abs=0.01)
    assert finished.seconds_by_part["profiling"] > stopped.seconds_by_part["profiling"]


@pytest.mark.parametrize(("signal_at", "text"), [(3, "made 3 steps"), (WARM_UP, "made 5 steps")])
def test_a_process_that_ends_in_its_warm_up_says_so(tmp_path: Path, signal_at: int, text: str) -> None:
    trained = profiled(Toy(tmp_path / "run")).train(signal_at)
    assert not trained.of(Profiled)
    (warned,) = trained.of(Warned)
    assert text in warned.text
    assert isinstance(trained.events[-1], Interrupted)


def test_a_trace_is_written_as_far_as_the_run_got(tmp_path: Path) -> None:
    toy = Toy(tmp_path / "run", state={"total_steps": WARM_UP + 3})
    lines = lines_of(profiled(toy, steps=9).train())
    assert "divided as 6 to 8 in" in lines[0]
    assert ranges(toy.folder)["optimizer"] == 3
    assert "samples/s" in lines[-1]


def test_a_disk_that_is_full_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/profile").write_text("in the way")
    with pytest.raises(StorageError, match=r"trace\.json: cannot be written"):
        profiled(Toy(tmp_path / "run")).train()


@pytest.mark.parametrize(
    ("steps", "total", "fix"),
    [(1, WARM_UP, None), (10, 14, "runtime.profile=9"), (3, 2, None)],
)
def test_more_steps_than_the_run_has_are_refused(steps: int, total: int, fix: str | None) -> None:
    with pytest.raises(
        ConfigError, match=f"traces {steps} steps after the first 5, the run has {total}"
    ) as caught:
        check_profile(steps, total)
    assert caught.value.problems[0].fix == fix


def test_what_a_run_has_is_taken() -> None:
    check_profile(10, 15)
    check_profile(None, 1)
