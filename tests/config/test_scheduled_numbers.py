"""`scheduler.also`: what is refused, by name and with what is possible, before torch is needed."""

from __future__ import annotations

import pytest

from trainrun.config.check import check
from trainrun.config.compose.composer import Composer
from trainrun.config.scheduled_numbers import course_of


def problems(*words: str) -> list[str]:
    composed = Composer().compose(list(words))
    return [f"{p.key}: {p.text}" for p in check(composed.settings, composed.explicit, composed.files)]


@pytest.mark.parametrize(
    "words",
    [
        ("scheduler.also={optimizer.weight_decay: cosine}",),
        ("scheduler.also={optimizer.betas.0: {to: 0.5, by: linear}, model.dropout: {to: 0.4, by: step}}",),
        ("scheduler.also={optimizer.weight_decay: {to: 1, by: {polynomial: {power: 2}}}}",),
        ("scheduler.also={loop.clip.norm: wsd}", "loop.clip.norm=1"),
        ("scheduler.also={regularization.mixup.alpha: linear}", "regularization=[mixup]"),
        ("scheduler.also={regularization.dropout.p: linear}", "regularization=[dropout]"),
        ("scheduler.also={loss.gamma: linear}", "loss=focal"),
        ("scheduler.also={}",),
    ],
)
def test_these_are_right(words: tuple[str, ...]) -> None:
    assert problems(*words) == []


@pytest.mark.parametrize(
    ("also", "words", "said"),
    [
        ("{optimizer.lr: cosine}", "", "optimizer.lr: is what the scheduler itself plans"),
        (
            "{model.depth: cosine}",
            "",
            "model.depth: is not read at each step; read at each step are optimizer.",
        ),
        ("{lr: cosine}", "", "lr: must be a setting's whole key"),
        ("{loop.clip.norm: cosine}", "", "loop.clip.norm: must name a number that is set, there is none"),
        ("{optimizer.amsgrad: cosine}", "", "optimizer.amsgrad: must name a number that is set, got False"),
        (
            "{optimizer.betas.2: cosine}",
            "",
            "optimizer.betas.2: must name a number that is set, there is none",
        ),
        ("{optimizer.weight_decay: cosin}", "", "weight_decay: no option 'cosin'; did you mean cosine?"),
        ("{optimizer.weight_decay: plateau}", "", "weight_decay: cannot follow plateau, which keeps state"),
        (
            "{optimizer.weight_decay: constant}",
            "",
            "weight_decay: would stay as it is: constant changes nothing",
        ),
        ("{optimizer.weight_decay: {to: 0.01, by: cosine}}", "", "would stay at 0.01: it starts there"),
        (
            "{optimizer.weight_decay: {to: 0.1}}",
            "",
            "weight_decay: needs a schedule, such as 'scheduler.also=",
        ),
        (
            "{optimizer.weight_decay: {to: a, by: cosine}}",
            "",
            "weight_decay: must end at a number, got to: 'a'",
        ),
        ("{optimizer.weight_decay: {by: cosine, at: 1}}", "", "weight_decay: takes to and by, got at"),
        (
            "{optimizer.weight_decay: {cosine: {min_lr: 1}}}",
            "",
            "weight_decay: min_lr has no effect on a number",
        ),
        (
            "{optimizer.weight_decay: {cosine: 3}}",
            "",
            "weight_decay: must give cosine its values by name, got 3",
        ),
        (
            "{optimizer.weight_decay: {polynomial: {power: -2}}}",
            "",
            "by.power: must be a number greater than 0",
        ),
        ("{optimizer.weight_decay: {polynomial: {powr: 2}}}", "", "by.powr: polynomial takes no 'powr'"),
        (
            "{optimizer.weight_decay: cosine}",
            "optimizer.weight_decay=0",
            "is 0, so that no parameter would decay",
        ),
        ("{model.dropout: linear}", "runtime.compile=true", "would be compiled anew at each step"),
        ("{loss.gamma: linear}", "loss=focal runtime.compile=step", "would be compiled anew at each step"),
        ("{optimizer.betas.0: linear}", "optimizer=schedule_free", "cannot change: schedule_free's points"),
    ],
)
def test_these_are_refused(also: str, words: str, said: str) -> None:
    [problem] = problems(f"scheduler.also={also}", *words.split())
    assert problem.startswith("scheduler.also.") and said in problem


def test_a_schedule_alone_ends_at_0_and_a_mapping_says_where() -> None:
    assert course_of("cosine") == (0.0, "cosine")
    assert course_of({"polynomial": {"power": 2}}) == (0.0, {"polynomial": {"power": 2}})
    assert course_of({"to": 3, "by": "linear"}) == (3, "linear")
    assert course_of({"by": "linear"}) == (0.0, "linear")
