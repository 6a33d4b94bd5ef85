"""Settings that contradict each other, or that nothing would read, are refused with the way out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from trainrun.config.check import check
from trainrun.config.compose.composer import Composer, Composition
from trainrun.config.injection import SLOTS
from trainrun.config.rules import contradictions
from trainrun.vocabulary.errors import Problem

# words -> (key, part of the message, the way out or None)
REFUSED: dict[str, tuple[str, str, str | None]] = {
    "task=regression": ("task", "digits has classes", "task=classification"),
    "data=diabetes task=classification": ("task", "diabetes has values", "task=regression"),
    "data=synthetic_table data.kind=labels": ("task", "has labels", None),
    "data=breast_cancer task=classification loss=mse": ("loss", "does not fit", "loss=cross_entropy"),
    "data=breast_cancer task=multilabel": ("task", "has classes", "task=binary"),
    "data=diabetes loss=cross_entropy": ("loss", "one of mse, l1, huber", "loss=mse"),
    "data=text model=transformer": ("model", "sees the tokens", "model=gpt"),
    "data=text task=masked_lm": ("model", "sees only what comes before", "model=transformer"),
    "data=text model=lstm task=masked_lm": ("model", "sees only what comes before", "model=transformer"),
    "data=text loss=focal": ("loss", "does not fit task=language_model", "loss=cross_entropy"),
    "data=text task=classification": ("task", "text has tokens", "task=language_model"),
    "data=wine data.balanced=true loss.class_weights=balanced": (
        "loss.class_weights",
        "count twice",
        "loss.class_weights=null",
    ),
    "data=breast_cancer data.balanced=true loss.pos_weight=balanced": (
        "loss.pos_weight",
        "count twice",
        "loss.pos_weight=null",
    ),
    "data=breast_cancer loss=mse": ("loss", "does not fit task=binary", "loss=bce_with_logits"),
    "optimizer=lbfgs precision=fp16": ("precision", "line search", "precision=fp32"),
    "optimizer=lbfgs loop.clip.norm=1": ("loop.clip.norm", "curvature", "loop.clip.norm=null"),
    "optimizer=lbfgs loop.clip.value=1": ("loop.clip.value", "curvature", "loop.clip.value=null"),
    "optimizer=lbfgs parameters.rules={head*:{lr:0.1}}": ("parameters.rules", "one group", None),
    "optimizer=sam precision=fp16": ("precision", "one loss scale", "precision=bf16"),
    "optimizer=sam optimizer.base=adamx": ("optimizer.base", "did you mean adam", None),
    "optimizer=sam optimizer.base=lbfgs": ("optimizer.base", "cannot be wrapped", "optimizer.base=momentum"),
    "optimizer=sam optimizer.base={adam:{},sgd:{}}": ("optimizer.base", "must be one optimizer", None),
    "optimizer=schedule_free scheduler=cosine": ("scheduler", "averages", "scheduler=warmup_constant"),
    "optimizer=own": ("optimizer", "of a LightningModule, with task=lightning", None),
    "task=lightning optimizer=own scheduler=cosine": ("scheduler", "has no effect", "scheduler=constant"),
    "task=lightning optimizer=own scheduler.warmup=9step": ("scheduler.warmup", "has no effect", None),
    "task=lightning optimizer=own parameters.layer_decay=0.5": (
        "parameters.layer_decay",
        "has no effect because optimizer=own takes what configure_optimizers returns",
        None,
    ),
    "task=lightning optimizer=own optimizer.lr_scaling=sqrt": ("optimizer.lr_scaling", "has no effect", None),
    "optimizer=schedule_free regularization=ema": ("regularization", "one average", None),
    "loop.clip.norm=1 loop.clip.value=1": ("loop.clip.value", "loop.clip.norm", "loop.clip.value=null"),
    "loop.clip.norm=1 loop.clip.agc=0.01": ("loop.clip.agc", "loop.clip.norm", "loop.clip.agc=null"),
    "parallel=fsdp parallel.reduce=last": ("parallel.reduce", "loop.accumulate is 1", None),
    "optimizer.base_batch_size=128": ("optimizer.base_batch_size", "lr_scaling is none", None),
    "scheduler=cosine scheduler.warmup_start=0.1": ("scheduler.warmup_start", "warmup is 0", None),
    "scheduler=cyclic scheduler.gamma=0.9": ("scheduler.gamma", "mode triangular", None),
    "batch_size=full loop.accumulate=2": ("loop.accumulate", "has no effect", None),
    "data.val_fraction=0 monitor=val/loss": ("monitor", "data.val_fraction is 0", None),
    "data.val_fraction=0 regularization=early_stopping": ("data.val_fraction", "early_stopping", None),
    "data.val_fraction=0 scheduler=plateau": ("data.val_fraction", "plateau", None),
    "data.val_fraction=0 loop.stop_at=0.9": ("data.val_fraction", "loop.stop_at", None),
    "data.val_fraction=0.5 data.test_fraction=0.5": ("data.val_fraction", "nothing to train on", None),
    "regularization=dropout model.dropout=0.1": ("model.dropout", "has no effect", None),
    "data=diabetes regularization=label_smoothing": (
        "regularization.label_smoothing",
        "the task is regression",
        None,
    ),
    "loss=focal regularization=label_smoothing": ("regularization.label_smoothing", "soft targets", None),
    "monitor=test/accuracy": ("monitor", "worthless", "monitor=val/accuracy"),
    "monitor=loss": ("monitor", "val/loss", "monitor=val/loss"),
    "monitor=val/acc": ("monitor", "did you mean val/accuracy?", "monitor=val/accuracy"),
    "monitor=val_acc": ("monitor", "must be a metric", "monitor=val/accuracy"),
    "monitor=train/loss": ("monitor", "must be a metric", "monitor=val/loss"),
    "monitor=val/f1": ("monitor", "did you mean val/f1_macro?", "monitor=val/f1_macro"),
    "monitor=val/bleu": ("monitor", "val/loss, val/accuracy, val/f1_macro, val/mean_iou, val/top5", None),
    "data=wine data.fold=5": ("data.fold", "must be from 0 to 4, got 5", None),
    "data=wine data.fold=0 data.test_fraction=0.1": ("data.test_fraction", "has no effect", None),
    "data=diabetes monitor=val/accuracy": ("monitor", "val/rmse, val/mae, val/r2", None),
    "monitor_mode=min": ("monitor_mode", "worst weights by val/accuracy", "monitor_mode=auto"),
    "monitor=val/loss monitor_mode=max": ("monitor_mode", "worst weights by val/loss", "monitor_mode=auto"),
    "budget=50%": ("budget", "share of itself", None),
    "budget=5min loop.eval_every=10%": ("loop.eval_every", "not known beforehand", None),
    "budget=5min loop.log_every=1.5%": ("loop.log_every", "budget=5min", None),
    "budget=1h checkpoint.keep_every=5%": ("checkpoint.keep_every", "use ep, step or sample", None),
    "budget=90s scheduler=torch scheduler.arguments={T_max:'@total_steps'}": (
        "scheduler.arguments.T_max",
        "cannot be planned again",
        None,
    ),
    "name=last": ("name", "must be at most 100 letters", None),
    "name=a/b": ("name", "must be at most 100 letters", "name=a-b"),
    "name=-x": ("name", "must be at most 100 letters", "name=x"),
    "parameters.rules={head*:3}": ("parameters.rules.head*", "got 3", None),
    "parameters.rules={head*:{lrr:1}}": ("parameters.rules.head*.lrr", "lr, weight_decay, freeze", None),
    "parameters.rules={head*:{lr:-1}}": ("parameters.rules.head*.lr", "at least 0, got -1", None),
    "parameters.rules={head*:{freeze:1}}": ("parameters.rules.head*.freeze", "true or false", None),
    "parameters.rules={head*:{init:xavier}}": ("parameters.rules.head*.init", "xavier_uniform", None),
    "parameters.rules={head*:{init:{zeros:{},normal:{}}}}": ("parameters.rules.head*.init", "one init", None),
    "optimizer=lbfgs parameters.rules={head*:{weight_decay:0}}": ("parameters.rules", "", None),
}


@cache
def chosen(options: tuple[str, ...]) -> Composition:
    return Composer().compose(list(options))


def problems_of(words: Sequence[str]) -> list[Problem]:
    """The problems of settings with these choices of options, and these values put in by hand."""
    options = tuple(word for word in words if word.split("=")[0] in SLOTS)
    composed = chosen(options)
    settings = copy.deepcopy(composed.settings)
    for word in words:
        if word in options:
            continue
        *path, leaf = word.split("=")[0].split(".")
        node = settings
        for part in path:
            node = node[part]
        value = OverridesParser.create().parse_override(word).value()
        node[leaf] = {**node[leaf], **value} if leaf == "clip" else value
    return check(settings, [word.split("=")[0] for word in words], choices=composed.choices)


@pytest.mark.parametrize("words", REFUSED, ids=str)
def test_a_contradiction_is_named_with_the_way_out(words: str) -> None:
    key, said, fix = REFUSED[words]
    problems = [problem for problem in problems_of(words.split()) if problem.key == key]
    assert problems
    assert said in problems[0].text
    assert problems[0].fix == fix


@pytest.mark.parametrize("words", [words for words, (_, _, fix) in REFUSED.items() if fix], ids=str)
def test_the_way_out_is_one(words: str) -> None:
    key, _, fix = REFUSED[words]
    assert problems_of([*(word for word in words.split() if word.split("=")[0] != key), str(fix)]) == []


@pytest.mark.parametrize(
    "words",
    [
        "",
        "data=diabetes",
        "data=diabetes loss=huber",
        "data=breast_cancer loss=focal",
        "optimizer=lbfgs batch_size=full",
        "optimizer=sam loop.clip.norm=1 precision=bf16",
        "optimizer=sam optimizer.base={momentum:{momentum:0.8}}",
        "optimizer=schedule_free scheduler=constant",
        "task=lightning optimizer=own",
        "task=lightning optimizer=own scheduler=constant",
        "budget=5min scheduler=wsd scheduler.warmup=2ep scheduler.decay=10%",
        "budget=5min scheduler=plateau",
        "budget=5min scheduler=torch",
        "loop.eval_every=10% checkpoint.every=5%",
        "optimizer.base_batch_size=128 optimizer.lr_scaling=linear",
        "parallel=fsdp parallel.reduce=last loop.accumulate=2",
        "scheduler=cosine scheduler.warmup=5% scheduler.warmup_start=0.1",
        "scheduler=cyclic scheduler.mode=exp_range scheduler.gamma=0.9",
        "regularization=[dropout,ema,early_stopping,label_smoothing]",
        "regularization=dropout regularization.dropout.p=0.5",
        "data.val_fraction=0",
        "monitor=val/loss monitor_mode=min",
        "monitor=val/top5",
        "data=diabetes monitor=val/r2",
        "data=synthetic_table data.kind=classes task=classification loss=cross_entropy",
        "name=a.b-c_1",
        "parameters.rules={head*:{init:xavier_uniform,lr:0.1,freeze:false},stages*:{freeze:true}}",
        "parameters.rules={head*:{init:{normal:{std:0.01}}}}",
        "loop.clip.norm=1",
        "loop.clip={value:0.5}",
    ],
    ids=str,
)
def test_what_goes_together_is_let_through(words: str) -> None:
    assert problems_of(words.split()) == []


def test_the_loss_is_told_with_the_task_where_both_were_chosen() -> None:
    problems = problems_of(["data=diabetes", "task=classification", "loss=cross_entropy"])
    assert [problem.fix for problem in problems] == ["task=regression", "loss=mse"]


@pytest.mark.parametrize(
    "metrics", [["my_module.my_own"], [{"_target_": "my_module.Own"}]], ids=["name", "call"]
)
def test_a_metric_of_the_users_own_may_be_monitored(metrics: list[Any]) -> None:
    settings = copy.deepcopy(chosen(()).settings)
    settings["task"]["metrics"], settings["monitor"] = metrics, "val/my_own"
    settings["monitor_mode"] = "min"
    assert contradictions(settings, (), {}) == []


def test_a_task_of_the_users_own_may_have_any_metric() -> None:
    settings = copy.deepcopy(chosen(()).settings)
    settings |= {"task": {"_target_": "my_module.MyTask"}, "monitor": "val/my_own", "monitor_mode": "min"}
    assert contradictions(settings, (), {}) == []
