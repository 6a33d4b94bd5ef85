"""The ramp is the run's own training at rising rates: compared with runs whose schedule is that ramp."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import trainrun
from trainrun.assembly.build import Parts, build
from trainrun.config.compose.composer import Composer
from trainrun.loop.loop import Loop
from trainrun.tune.lr import Divergence, peak, ramp
from trainrun.vocabulary.errors import ConfigError

LOW, HIGH, STEPS = 1e-3, 0.3, 16
CASES = {
    "adamw": ("data=wine",),
    "accumulated": ("data=wine", "batch_size=8", "loop.accumulate=3", "loop.clip.norm=0.5"),
    "groups": ("data=wine", "optimizer=momentum", "parameters.layer_decay=0.5"),
    "sam": ("data=wine", "optimizer=sam", "regularization=[dropout,l2]"),
    "mixed": ("data=digits", "data.limit=200", "regularization=[mixup,ema]", "model.norm=batch"),
    "muon": ("data=wine", "optimizer=muon", "precision=bf16"),
}


def build_run(*words: str) -> Parts:
    return build(Composer().checked([*words, "runtime.threads=1"]).settings)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words", CASES.values(), ids=CASES)
def test_its_losses_are_those_of_a_run_with_that_schedule(words: tuple[str, ...]) -> None:
    points = list(ramp(build_run(*words, "optimizer.lr=0.7"), LOW, HIGH, STEPS))
    gamma = (HIGH / LOW) ** (1 / (STEPS - 1))
    schedule = [
        "scheduler=torch",
        "scheduler.name=ExponentialLR",
        f"scheduler.arguments={{gamma: {gamma!r}}}",
    ]
    line = [*words, *schedule, f"optimizer.lr={LOW}", f"budget={STEPS}step", "loop.log_every=1step"]
    result = trainrun.train([*line, "logger=none", "runtime.threads=1"])
    events = map(json.loads, (result.run_dir / "metrics.jsonl").read_text().splitlines())
    logged = [event for event in events if event["event"] == "train"]
    assert [point.loss for point in points] == pytest.approx([event["loss"] for event in logged], rel=1e-5)
    rates = [max(event["lr"].values()) if isinstance(event["lr"], dict) else event["lr"] for event in logged]
    assert [point.lr for point in points] == pytest.approx(rates)


def test_the_other_loss_is_that_of_the_first_weights() -> None:
    words = ("data=digits", "data.limit=200", "regularization=[dropout,mixup]", "model.norm=batch")
    still = list(ramp(build_run(*words, "optimizer.weight_decay=0"), 1e-30, 1e-29, STEPS))
    assert [point.start for point in still] == pytest.approx([point.loss for point in still], rel=1e-5)
    moved = list(ramp(build_run(*words), LOW, HIGH, STEPS))
    assert [point.start for point in moved] == pytest.approx([point.loss for point in still], rel=1e-5)
    assert moved[5].loss < 0.9 * moved[5].start


def test_it_ends_where_the_loss_diverges() -> None:
    points = list(ramp(build_run("data=diabetes", "model=linear", "optimizer=sgd"), 1e-2, 1e6, 40))
    assert 3 < len(points) < 40
    assert all(math.isfinite(point.loss) for point in points[:-1])
    assert points[-1].loss > 4 * points[0].loss
    (only,) = ramp(build_run("data=wine", "init=constant", "init.value=1e38"), LOW, HIGH, STEPS)
    assert only.loss == math.inf


def test_divergence_is_told_from_noise() -> None:
    torch.manual_seed(0)
    watch = Divergence()
    assert not any(watch.seen(float(2 + torch.randn(()))) for _ in range(300))
    assert not any(watch.seen(loss) for loss in (0.1, 0.1, 4.0, 0.1))
    assert any(watch.seen(loss) for loss in [40.0] * 3)
    assert Divergence().seen(math.nan)


def test_steps_that_fp16_skips_are_made_again() -> None:
    words = ("data=wine", "precision=fp16")
    points = list(ramp(build_run(*words, "precision.init_scale=1e9"), LOW, HIGH, STEPS))
    assert len(points) == STEPS
    gamma = (HIGH / LOW) ** (1 / (STEPS - 1))
    assert [point.lr for point in points] == pytest.approx([LOW * gamma**step for step in range(STEPS)])


def test_a_step_of_the_users_own_has_no_second_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    points = list(ramp(build_run("data=wine"), LOW, HIGH, STEPS))
    parts = build_run("data=wine")
    original = Parts.loop

    def with_own_step(self: Parts, *arguments: Any) -> Loop:
        loop = original(self, *arguments)
        step = loop.step
        return replace(loop, step=lambda state, window: step(state, window))

    monkeypatch.setattr(Parts, "loop", with_own_step)
    own_points = list(ramp(parts, LOW, HIGH, STEPS))
    assert [point.loss for point in own_points] == [point.loss for point in points]
    assert {point.start for point in own_points} == {0.0}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("scheduler=warmup_cosine",), (1.0, None)),
        (("scheduler=one_cycle",), (1.0, 0.85)),
        (("scheduler=noam", "scheduler.d_model=64", "scheduler.warmup=100step"), (64**-0.5 * 0.1, None)),
        (("scheduler=wsd", "budget=20s"), (1.0, None)),
        (("scheduler=constant", "scheduler.warmup=400step", "budget=100step"), (0.25, None)),
    ],
    ids=["cosine", "one_cycle", "noam", "clock", "never reached"],
)
def test_the_peak_is_what_the_schedule_comes_to(
    words: tuple[str, ...], expected: tuple[float, float | None]
) -> None:
    factor, momentum = peak(build_run("data=wine", "budget=1000step", *words))
    assert (factor, momentum or 0.0) == pytest.approx((expected[0], expected[1] or 0.0), rel=0.01)


def test_its_momentum_is_that_of_the_peak() -> None:
    parts = build_run("data=wine", "optimizer=momentum", "scheduler=one_cycle")
    list(ramp(parts, LOW, HIGH, STEPS))
    assert parts.state.optimizer.param_groups[0]["momentum"] == pytest.approx(0.85, rel=0.01)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("optimizer=lbfgs",), "optimizer: L-BFGS has no rate to find"),
        (
            (
                "scheduler=torch",
                "scheduler.name=OneCycleLR",
                "scheduler.arguments={max_lr: 0.1, total_steps: '@total_steps'}",
            ),
            "scheduler: sets the learning rates itself",
        ),
        (("data=digits", "experiment=gan", "data.limit=200", "data.val_fraction=0.15"), "gan has two losses"),
    ],
    ids=["optimizer", "schedule", "gan"],
)
def test_what_has_no_rate_to_find_is_refused(words: tuple[str, ...], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        list(ramp(build_run("data=wine", *words), LOW, HIGH, STEPS))
