"""Whatever can be told is told at once, and nothing is concluded from a faulty value."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainrun.config.check import problems_of
from trainrun.config.compose.composer import Composer
from trainrun.config.tree import FaultyValueError, ReadableSettings, value_at
from trainrun.vocabulary.errors import ConfigError


def test_a_faulty_key_is_not_read() -> None:
    settings = ReadableSettings({"a": {"b": 1, "c": 2}, "d": 3}, {"a.b", "e"})
    assert settings["a"]["c"] == 2 and settings["d"] == 3 and "b" in settings["a"]
    with pytest.raises(FaultyValueError):
        settings["a"].get("b")
    with pytest.raises(FaultyValueError):
        settings.get("e")
    with pytest.raises(KeyError):
        settings["f"]


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("optimizer.lr=abc data.fold=9 data.num_folds=5", ["optimizer.lr", "data.fold"]),
        ("model.dropuot=0.5 regularization=[ema,swa]", ["model.dropuot", "regularization"]),
        ("data.val_fraction=abc data.fold=9", ["data.val_fraction", "data.fold"]),
        ("lr=abc monitor_mode=min monitor=val/accuracy", ["lr", "monitor_mode"]),
        ("data=diabetes task=classification budget=5%", ["task", "budget"]),
        ("monitor=5 data.val_fraction=0 regularization=early_stopping", ["monitor", "data.val_fraction"]),
        ("optimizer=lbfgs optimizer.lr=-1 precision=fp16 loop.clip.norm=1", None),
        # what is faulty tells nothing about others
        ("data.num_fold=12 data.fold=9", ["data.num_fold"]),
        ("data.num_folds=x data.fold=9", ["data.num_folds"]),
        ("budget=abc% loop.eval_every=5%", ["budget"]),
        ("seed=x name=.a resume=auto", ["seed", "name", "resume"]),
    ],
)
def test_all_mistakes_at_once(words: str, keys: list[str] | None, folder: Path) -> None:
    problems = [problem.key for problem in problems_of(Composer().compose(words.split()))]
    assert problems == (keys or ["optimizer.lr", "precision", "loop.clip.norm"])


def test_in_an_experiment_file_and_in_a_sweep(folder: Path) -> None:
    Path("exp.yaml").write_text("optimizer:\n  lr: abc\ndata:\n  fold: 9\n  num_folds: 5\n")
    with pytest.raises(ConfigError) as caught:
        Composer().checked(["exp.yaml", "model.dropuot=1"])
    assert {p.key for p in caught.value.problems} == {"model.dropuot", "optimizer.lr", "data.fold"}
    jobs = Composer().compose_sweep(["optimizer.lr=0.1,abc", "data.fold=9"])
    assert [[p.key for p in problems_of(job)] for job in jobs] == [
        ["data.fold"],
        ["optimizer.lr", "data.fold"],
    ]


@pytest.mark.parametrize("zero", ["0ep", '"0 ep"', '"00.0 step "', "0%", '"0 %"', "0.0sample"])
def test_a_warm_up_of_nothing_in_every_spelling(zero: str, folder: Path) -> None:
    job = Composer().compose([f"scheduler.warmup={zero}", "scheduler.warmup_start=0.1"])
    assert [problem.key for problem in problems_of(job)] == ["scheduler.warmup_start"]


@pytest.mark.parametrize("share", ["10%", '"10 %"', '" 10% "', "0.5%"])
def test_a_share_in_every_spelling(share: str, folder: Path) -> None:
    assert [p.key for p in problems_of(Composer().compose([f"budget={share}"]))] == ["budget"]
    job = Composer().compose(["budget=5min", f"loop.eval_every={share}"])
    assert [problem.key for problem in problems_of(job)] == ["loop.eval_every"]


@pytest.mark.parametrize(
    "value", ["1" + "0" * 400, "1e999", "-1e400", "[[1,[2]],3]", "-0", "0x10x", "1_0_", "nan", "{}", "true"]
)
@pytest.mark.parametrize(
    "key", ["batch_size", "optimizer.lr", "budget", "data.val_fraction", "loop.eval_every"]
)
def test_an_odd_number_is_refused_in_a_line(key: str, value: str, folder: Path) -> None:
    if (key, value) == ("data.val_fraction", "-0"):
        return
    problems = problems_of(Composer().compose([f"{key}={value}"]))
    assert [problem.key for problem in problems] == [key] and len(str(problems[0])) < 300


def test_a_number_in_hexadecimal_is_offered_as_it_is_meant(folder: Path) -> None:
    (problem,) = problems_of(Composer().compose(["batch_size=0x10"]))
    assert problem.fix == "batch_size=16"


def test_a_duration_without_end(folder: Path) -> None:
    (problem,) = problems_of(Composer().compose([f"budget={'9' * 400}ep"]))
    assert "at most 15 digits, got 400" in problem.text


def test_a_value_is_found_by_its_key_also_in_a_list() -> None:
    settings = {"a": {"b": [1, 2], "c": {"d": 3}}}
    assert [value_at(settings, key) for key in ("a.b.1", "a.c.d", "a.b.2", "a.b.x", "a.e.f")] == [
        *(2, 3, None, None, None)
    ]
