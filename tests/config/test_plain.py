"""What is composed without Hydra is what Hydra composes, and a mistake's answer is the same."""

from __future__ import annotations

import shlex
from itertools import zip_longest
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainrun.config.check import plain_problems
from trainrun.config.compose.composer import Composer
from trainrun.config.compose.grammar import parse_override
from trainrun.config.paths import CONF, groups
from trainrun.config.plain import compose_plain, parse_plain
from trainrun.config.tree import leaves
from trainrun.vocabulary.errors import ConfigError, Problem

LEFT_TO_DATA = ("data=arrays", "data=csv", "data=parquet", "loss=auto")
OPTIONS = {
    group: [word for name in names if (word := f"{group}={name}") not in LEFT_TO_DATA]
    for group, names in groups().items()
    if group not in ("experiment", "sweep", "task")
}
LINES = [
    *OPTIONS["data"],  # alone, for what they select of other groups; of these every option in as few lines
    *(" ".join(filter(None, row)) for row in zip_longest(*(OPTIONS[g] for g in OPTIONS if g != "data"))),
    *(
        "",
        "data=diabetes seed=3 budget=7ep",
        "data=wine loss=mse",
        "optimizer=schedule_free scheduler=cosine",
    ),
    *(
        "optimizer=own",
        "optimizer.lr=1e-3 optimizer.eps=1.0e-9",
        "loop.clip=1.0",
        "foo.bar=1",
        "seed=1 seed=2",
    ),
    *("runtime.compile=true", "runtime.compile=false", "runtime.compile=off"),
    *("regularization.ema.decay=0.5 data.split_seed=4", "name=null run_dir=a/b.c runtime.deterministic=TRUE"),
]


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_composed_as_hydra_does(line: str, folder: Path) -> None:
    run, expected = compose_plain(line.split()), Composer().compose(line.split())
    assert run is not None
    assert list(leaves(run.settings)) == list(leaves(expected.settings))  # in the same order, too
    assert (run.overrides, run.explicit, run.files) == (expected.overrides, expected.explicit, expected.files)
    chosen = {group: option for group, option in expected.choices.items() if "/" not in group}
    assert {group: run.choices[group] for group in chosen} == chosen
    keys = [key for key, _ in leaves(run.settings)]
    assert list(map(run.refers, keys)) == list(map(expected.refers, keys))


@given(st.text("aeEinfNtrulTx0159_-./%", min_size=1, max_size=7))
@example("1e400")
@example("16-mixed")
@example("-3ep")
@example("007")
@example("1_000")
@settings(max_examples=300, deadline=None)
def test_a_word_is_read_as_hydras_grammar_reads_it(text: str) -> None:
    word = f"optimizer.lr={text}"
    override = parse_plain(word)
    assert override is None or override == parse_override(word)


@pytest.mark.parametrize(
    "word",
    [
        *(
            "optimizer.lr=",
            "optimizer.betas=[0.9,0.9]",
            "+foo=1",
            "~optimizer",
            "a@b=1",
            "model=mlp,cnn",
            "x.yaml",
        ),
        *(
            "experiment=gan",
            "task=binary",
            "sweep.trials=3",
            "hydra.job.num=1",
            "model._target_=my.Net",
            "-m",
        ),
        *("seed=${batch_size}", "name='a b'", "optimizer.lr=inf", *LEFT_TO_DATA),
    ],
)
def test_what_takes_hydra_is_left_to_it(word: str, folder: Path) -> None:
    assert compose_plain([word]) is None and plain_problems([word]) == []


def test_options_of_the_users_own_are_left_to_hydra(folder: Path) -> None:
    (folder / "conf").mkdir()
    assert compose_plain([]) is None and plain_problems(["optimizer.lrr=1"]) == []


MISTAKES = [
    *(
        "optimizer=adamww",
        "optimzer=adamw",
        "optimizer.lrr=1",
        "optimizer.lr=abc",
        "model.dropout=2",
        "lr=0.1",
    ),
    *("loop.clip=1.0", "budget=10epochs", "monitor=val/acc", "epochs=10", "ema=true", "precision=16-mixed"),
    *("depth=3", "cuda=true", "init.mode=fan_out", "optimizer.lr=null", "seed=abc", "seed=1.5", "loss=bce"),
    *("monitor_mode=min", "data=wine loss=mse", "optimizer=lbfgs precision=fp16"),
    *(
        "data=dataset",
        "loss=distillation",
        "name=1e3",
        "name=true",
        "resume=auto",
    ),
    *(
        "budget=5min loop.log_every=1s",
        "data.fold=7",
        "logger=nope",
        "optimizer=own",
        "optimizer.base_batch_size=8",
    ),
    *("regularization=ema regularization.ema.decay=1.5", "regularization.swa.start=1ep", "runtime.trust=foo"),
    *("data.val_fraction=0.5 data.test_fraction=0.5", "model.depth=x", "optimizer=adamw optimizer=sgdd"),
    *("runtime.compile.mode=max", "seed.x=1", "runtime.compile=maybe"),
]


PAIRS = [" ".join(pair) for pair in zip(MISTAKES[::2], MISTAKES[1::2], strict=False)]


@pytest.mark.parametrize("line", [*MISTAKES, *PAIRS])
def test_a_mistake_has_hydras_answer(line: str, folder: Path) -> None:
    problems = plain_problems(shlex.split(line))
    assert problems and problems == _by_hydra(shlex.split(line))


def test_what_is_no_mistake_has_no_answer(folder: Path) -> None:
    words = [word for words in OPTIONS.values() for word in words]
    answers = {word: problems for word in words if (problems := plain_problems([word]))}
    assert answers and answers == {word: _by_hydra([word]) for word in answers}


def test_no_built_in_option_refers_to_more_than_a_top_level_setting() -> None:
    for file in CONF.glob("*/*.yaml"):
        references = [part.partition("}")[0] for part in file.read_text().split("${")[1:]]
        assert set(references) <= {"seed"} or file.parent.name == "experiment"


def _by_hydra(words: list[str]) -> list[Problem]:
    try:
        Composer().checked(words)
    except ConfigError as error:
        return error.problems
    return []
