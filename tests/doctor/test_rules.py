"""Each rule sees the curve it is meant for, and none sees anything in runs that are well."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from trainrun.doctor import rules
from trainrun.doctor.curves import RecordedRun
from trainrun.doctor.symptoms import SYMPTOMS

Shape = Callable[[float], float]  # of the share of the run, 0 to 1
SETTINGS: dict[str, Any] = {
    "batch_size": 32,
    "model": {"_target_": "trainrun.model.mlp.MLP", "norm": "none", "activation": "relu", "depth": 2},
    "optimizer": {"_target_": "trainrun.optimizer.adamw", "lr": 0.002},
    "precision": {"_target_": "trainrun.precision.fp32"},
    "loop": {"clip": {"norm": None, "value": None}},
}


def falling(start: float, end: float, rate: float = 8.0) -> Shape:
    return lambda t: end + (start - end) * math.exp(-rate * t)


def flat(value: float) -> Shape:
    return lambda t: value


def a_run(
    train: Mapping[str, Shape],
    val: Mapping[str, Shape],
    noise: float = 0.02,
    points: int = 20,
    settings: Mapping[str, Any] | None = None,
    **status: Any,
) -> RecordedRun:
    """`points` of each curve, with relative noise; a point is 50 steps."""
    draw = random.Random(0)

    def records(shapes: Mapping[str, Shape], split: str) -> list[dict[str, Any]]:
        rows = []
        for index in range(points):
            values = {
                k: f(index / max(1, points - 1)) * (1 + noise * draw.gauss(0, 1)) for k, f in shapes.items()
            }
            rows.append({"step": 50 * (index + 1), "epoch": index + 1.0, "split": split} | values)
        return rows

    return RecordedRun(
        settings=SETTINGS | dict(settings or {}),
        status={"state": "completed", "monitor": "val/accuracy"} | status,
        train=records({"lr": falling(0.002, 0.0, 3), "update_ratio": flat(3e-3)} | dict(train), "train"),
        val=records(val, "val") if val else [],
        nonfinite=[],
        timing=[],
    )


def symptoms_of(run: RecordedRun) -> list[str]:
    return [symptom.name for symptom in SYMPTOMS if symptom.rule and symptom.rule(run)]


LEARNS = {"loss": falling(2.3, 0.05)}
JUDGED = {"loss": falling(1.5, 0.1), "accuracy": falling(0.5, 0.97)}
AT_TENTH = {"loss": flat(2.35), "accuracy": flat(0.1)}

HEALTHY = {
    "it learns": a_run(LEARNS, JUDGED),
    "a perfect fit": a_run({"loss": lambda t: math.exp(-20 * t) + 1e-5 * (1 + math.sin(1e4 * t))}, JUDGED),
    "noise that cannot be predicted": a_run(
        {"loss": falling(1.0, 0.5)}, {"loss": flat(0.5), "r2": flat(0.45)}, 0.05
    ),
    "the validation loss rises, accuracy stays": a_run(
        LEARNS, {"loss": lambda t: 0.1 + 0.3 * t, "accuracy": flat(0.97)}, 0.005
    ),
    "of thirty samples two are lost": a_run(
        LEARNS,
        {"loss": lambda t: 0.1 + abs(t - 0.4), "accuracy": lambda t: 29 / 30 if t < 0.5 else 27 / 30},
        0.0,
    ),
    "a slow descent": a_run(
        {"loss": falling(2.4, 0.8, 4)}, {"loss": falling(2.1, 0.64, 4), "r2": falling(-2, 0.08)}
    ),
    "one log": a_run(LEARNS, JUDGED, points=1),
    "nothing yet": a_run(LEARNS, JUDGED, points=0),
    "ended early": a_run(LEARNS, JUDGED, points=3, reason="early_stopping"),
    "without health": a_run({"loss": falling(2.3, 0.05), "update_ratio": flat(math.nan)}, JUDGED),
    "large steps that do no harm": a_run({**LEARNS, "update_ratio": falling(0.5, 0.001)}, JUDGED),
    "half of the units idle": a_run({**LEARNS, "dead_units": flat(0.5)}, JUDGED),
    "clipping now and then": a_run(
        {**LEARNS, "clipped": flat(0.2)}, JUDGED, settings={"loop": {"clip": {"norm": 1.0}}}
    ),
    "few logs, all where the schedule ends": a_run(
        {"loss": falling(0.3, 0.2), "update_ratio": flat(1e-5)}, {}, points=3
    ),
    "it learns late": a_run({"loss": lambda t: 2.0 if t < 0.9 else 0.9 + t / 10}, JUDGED, 0.001, 40),
    "good weights moved with care": a_run(
        {"loss": falling(0.05, 0.04), "update_ratio": flat(1e-5)}, JUDGED, settings={"init_from": "first"}
    ),
    "fp16 that finds its scale": a_run(
        {**LEARNS, "skipped": flat(3)},
        JUDGED,
        settings={"precision": {"_target_": "trainrun.precision.fp16"}},
    ),
    "a language model": a_run(
        {"loss": falling(5.5, 1.6)}, {"loss": falling(4, 1.7)}, 0.005, monitor="val/loss"
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_seen_in_a_run_that_is_well(name: str) -> None:
    assert symptoms_of(HEALTHY[name]) == []


ILL = {
    "diverged": a_run({"loss": lambda t: 0.3 + 2 * math.exp(-12 * t) + (5 if t > 0.6 else 0)}, JUDGED),
    "learning rate too high": a_run(
        {"loss": falling(40, 2.4, 50), "update_ratio": flat(0.02)}, AT_TENTH, 0.005
    ),
    "without validation, learning rate too high": a_run(
        {"loss": falling(50, 2.4, 50), "accuracy": flat(0.1), "update_ratio": flat(0.5)},
        {},
        0.005,
        monitor="",
    ),
    "learning rate too low": a_run({"loss": falling(2.3, 2.0, 1), "update_ratio": flat(2e-6)}, AT_TENTH),
    "loss constant": a_run({"loss": flat(math.log(10))}, AT_TENTH, 0.002),
    "by validation alone, loss constant": a_run({}, {"loss": flat(2.3), "accuracy": flat(0.1)}, 0.002),
    "validation at chance": a_run(
        {"loss": falling(2.3, 0.05)}, {"loss": lambda t: 2.3 + t, "accuracy": flat(0.1)}
    ),
    "overfitting": a_run(
        LEARNS, {"loss": lambda t: 0.5 + abs(t - 0.2), "accuracy": lambda t: 0.9 - 0.2 * abs(t - 0.2)}, 0.005
    ),
    "oscillating": a_run({"loss": lambda t: 1 + 0.6 * math.cos(19 * math.pi * t)}, JUDGED),
    "underfitting": a_run(
        {"loss": falling(2.3, 1.8)}, {"loss": falling(2.2, 1.85), "accuracy": flat(0.3)}, 0.005
    ),
    "plateau": a_run(
        {"loss": falling(2.3, 0.9, 20), "lr": flat(0.002)}, {"loss": flat(0.9), "accuracy": flat(0.7)}, 0.005
    ),
    "clipping always binding": a_run(
        {**LEARNS, "clipped": flat(1.0), "grad_norm": flat(4.0), "grad_norm_after": flat(0.1)},
        JUDGED,
        0.005,
        settings={"loop": {"clip": {"norm": 0.1}}},
    ),
    "evaluation noise": a_run(LEARNS, {"loss": flat(0.5), "accuracy": flat(0.7)}, noise=0.25),
    "fp16 overflow": a_run(
        {**LEARNS, "skipped": falling(0, 300, 1)},
        JUDGED,
        settings={"precision": {"_target_": "trainrun.precision.fp16"}},
    ),
    "dead units": a_run({"loss": flat(2.3), "dead_units": flat(0.98)}, AT_TENTH, 0.002),
    "vanishing gradient": a_run(
        {"loss": flat(2.3)},
        AT_TENTH,
        0.002,
        settings={"model": {"depth": 30, "activation": "sigmoid", "norm": "none"}},
    ),
    "batch norm on tiny batches": a_run(
        LEARNS, JUDGED, settings={"batch_size": 1, "model": {"norm": "batch"}}
    ),
    "failed": a_run(LEARNS, JUDGED, state="failed", exit_code=9, reason="no room"),
}


@pytest.mark.parametrize("name", ILL)
def test_each_symptom_is_seen_where_it_is(name: str) -> None:
    assert name.rpartition(", ")[2] in symptoms_of(ILL[name])


def test_every_rule_is_tried_on_a_run_that_has_it() -> None:
    elsewhere = {"NaN", "data-starved"}
    assert {symptom.name for symptom in SYMPTOMS if symptom.rule} == {
        *(name.rpartition(", ")[2] for name in ILL),
        *elsewhere,
    }


def test_not_a_number_is_told_with_step_and_place() -> None:
    record = {"step": 41, "where": "the loss", "answer": "skip"}
    run = replace(HEALTHY["it learns"], nonfinite=[record, record])
    assert (
        rules.not_finite(run)
        == "step 41, and 1 more times; first not finite: the loss; the run's answer: skip"
    )
    broken = replace(run, nonfinite=[], train=[{"step": 50, "loss": None, "nonfinite": True}])
    assert rules.not_finite(broken) == "the loss is no number at step 50"
    hostile = replace(run, nonfinite=[record | {"where": "\x1b[2J"}])
    assert "\x1b" not in str(rules.not_finite(hostile))


@pytest.mark.parametrize(
    ("share", "every_s", "is_starved"), [(0.6, 4.0, True), (0.2, 4.0, False), (0.6, 0.01, False)]
)
def test_waiting_for_data_counts_where_it_is_long(share: float, every_s: float, is_starved: bool) -> None:
    timing = [{"step": index, "time": 100 + every_s * index, "data_wait": share} for index in range(9)]
    assert bool(rules.starved(replace(HEALTHY["it learns"], timing=timing))) is is_starved


@pytest.mark.parametrize("late", range(1, 12))
def test_a_loss_that_falls_at_the_very_end_has_not_diverged(late: int) -> None:
    for points in range(4, 60):
        run = a_run(
            {"loss": lambda t, end=1 - late / points: 2.0 if t < end else 0.9 + t / 10}, {}, 0.0, points
        )
        assert rules.diverged(run) is None


def test_of_several_groups_the_fastest_tells_that_all_are_too_slow() -> None:
    slow = {"loss": falling(2.3, 2.0, 1)}
    run = a_run(slow, AT_TENTH)
    for record, head in zip(run.train, [3e-3] * len(run.train), strict=True):
        record["update_ratio"] = {"backbone": 5e-5, "head": head}  # type: ignore[index]
    assert rules.lr_too_low(run) is None
    for record in run.train:
        record["update_ratio"] = {"backbone": 5e-6, "head": 5e-5}  # type: ignore[index]
    assert "at most 5.0e-05" in str(rules.lr_too_low(replace(run)))  # whose curves are read anew


def test_a_pause_between_processes_is_no_wait() -> None:
    timing = [
        {"step": index, "time": 0.01 * index + (3600 if index > 4 else 0), "data_wait": 0.6}
        for index in range(9)
    ]
    assert rules.starved(replace(HEALTHY["it learns"], timing=timing)) is None


def test_the_evidence_is_in_numbers() -> None:
    assert "at step 650: the training loss rose from 0.3" in str(rules.diverged(ILL["diverged"]))
    assert "guessing among 10 classes costs ln 10 = 2.303" in str(rules.constant_loss(ILL["loss constant"]))
    assert str(rules.overfitting(ILL["overfitting"])).startswith("from epoch 5: ")
    assert "98% of the ReLU units" in str(rules.dead_units(ILL["dead units"]))


def test_of_many_samples_the_same_loss_is_overfitting() -> None:
    """Accuracy in steps of a thousandth: 29 of 30 against 27 of 30 is no chance there."""
    accuracy: Shape = lambda t: round(29 / 30 - t / 500, 3) if t < 0.5 else round(27 / 30 - t / 500, 3)  # noqa: E731
    run = a_run(LEARNS, {"loss": lambda t: 0.1 + abs(t - 0.4), "accuracy": accuracy}, 0.0)
    assert "accuracy falls from 0.96" in str(rules.overfitting(run))


@pytest.mark.parametrize(("share", "binds"), [(0.949, False), (0.95, True)])
def test_clipping_binds_from_95_percent_of_the_steps_on(share: float, binds: bool) -> None:
    clipped = {**LEARNS, "clipped": flat(share), "grad_norm": flat(4.0), "grad_norm_after": flat(1.0)}
    run = a_run(clipped, JUDGED, 0.0, settings={"loop": {"clip": {"norm": 1.0}}})
    assert bool(rules.clipping_binds(run)) is binds


@pytest.mark.parametrize(("after", "binds"), [(1.61, False), (1.6, True)])
def test_clipping_binds_where_it_leaves_at_most_40_percent(after: float, binds: bool) -> None:
    clipped = {**LEARNS, "clipped": flat(1.0), "grad_norm": flat(4.0), "grad_norm_after": flat(after)}
    run = a_run(clipped, JUDGED, 0.0, settings={"loop": {"clip": {"value": 1.0}}})
    assert bool(rules.clipping_binds(run)) is binds


@pytest.mark.parametrize(
    ("dead", "accuracy", "is_named"),
    [(0.799, 0.9, False), (0.8, 0.9, True), (0.499, 0.59, False), (0.5, 0.59, True), (0.5, 0.6, False)],
)
def test_dead_units_count_sooner_where_little_was_learned(
    dead: float, accuracy: float, is_named: bool
) -> None:
    evaluated = {"loss": flat(1.0), "accuracy": flat(accuracy)}
    run = a_run({**LEARNS, "dead_units": flat(dead)}, evaluated, 0.0)
    assert bool(rules.dead_units(run)) is is_named


@pytest.mark.parametrize(("batch_size", "is_named"), [(3, True), (4, False)])
def test_batch_norm_needs_more_than_three_samples(batch_size: int, is_named: bool) -> None:
    run = a_run(LEARNS, JUDGED, settings={"batch_size": batch_size, "model": {"norm": "batch"}})
    assert bool(rules.tiny_batch_norm(run)) is is_named


@pytest.mark.parametrize(("skipped", "is_named"), [(14, False), (15, True), (1001, False)])
def test_fp16_may_skip_as_many_steps_as_its_scale_needs(skipped: int, is_named: bool) -> None:
    settings = {"precision": {"_target_": "trainrun.precision.fp16"}}
    run = a_run({**LEARNS, "skipped": flat(skipped)}, JUDGED, 0.0, settings=settings)
    assert bool(rules.fp16_overflow(run)) is is_named


@pytest.mark.parametrize(("depth", "is_named"), [(7, False), (8, True)])
def test_eight_saturating_layers_are_many(depth: int, is_named: bool) -> None:
    settings = {"model": {"depth": depth, "activation": "tanh", "norm": "none"}}
    assert bool(rules.vanishing(a_run({"loss": flat(2.3)}, AT_TENTH, settings=settings))) is is_named


@pytest.mark.parametrize(("ratio", "is_named"), [(4e-4, True), (4.1e-4, False)])
def test_steps_of_more_than_4_in_10_000_are_not_too_small(ratio: float, is_named: bool) -> None:
    run = a_run({"loss": falling(2.3, 2.0, 1), "update_ratio": flat(ratio)}, AT_TENTH, 0.0)
    assert bool(rules.lr_too_low(run)) is is_named


@pytest.mark.parametrize(("spread", "is_named"), [(0.029, True), (0.031, False)])
def test_a_loss_that_moves_by_less_than_3_percent_is_constant(spread: float, is_named: bool) -> None:
    run = a_run({"loss": lambda t: 2.3 * (1 - spread * (t > 0.5))}, AT_TENTH, 0.0)
    assert bool(rules.constant_loss(run)) is is_named
