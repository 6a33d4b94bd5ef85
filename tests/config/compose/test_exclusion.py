"""Exclusion rules against conditions written out in Python, over every job of a grid."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainrun.config.compose.composer import Composer
from trainrun.config.compose.exclusion import exclusion
from trainrun.config.space import Choices, SearchInterval, grid
from trainrun.vocabulary.errors import ConfigError

OPTIMIZERS, RATES, NORMS = ("sgd", "adamw"), (0.001, 0.01, 0.1), (None, 1, 2.5)
AXES = [
    Choices("optimizer", tuple((f"optimizer={name}",) for name in OPTIMIZERS)),
    Choices("optimizer.lr", (("++optimizer.lr=1e-3",), ("++optimizer.lr=0.010",), ("++optimizer.lr=.1",))),
    Choices("loop.clip.norm", (("loop.clip.norm=null",), ("loop.clip.norm=1",), ("loop.clip.norm=2.5",))),
]
JOBS = list(zip(itertools.product(OPTIMIZERS, RATES, NORMS), grid(AXES), strict=True))


@pytest.mark.parametrize(
    ("rule", "truth"),
    [
        ("optimizer=sgd and optimizer.lr<0.01", lambda name, lr, norm: name == "sgd" and lr < 0.01),
        ("optimizer==sgd or optimizer.lr <= 1e-2", lambda name, lr, norm: name == "sgd" or lr <= 0.01),
        ("not optimizer=sgd", lambda name, lr, norm: name != "sgd"),
        ("not (optimizer=sgd or optimizer.lr>0.01)", lambda name, lr, norm: name != "sgd" and lr <= 0.01),
        ("not optimizer=sgd or optimizer.lr>0.01", lambda name, lr, norm: name != "sgd" or lr > 0.01),
        (  # `and` binds closer than `or`
            "optimizer=sgd or optimizer=adamw and optimizer.lr=0.1",
            lambda name, lr, norm: name == "sgd" or (name == "adamw" and lr == 0.1),
        ),
        ("(optimizer=sgd or optimizer=adamw) and optimizer.lr=0.1", lambda name, lr, norm: lr == 0.1),
        ("optimizer!='adamw'", lambda name, lr, norm: name != "adamw"),
        ("loop.clip.norm=null", lambda name, lr, norm: norm is None),
        ("loop.clip.norm!=null and optimizer.lr=.1", lambda name, lr, norm: norm is not None and lr == 0.1),
        ("loop.clip.norm<2", lambda name, lr, norm: norm == 1),  # null is in no order
        ("loop.clip.norm>=-1", lambda name, lr, norm: norm is not None),
    ],
)
def test_a_rule_leaves_out_what_it_says(rule: str, truth: Callable[..., bool]) -> None:
    excludes = exclusion([rule], AXES, True)
    assert [excludes(words) for _, words in JOBS] == [truth(*values) for values, _ in JOBS]


def test_each_of_several_rules_leaves_out() -> None:
    excludes = exclusion(["optimizer=sgd and optimizer.lr=0.1", "loop.clip.norm=1"], AXES, True)
    truth = [(name == "sgd" and lr == 0.1) or norm == 1 for (name, lr, norm), _ in JOBS]
    assert [excludes(words) for _, words in JOBS] == truth
    assert excludes.note(sum(truth)) == "; 8 excluded by sweep.exclude"


@pytest.mark.parametrize(
    ("value", "rule"),
    [("a/b.csv", "x=a/b.csv"), ("mlp-2", "x=mlp-2"), ("'a = b'", "x='a = b'"), ("5%", "x='5%'")]
    + [("[1,2]", "x=[1, 2]"), ("true", "x=true"), ("a.B", "x=a.B"), ("-1", "x=-1")],
)
def test_values_are_read_as_the_command_line_reads_them(value: str, rule: str) -> None:
    excludes = exclusion([rule], [Choices("x", ((f"x={value}",), ("x=other",)))], True)
    assert (excludes((f"x={value}",)), excludes(("x=other",))) == (True, False)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("optimzer=sgd", "'optimzer=sgd' names optimzer; a rule is about what this sweep tries: optimizer,"),
        ("optimzer=sgd", "did you mean optimizer?"),
        ("optimizer.momentum<1", "names optimizer.momentum; a rule is about"),
        ("optimizer<sgd", "must compare optimizer with a number there, got sgd"),
        ("optimizer=sgd and", "'optimizer=sgd and' cannot be read; compare KEY=VALUE"),
        ("optimizer=sgd, optimizer=adamw", "cannot be read at (optimizer == sgd"),
        ("0.001<optimizer.lr<0.1", "cannot be read at 0.001 < optimizer.lr < 0.1"),
        ("optimizer", "cannot be read at optimizer;"),
        ("optimizer=5%", "put quotes around other texts"),
        ("", "cannot be read"),
        ("__import__('os').system('touch ran')", "cannot be read at __import__"),
        ("optimizer=[x for x in [1]]", "excludes none"),  # a text like any other
        ("not " * 100_000 + "optimizer=sgd", "cannot be read"),
        ("(" * 1000, "cannot be read"),
        ("optimizer=lion", "'optimizer=lion' excludes none of the 18 jobs"),
        ("optimizer.lr<1", "'optimizer.lr<1' excludes all of the 18 jobs"),
    ],
)
def test_what_is_no_rule_or_has_no_effect_is_refused(rule: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        exclusion([rule], AXES, True)
    assert text in str(caught.value) and str(caught.value).startswith("sweep.exclude: '")


def test_rules_that_together_leave_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="'optimizer=sgd' with 'optimizer=adamw' excludes all of the 18"):
        exclusion(["optimizer=sgd", "optimizer=adamw"], AXES, True)


def test_keys_in_pairs_are_named_each_and_a_search_tries_no_seeds() -> None:
    pairs = Choices("a,b", (("a=1", "b=x"), ("a=2", "b=y")))
    assert exclusion(["a=1 and b=x"], [pairs], True)(("a=1", "b=x"))
    seed = Choices("seed", (("seed=0",), ("seed=1",)))
    assert exclusion(["seed=1"], [seed, pairs], True)(("seed=1", "a=1", "b=x"))
    with pytest.raises(ConfigError, match="names seed; a rule is about what this sweep tries: a, b"):
        exclusion(["seed=1"], [seed, pairs], False)


@pytest.mark.parametrize("rules", [None, [], "optimizer=sgd", [3], {"a": 1}])
def test_what_is_no_list_of_texts_leaves_out_nothing(rules: Any) -> None:
    assert not any(exclusion(rules, AXES, True)(words) for _, words in JOBS)


def test_an_interval_is_compared_by_the_number_that_was_drawn() -> None:
    axis = SearchInterval("optimizer.lr", 1e-4, 1e-1, is_log=True, is_int=False)
    excludes = exclusion(["optimizer.lr<0.01"], [axis], False)
    assert excludes((axis.word(0.00999),)) and not excludes((axis.word(0.01),))


def test_a_space_has_the_other_jobs_and_a_fault_of_a_file_its_line(folder: Path) -> None:
    words = ["optimizer=sgd,adamw", "optimizer.lr=0.001,0.01"]
    space = Composer().space([*words, 'sweep.exclude=["optimizer=sgd and optimizer.lr<0.01"]'])
    assert space.samples == Composer().space(words).samples[1:]
    file = folder / "conf/experiment/mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\nsweep:\n  exclude: [seeed=1]\n")
    with pytest.raises(ConfigError, match=r"did you mean seed\? \(conf/experiment/mine\.yaml:3\)"):
        Composer().space(["experiment=mine", "seed=0,1"])
