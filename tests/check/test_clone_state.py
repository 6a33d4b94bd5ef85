"""A state made anew is what the run itself begins with, and shares nothing with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from toy import same_bits

from trainrun.check.clone_state import fresh_state
from trainrun.check.context import CheckContext

WORDS = [
    ("optimizer=adamw", "scheduler=plateau", "regularization=early_stopping"),
    ("optimizer=lbfgs",),
    ("optimizer=schedule_free", "scheduler=constant"),
    ("optimizer=sam", "regularization=ema", "parameters.rules={head*:{lr:0.1}}"),
]


@pytest.mark.parametrize("words", WORDS, ids=lambda words: words[0])
def test_it_is_what_the_run_begins_with(
    words: tuple[str, ...], make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    context = make_context(*classes, "model=mlp", *words)
    parts = context.parts
    state = fresh_state(context, context.model, parts.settings["optimizer"], parts.rates.lr)
    assert same_bits(state.state_dict(), parts.state.state_dict())
    loop = parts.loop(Path(), "", None, parts.runtime.signals())
    before = {key: value.clone() for key, value in parts.state.model.state_dict().items()}
    loop.step(state, [context.batch])
    loop.checkpoints.close()
    assert same_bits(before, dict(parts.state.model.state_dict()))
    assert not same_bits(before, dict(state.model.state_dict()))
