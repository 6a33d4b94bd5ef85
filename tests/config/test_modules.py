"""`optimizer.modules`, `scheduler.modules` and steps of two networks: what is refused, and when."""

from __future__ import annotations

import re

import pytest

from trainrun.config.check import check
from trainrun.config.compose.composer import Composer

PAIR = ("optimizer=per_module", "optimizer.modules={body: adam, head: {nesterov: {momentum: 0.8}}}")
GAN = "experiment=gan"


def problems(*words: str) -> list[str]:
    composed = Composer().compose([*words])
    return [
        f"{p.key}: {p.text} [{p.fix}]"
        for p in check(composed.settings, composed.explicit, choices=composed.choices)
    ]


@pytest.mark.parametrize(
    "words",
    [
        PAIR,
        (*PAIR, "scheduler=per_module", "scheduler.modules={head: constant, body: {cosine: {warmup: 5%}}}"),
        (GAN,),
        (
            GAN,
            "precision=bf16",
            "loop.clip.norm=1",
            "loop.accumulate=2",
            "regularization=[ema,early_stopping]",
        ),
        (GAN, "task.objective=wgan_gp", "task.gradient_penalty=1", "model.norm=none"),
        ("experiment=wgan_gp", "task.gradient_penalty=5"),
    ],
)
def test_what_has_a_meaning_is_taken(words: tuple[str, ...]) -> None:
    assert problems(*words) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("optimizer=per_module",), "optimizer.modules: needs a value"),
        (("optimizer=per_module", "optimizer.modules={a: adm}"), "optimizer.modules.a: .*did you mean adam"),
        (("optimizer=per_module", "optimizer.modules={a: 3}"), "optimizer.modules.a: must be one optimizer"),
        (
            ("optimizer=per_module", "optimizer.modules={a: sam}"),
            "optimizer.modules.a: sam cannot be one module's",
        ),
        (
            ("optimizer=per_module", "optimizer.modules={a: {adam: {lr: 1}}}"),
            "modules.a.lr: is shared .*parameters.rules",
        ),
        ((*PAIR, "scheduler=per_module", "scheduler.modules={body: cosine}"), "scheduler.modules: must name"),
        (
            ("scheduler=per_module", "scheduler.modules={body: cosine}"),
            "scheduler.modules: must name the same modules as optimizer.modules, none; got body",
        ),
        (
            (*PAIR, "scheduler=per_module", "scheduler.modules={body: cosine, head: plateau}"),
            "scheduler.modules.head: plateau cannot",
        ),
        ((GAN, "optimizer=adam"), "optimizer: must be per_module"),
        ((GAN, "precision=fp16"), r"precision: fp16.*\[precision=bf16\]"),
        ((GAN, "regularization=[l2]"), "regularization.l2: has no place"),
        ((GAN, "regularization=[swa]"), "regularization.swa: has no place"),
        ((GAN, "parameters.unfreeze_at=50%"), "parameters.unfreeze_at: has no place"),
        (
            (GAN, "task.gradient_penalty=5"),
            "task.gradient_penalty: has no effect because task.objective is dcgan",
        ),
        ((GAN, "task.objective=lsgan"), "task.objective: must be dcgan or wgan_gp"),
        ((GAN, "task.discriminator_steps=0"), "task.discriminator_steps: must be"),
        ((GAN, "task=classification"), r"task: gan, its model and its step .*\[experiment=gan\]"),
        (("model=gan",), r"task: gan, its model and its step .*\[experiment=gan\]"),
        (("task=gan",), r"task: gan, its model and its step .*\[experiment=gan\]"),
        ((GAN, "runtime.compile=model"), "runtime.compile: compiles one forward"),
        ((GAN, "loss=focal"), "loss: has no effect with task=gan"),
    ],
)
def test_what_has_none_is_refused_by_name(words: tuple[str, ...], said: str) -> None:
    listed = problems(*words)
    assert any(re.search(said, text) for text in listed), listed
