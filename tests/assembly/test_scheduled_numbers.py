"""Numbers on a schedule reach what reads them: optimizer groups, layers, losses, regularisers, clipping."""

from __future__ import annotations

import pytest
from torch import nn

from trainrun.assembly.build import Parts, build
from trainrun.config.compose.composer import Composer
from trainrun.loop.step import set_learning_rates
from trainrun.vocabulary.errors import ConfigError

SMALL = ("data.limit=40", "runtime.threads=1", "model=mlp", "budget=10step")


def at_half(also: str, *words: str) -> Parts:
    """The parts as the 6th of ten updates finds them: what is linear has gone half its way."""
    parts = build(Composer().checked([*SMALL, *words, f"scheduler.also={also}"]).settings)
    parts.state.applied = 5
    set_learning_rates(parts.state)
    return parts


def test_weight_decay_moves_where_there_is_any_and_each_group_keeps_its_share() -> None:
    rule = "parameters.rules={'head*': {weight_decay: 0.04}}"
    groups = at_half("{optimizer.weight_decay: linear}", rule).state.optimizer.param_groups
    assert sorted(group["weight_decay"] for group in groups) == pytest.approx([0, 0.005, 0.02])


@pytest.mark.parametrize(
    ("words", "also", "name", "value"),
    [
        ((), "optimizer.betas.0: {to: 0.5, by: linear}", "betas", (pytest.approx(0.7), 0.999)),
        ((), "optimizer.betas.1: {to: 0.9, by: linear}", "betas", (0.9, pytest.approx(0.9495))),
        ((), "optimizer.eps: {to: 1e-4, by: linear}", "eps", pytest.approx(5.0005e-5, rel=1e-3)),
        (
            ("optimizer=momentum",),
            "optimizer.momentum: {to: 0.5, by: linear}",
            "momentum",
            pytest.approx(0.7),
        ),
    ],
)
def test_values_of_every_group_move(words: tuple[str, ...], also: str, name: str, value: object) -> None:
    groups = at_half(f"{{{also}}}", *words).state.optimizer.param_groups
    assert [group[name] for group in groups] == [value] * len(groups)


@pytest.mark.parametrize("model", ["mlp", "cnn", "gru", "transformer", "gpt"])
def test_dropout_of_every_layer_moves_in_every_model(model: str) -> None:
    data = ("data=text", "data.block_size=8") if model == "gpt" else ()
    more = ["model.width=8", "model.depth=1"] if model in ("gru", "transformer", "gpt") else []
    more += ["model.heads=1"] if model in ("transformer", "gpt") else []
    also = "scheduler.also={model.dropout: linear}"
    words = ["data.limit=40", "budget=10step", *data, f"model={model}", *more, "model.dropout=0.2", also]
    parts = build(Composer().checked(words).settings)
    parts.state.applied = 5
    set_learning_rates(parts.state)
    rates = [layer.p for layer in parts.state.model.modules() if isinstance(layer, nn.Dropout)]
    assert rates and rates == [pytest.approx(0.1)] * len(rates)


def test_parts_beside_the_model_move() -> None:
    also = "regularization.mixup.alpha: linear, regularization.label_smoothing.amount: linear, "
    also += "regularization.l2.strength: linear, regularization.ema.decay: {to: 0.9, by: linear}, "
    words = ("regularization=[mixup,label_smoothing,l2,ema]", "regularization.l2.strength=0.02")
    parts = at_half(f"{{{also}loop.clip.norm: {{to: 3, by: linear}}}}", *words, "loop.clip.norm=1")
    chosen = parts.regularizers
    assert chosen["mixup"].alpha == pytest.approx(parts.settings["regularization"]["mixup"]["alpha"] / 2)
    assert chosen["label_smoothing"].amount == pytest.approx(0.05)
    assert chosen["l2"].strength == pytest.approx(0.01)
    decay = parts.settings["regularization"]["ema"]["decay"]
    assert chosen["ema"].decay == pytest.approx((decay + 0.9) / 2)
    assert parts.clip.norm == pytest.approx(2)


@pytest.mark.parametrize(
    ("words", "also", "value"),
    [
        (("loss=focal",), "loss.gamma", 1.0),
        (("data=diabetes", "loss=huber", "loss.delta=2"), "loss.delta", 1.0),
        (
            ("loss._target_=torch.nn.CrossEntropyLoss", "+loss.label_smoothing=0.5"),
            "loss.label_smoothing",
            0.25,
        ),
    ],
)
def test_a_losss_own_number_moves(words: tuple[str, ...], also: str, value: float) -> None:
    loss = at_half(f"{{{also}: linear}}", *words).task.loss  # type: ignore[attr-defined]
    name = also.partition(".")[2]
    places = [vars(loss), getattr(loss, "options", {}), vars(getattr(loss, "function", loss))]
    assert value in [pytest.approx(place[name]) for place in places if name in place]


@pytest.mark.parametrize(
    ("also", "words", "said"),
    [
        (
            "{optimizer.weight_decay: {to: -1, by: linear}}",
            (),
            "must be a number of at least 0, got -0.495 at step 6",
        ),
        (
            "{optimizer.betas.0: {to: 1.5, by: linear}}",
            (),
            r"must be a list of 2, each a number in \[0, 1\), got",
        ),
        ("{optimizer.betas.0: linear}", ("scheduler=one_cycle",), "is what the scheduler itself moves"),
        (
            "{regularization.early_stopping.patience: linear}",
            ("regularization=[early_stopping]",),
            "is not read at each step by what is called there",
        ),
    ],
)
def test_what_only_the_parts_can_tell_is_refused(also: str, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=f"scheduler.also.*: {said}"):
        at_half(also, *words)


def test_nothing_is_scheduled_where_nothing_was_asked() -> None:
    assert at_half("{}").state.numbers is None


def test_the_plan_draws_each_number() -> None:
    plan = at_half("{optimizer.weight_decay: {to: 0.11, by: linear}}").plan
    [text] = [text for label, text in plan if label == "scheduled"]
    assert text.startswith("optimizer.weight_decay 0.01 ") and text.endswith(" 0.1")
