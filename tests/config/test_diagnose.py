"""A word without a place is answered with the place that was meant."""

from __future__ import annotations

from typing import Any

import pytest

from trainrun.config.compose.grammar import parse_override
from trainrun.config.diagnose import misread, options_with, paths_of, unknown_argument, unknown_key
from trainrun.config.paths import CONF

GROUPS = {
    "optimizer": ["adam", "adamw", "sgd"],
    "precision": ["bf16", "fp16", "fp32"],
    "loss": ["bce_with_logits", "l1", "mse"],
    "regularization": ["dropout", "ema"],
    "experiment": ["mine"],
}
KNOWN = [
    "budget",
    "seed",
    "optimizer",
    "optimizer.lr",
    "optimizer._target_",
    "loop",
    "loop.every",
    "save.every",
]
COMBINES = ("regularization",)


@pytest.mark.parametrize(
    ("key", "value", "said", "fix"),
    [
        ("epochs", 3, "is called budget here", "budget=3ep"),
        ("lr", 0.1, "is called optimizer.lr here", "optimizer.lr=0.1"),
        ("opt", "Adam", "is called optimizer here", "optimizer=adam"),
        ("opt", "lion", "there are adam, adamw, sgd", None),
        ("gpus", 1, "is runtime.device here", "runtime.device=cuda"),
        ("bf16", True, "is the group precision", "precision=bf16"),
        ("fp16", False, "is the group precision", "precision=fp32"),
        ("ckpt_path", "a b", "is a command here", "trainrun resume 'a b'"),
        ("ema", True, "is an option: regularization=ema", "regularization=ema"),
        ("ema", 0.9, "is an option: regularization=ema", None),
        ("every", "1ep", "is loop.every or save.every here", None),
        ("budgett", "1ep", "did you mean budget?", "budget=1ep"),
        ("optimiser", {"lr": 1}, "did you mean optimizer?", "optimizer={lr:1}"),
        ("optimizr.lrr", 1, "did you mean optimizer.lr?", "optimizer.lr=1"),
        ("zzz", 1, "there are budget, experiment", None),
    ],
)
def test_an_unknown_key_names_what_was_meant(key: str, value: Any, said: str, fix: str | None) -> None:
    problem = unknown_key(key, value, KNOWN, GROUPS)
    assert problem.key == key
    assert said in problem.text
    assert problem.fix == fix


def test_a_call_is_never_offered_as_a_misspelling() -> None:
    assert "_target_" not in unknown_key("optimizerr.target", 1, KNOWN, GROUPS).text


@pytest.mark.parametrize(
    ("word", "said", "fix"),
    [
        ("optimizer=adm", "did you mean adam?", "optimizer=adam"),
        ("optimizer=zz", "there are adam, adamw, sgd", None),
        ("loss=bce", "log(0)", "loss=bce_with_logits"),
        ("precision=16", "did you mean fp16?", "precision=fp16"),
        ("optimizer=null", "got null", None),
        ("regularization=null", "got null", "regularization=[]"),
        ("optimizer=[sgd]", "takes one option", None),
        ("+optimizer=sgd", "takes no +", "optimizer=sgd"),
        ("~optimizer", "cannot be left out", None),
        ("optimizer=adam,sgd", "add -m", None),
        ("=", "is not KEY=VALUE", None),
    ],
)
def test_a_choice_that_cannot_be_is_refused(word: str, said: str, fix: str | None) -> None:
    (problem,) = misread(parse_override(word), GROUPS, COMBINES, multirun=False)
    assert said in problem.text
    assert problem.fix == fix


def test_all_members_of_a_list_are_mended_together() -> None:
    word = "regularization=[emaa,dropot]"
    problems = misread(parse_override(word), GROUPS, COMBINES, multirun=False)
    assert [problem.fix for problem in problems] == ["regularization=[ema,dropout]"] * 2


@pytest.mark.parametrize(
    "word", ["optimizer=adam", "regularization=[ema]", "regularization=[]", "anything.else=1"]
)
def test_a_choice_that_can_be_is_no_problem(word: str) -> None:
    assert misread(parse_override(word), GROUPS, COMBINES, multirun=False) == []


def test_a_sweep_is_none_of_a_single_runs_words() -> None:
    word = "optimizer=adam,sgd"
    assert misread(parse_override(word), GROUPS, COMBINES, multirun=True) == []


def test_trained_weights_asked_of_a_model_are_told_to_be_the_runs() -> None:
    text, near = unknown_argument("model", "pretrained", ["name"], "trainrun.model.torchvision.torchvision")
    assert "init_from=FILE" in text
    assert near is None


def test_an_argument_of_another_option_is_named_with_it() -> None:
    text, near = unknown_argument("optimizer", "momentum", ["lr", "eps"], "trainrun.optimizer.adamw")
    assert "adamw takes no 'momentum'" in text
    assert "optimizer=momentum, muon, nesterov or rmsprop does" in text
    assert near is None
    text, near = unknown_argument("optimizer", "learning_rate", ["lr", "eps"], "torch.optim.AdamW")
    assert (near, "torch.optim.AdamW takes no" in text) == ("lr", True)


def test_options_with_reads_the_option_files() -> None:
    for option in options_with("momentum")["optimizer"]:
        assert "\nmomentum:" in (CONF / "optimizer" / f"{option}.yaml").read_text()
    assert options_with("nothing_has_this") == {}


def test_paths_of_names_every_level() -> None:
    assert list(paths_of({"a": {"b": {"c": 1}}, "d": [1]})) == ["a", "a.b", "a.b.c", "d"]
