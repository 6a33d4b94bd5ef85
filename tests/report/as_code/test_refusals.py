"""Whatever the script cannot say is refused by its name, all at once; what changes no weight is taken."""

from __future__ import annotations

import pytest

from trainrun.config.compose.composer import Composer
from trainrun.report.as_code.refusals import refuse
from trainrun.vocabulary.errors import ConfigError


def refused(*words: str) -> list[str]:
    composition = Composer().checked(list(words))
    with pytest.raises(ConfigError) as raised:
        refuse(composition.settings, composition.choices)
    end = " is not in the plain script; leave it out"
    assert all(problem.key == "show loop --as-code" for problem in raised.value.problems)
    assert all(problem.text.endswith(end) for problem in raised.value.problems)
    return [problem.text.removesuffix(end) for problem in raised.value.problems]


@pytest.mark.parametrize(
    "word",
    [
        "regularization=mixup",
        "regularization=early_stopping",
        "augment=crop_flip",
        "scheduler=plateau",
        "scheduler=one_cycle",
        "precision=fp16",
        "loss=focal",
        "init=lsuv",
        "loop.nonfinite=skip",
        "loop.stop_at=0.9",
        "loop.clip.agc=0.01",
        "loss.class_weights=balanced",
        "parameters.layer_decay=0.5",
        "runtime.compile=model",
        "checkpoint.keep_best=0",
        "budget=90s",
    ],
)
def test_one_word_is_refused_by_that_word(word: str) -> None:
    assert refused(word) == [word]


def test_all_are_named_at_once() -> None:
    words = ("regularization=[mixup,ema]", "augment=crop_flip", "loop.stop_at=0.9")
    assert refused(*words) == ["augment=crop_flip", "regularization=mixup", "loop.stop_at=0.9"]


def test_a_call_of_ones_own_is_refused_by_its_target() -> None:
    assert refused("loss._target_=torch.nn.CrossEntropyLoss") == ["loss._target_=torch.nn.CrossEntropyLoss"]


def test_what_has_no_say_in_the_weights_is_taken() -> None:
    words = (
        "logger=none",
        "name=demo",
        "loop.log_every=5step",
        "checkpoint.keep_last=1",
        "runtime.threads=1",
    )
    composition = Composer().checked([*words, "regularization=[dropout,label_smoothing,ema]"])
    refuse(composition.settings, composition.choices)
