"""Two runs have one identity if and only if they are the same experiment."""

from __future__ import annotations

import pytest

from trainrun.config.compose.composer import Composer
from trainrun.sweep.identity import identity


def of(*words: str) -> str:
    return identity(Composer().compose(list(words)).settings)


PLAIN = of()


@pytest.mark.parametrize(
    "words",
    [
        "run_dir=elsewhere",
        "name=demo",
        "logger=[csv]",
        "logger=[]",
        "checkpoint.every=7step",
        "checkpoint.keep_last=9",
        "checkpoint.keep_every=10ep",
        "loop.log_every=1step",
        "loop.health=false",
        "data.num_workers=2",
        "data.eval_batch_size=7",
        "runtime.threads=1",
        "runtime.device=cpu",
        "runtime.trust=[timm]",
        "runtime.time_limit=90min",
        "runtime.timeout=30min",
        "runtime.preemption_signal=USR2",
        "sweep.retries=3",
        "run_dir=a resume=auto",
        "optimizer=adamw",  # which is taken anyway
        "optimizer.lr=2e-3",
        "optimizer.lr=0.0020",
        "batch_size=32",
        "loop.probes=[my.probe]",
        "runtime.compile=false",
    ],
)
def test_places_views_and_cadence_do_not_count(words: str) -> None:
    assert of(*words.split()) == PLAIN


@pytest.mark.parametrize(
    "word",
    [
        "optimizer.lr=0.0021",
        "optimizer.weight_decay=0.02",
        "optimizer=sgd",
        "seed=1",
        "batch_size=64",
        "budget=21ep",
        "loop.accumulate=2",
        "loop.eval_every=2ep",  # which decides what is best, and patience
        "loop.clip.norm=1",
        "checkpoint.keep_best=0",  # which decides the weights that are judged
        "data.limit=500",
        "data.val_fraction=0.2",
        "data=wine",
        "model.dropout=0.1",
        "augment=crop_flip",
        "precision=bf16",
        "regularization=ema",
        "scheduler.warmup=6%",
        "monitor=val/loss",
        "runtime.deterministic=true",
        "runtime.compile=true",
        "init=orthogonal",
        "parameters.layer_decay=0.9",
        "loss.class_weights=balanced",
        "init_from=weights.pt",
    ],
)
def test_everything_else_does(word: str) -> None:
    assert of(word) != PLAIN


def test_every_setting_of_the_default_run_counts_or_is_left_out_on_purpose() -> None:
    """Change each leaf in turn: what leaves the identity as it is must be in the list above."""
    settings = Composer().compose([]).settings
    free = {path for path in leaves(settings) if identity(changed(settings, path)) == PLAIN}
    assert free == {
        *("run_dir", "resume", "name", "sweep._target_", "sweep.zip", "sweep.trials", "sweep.fail_fast"),
        *(
            "sweep.exclude",
            "sweep.retries",
            "sweep.repeat_failed",
            "checkpoint.every",
            "checkpoint.keep_last",
        ),
        *("checkpoint.keep_every", "loop.log_every", "loop.health", "loop.probes", "data.num_workers"),
        *("data.eval_batch_size", "runtime.device", "runtime.threads", "runtime.trust"),
        *("runtime.preemption_signal", "runtime.time_limit", "runtime.timeout"),
        *(path for path in leaves(settings) if path.startswith("logger.")),
    }


def leaves(tree: dict, prefix: str = "") -> list[str]:
    paths = []
    for key, value in tree.items():
        path = f"{prefix}.{key}" if prefix else key
        paths += leaves(value, path) if isinstance(value, dict) and value else [path]
    return [path for path in paths if path != "regularization"]


def changed(tree: dict, path: str) -> dict:
    head, _, remainder = path.partition(".")
    return tree | {head: changed(tree[head], remainder) if remainder else "something else"}


def test_the_order_of_regularisers_counts_and_that_of_words_does_not() -> None:
    assert of("regularization=[mixup,ema]") != of("regularization=[ema,mixup]")
    assert of("seed=3", "optimizer=sgd") == of("optimizer=sgd", "seed=3")


def test_a_whole_number_is_one_however_it_is_written() -> None:
    assert of("loop.clip.norm=1") == of("loop.clip.norm=1.0")
    assert of("loop.clip.norm=1") != of("loop.clip.norm=1.5")


def test_published_data_are_known_by_name_and_others_by_their_place() -> None:
    assert of("data=cifar10", "data.root=a") == of("data=cifar10", "data.root=b")
    assert of("data=imagefolder", "data.root=a") != of("data=imagefolder", "data.root=b")
    assert of("data=cifar10", "data.root=a") != of("data=cifar100", "data.root=a")


def test_what_the_environment_says_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHTS", "a.pt")
    first = of("init_from=${oc.env:WEIGHTS}")
    monkeypatch.setenv("WEIGHTS", "b.pt")
    assert of("init_from=${oc.env:WEIGHTS}") != first == of("init_from=a.pt")
