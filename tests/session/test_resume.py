"""Which settings a resume may change, and what it says: against a list of every setting written by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from trainrun.config.compose.composer import Composer
from trainrun.session.resume import (
    change_class,
    changed_settings,
    changes_of_line,
    may_change,
    refuse_other_forms,
    resumed,
)
from trainrun.vocabulary.errors import ConfigError

# Every setting of the default run. What may be a matter of taste elsewhere is not one here: a setting that
# decides what is learned, from which data, in which arithmetic, makes another run.
FREE = """
    batch_size loop.accumulate loop.log_every loop.health loop.probes name
    checkpoint._target_ checkpoint.every checkpoint.keep_last checkpoint.keep_best checkpoint.keep_every
    data.num_workers data.eval_batch_size
    logger.console._target_ logger.tensorboard._target_ logger.tensorboard.samples
    logger.tensorboard.histograms
    runtime.preemption_signal runtime.time_limit runtime.trust runtime.profile runtime.timeout
    runtime.activation_checkpointing
    parallel._target_ parallel.bucket_mb
"""
TAKES_EFFECT = """
    budget loop.eval_every loop.stop_at loop.nonfinite loop.nonfinite_limit loop.rollback_lr
    loop.clip._target_ loop.clip.norm loop.clip.value loop.clip.agc runtime.threads parallel.reduce_dtype
    optimizer._target_ optimizer.lr optimizer.betas optimizer.eps optimizer.amsgrad optimizer.weight_decay
    optimizer.lr_scaling optimizer.base_batch_size
    scheduler._target_ scheduler.warmup scheduler.warmup_start scheduler.min_lr scheduler.also
"""
IDENTITY = """
    seed monitor monitor_mode run_dir resume init_from regularization
    augment._target_ loop._target_ loop.step._target_ precision._target_
    data._target_ data.val_fraction data.test_fraction data.split_seed data.fold data.num_folds data.limit
    data.balanced
    model._target_ model.widths model.depth model.hidden model.activation model.norm model.dropout
    init._target_ init.zero_residual task._target_ task.metrics loss._target_ loss.class_weights
    parameters._target_ parameters.decay_norm_and_bias parameters.layer_decay parameters.lora
    parameters.rules parameters.unfreeze_at
    runtime._target_ runtime.device runtime.deterministic runtime.compile runtime.channels_last
    runtime.sync_batch_norm
    sweep._target_ sweep.zip sweep.exclude sweep.ranks sweep.trials sweep.fail_fast
    sweep.retries sweep.repeat_failed
"""
CLASSES = {"free": FREE.split(), "takes effect": TAKES_EFFECT.split(), "identity": IDENTITY.split()}


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(value, dict) and value:
            yield from leaves(value, key)
        else:
            yield key


def test_every_setting_has_the_class_that_is_written_here() -> None:
    classes: dict[str, list[str]] = {name: [] for name in CLASSES}
    for key in leaves(Composer().compose([]).settings):
        classes[change_class(key)].append(key)
    assert {name: sorted(keys) for name, keys in classes.items()} == {
        name: sorted(keys) for name, keys in CLASSES.items()
    }


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("regularization.ema.decay", True),
        ("regularization", False),  # which there are is not a value
        ("data.root", True),
        ("data.path", False),
        ("augment.until", True),
        ("augment.flip", False),
        ("scheduler.also.optimizer.weight_decay", True),
        ("optimizer.modules.generator", False),  # which optimizer, as opposed to its values
        ("optimizer.modules.generator.adam.betas", True),
        ("scheduler.modules.generator", True),
        ("task.discriminator_steps", False),
        ("loss.teacher", False),
        ("precision", False),
        ("precision.init_scale", False),
        ("scheduler", True),
        ("model", False),
        ("loops", False),
        ("name.x", False),
        ("checkpoints", True),  # no such setting: the pattern takes the group and all below it
    ],
)
def test_settings_beside_the_default_ones(key: str, expected: bool) -> None:
    assert may_change(key) is expected


def test_changed_settings_are_told_by_value_and_type_at_any_depth() -> None:
    before = {"a": 1, "b": {"c": 2, "d": [1]}, "gone": 3, "same": {"x": None}}
    after = {"a": 1.0, "b": {"c": 2, "d": [2]}, "new": 4, "same": {"x": None}}
    assert changed_settings(before, after) == {
        "a": (1, 1.0),
        "b.d": ([1], [2]),
        "gone": (3, None),
        "new": (None, 4),
    }
    assert changed_settings({"a": {"b": 1}}, {"a": 2}) == {"a": ({"b": 1}, 2)}
    assert changed_settings({"a": True}, {"a": 1}) == {"a": (True, 1)}


def test_of_a_line_only_what_is_new_is_a_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/overrides.yaml").write_text("- seed=4\n- budget=2ep\n- run_dir=run\n- data=iris\n")
    line = ["data=iris", "budget=3ep", "run_dir=run", "resume=auto"]
    assert changes_of_line(tmp_path, line) == ["budget=3ep"]
    assert capsys.readouterr().err == "seed=4: kept from the first start\n"


@pytest.mark.parametrize("text", ["", "- [", "a: 1", "- 1\n- [x]\n", "\x00"])
def test_damaged_first_words_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/overrides.yaml").write_text(text)
    assert changes_of_line(tmp_path, ["seed=1"]) == ["seed=1"]
    assert changes_of_line(tmp_path / "none", ["seed=1"]) == ["seed=1"]


def test_dashes_are_answered_with_the_line_that_was_meant() -> None:
    refuse_other_forms("demo", ["budget=3ep"])
    with pytest.raises(ConfigError, match="without dashes") as caught:
        refuse_other_forms("demo", ["--budget", "3ep"])
    assert caught.value.problems[0].fix == "trainrun resume demo budget=3ep"


def resume(run: Path, *words: str) -> Any:
    return resumed(run, list(words), True, ["trainrun", "resume", "run", *words])


def test_a_finished_run_has_nothing_left_unless_its_budget_grows(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resume(run).result is None
    assert capsys.readouterr().err == "run is complete at step 4: nothing to do\n"
    assert resume(run, "optimizer.lr=0.2", "budget=4step").result is None
    assert "nothing to do; optimizer.lr stays as it was" in capsys.readouterr().err
    ended = resume(run, "budget=5step")
    assert (ended.result.step, ended.result.state, ended.budget) == (5, "completed", "5step")
    said = capsys.readouterr().err
    assert "budget: 4step -> 5step (takes effect)" in said
    assert "the learning rate is planned again over 5 steps, from where it stands" in said
    assert json.loads((run / "status.json").read_text())["step"] == 5


def test_another_identity_is_refused_with_the_line_of_the_new_run(run: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"seed: cannot change on resume, 0 -> 3; it makes a new run"
    ) as caught:
        resume(run, "seed=3", "budget=9step")
    line = caught.value.problems[0].fix
    assert line is not None and line.startswith("trainrun data=iris model=mlp")
    assert line.endswith("seed=3 budget=9step init_from=run")
    assert "budget=4step" not in line


@pytest.mark.parametrize(
    ("words", "key", "fix"),
    [
        (("batch_size=4",), "loop.accumulate", "loop.accumulate=2"),
        (("batch_size=3",), "batch_size", None),  # 8 is no multiple of it
        (("batch_size=16",), "batch_size", None),
        (("loop.accumulate=2",), "loop.accumulate", "loop.accumulate=1"),
    ],
)
def test_the_samples_of_a_step_stay_whatever_their_cut(
    words: tuple[str, ...], key: str, fix: str | None, run: Path
) -> None:
    with pytest.raises(ConfigError, match="the run takes 8 samples a step") as caught:
        resume(run, *words)
    assert (caught.value.problems[0].key, caught.value.problems[0].fix) == (key, fix)
    assert resume(run, "batch_size=2", "loop.accumulate=4").result is None  # the same window, cut smaller
