"""What works and is seldom meant: schedules that do not fit their run, and L-BFGS under noise."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

import trainrun
from trainrun.assembly.build import build
from trainrun.cli.guide.pages import read
from trainrun.config.call import StoredOrigin
from trainrun.config.compose.composer import Composer
from trainrun.vocabulary.errors import ConfigError


def lines(label: str, *words: str, stored: Path | None = None) -> list[str]:
    small = ["data.limit=320", "runtime.threads=1", "model=linear", "logger=none"]  # ten steps an epoch
    parts = build(Composer().checked([*small, *words]).settings, stored)
    return [text for name, text in parts.plan if name == label]


# ---- schedules


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["scheduler.first=25%"], "after step 34; cosines of 34, 66 steps, fitted to end with the run"),
        (["scheduler.first=40step", "scheduler.mult=1"], "after steps 34, 67; cosines of 34, 33 steps, "),
        (["scheduler.first=200step"], "none: the first cosine takes the whole run, as scheduler=cosine"),
        (["scheduler.first=1step", "scheduler.mult=1"], "6, 7, 8 ... (99 restarts); cosines of 1 steps, "),
        (
            ["scheduler.first=20step", "scheduler.mult=1", "scheduler.warmup=20step"],
            "after steps 40, 60, 80; ",
        ),
    ],
)
def test_the_plan_lists_restarts(words: list[str], text: str) -> None:
    assert text in lines("restarts", "budget=100step", "scheduler=cosine_restarts", *words)[0]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["scheduler=cosine", "scheduler.warmup=62%"], "the warm-up takes 62 of 100 steps"),
        (["scheduler=plateau", "scheduler.warmup=5ep"], "the warm-up takes 50 of 100 steps"),
        (["scheduler=multistep", "scheduler.at=[50%,30ep]"], "never drops after step 300"),
        (["scheduler=step", "scheduler.every=100step"], "never drops after step 100"),
        (["scheduler=cyclic", "scheduler.up=15%"], "ends at 0.7 of its highest learning rate"),
        (["scheduler=one_cycle", "scheduler.rise=1"], "ends at 1 of its highest learning rate"),
        (["scheduler=wsd", "scheduler.decay=0step"], "ends at 1 of its highest learning rate"),
    ],
)
def test_a_schedule_that_does_not_fit_its_run_is_told(words: list[str], text: str) -> None:
    assert [line for line in lines("caution", "budget=100step", *words) if text in line]


@pytest.mark.parametrize(
    "option", ["warmup_cosine", "step", "multistep", "cyclic", "one_cycle", "wsd", "noam"]
)
@pytest.mark.parametrize("budget", ["1step", "2step", "100step", "730step"])
def test_every_option_as_it_comes_is_no_reason_for_caution(option: str, budget: str) -> None:
    cautions = lines("caution", f"budget={budget}", f"scheduler={option}")
    assert cautions == []


@pytest.mark.parametrize(
    "words",
    [["scheduler.up=15%"], ["scheduler.up=10step", "scheduler.down=33step"], ["scheduler.up=101step"]],
)
@pytest.mark.parametrize("total", [101, 400, 803])
def test_what_is_advised_for_cycles_that_end_high_lets_them_end_low(words: list[str], total: int) -> None:
    cautions = lines("caution", f"budget={total}step", "scheduler=cyclic", *words)
    for line in cautions:
        assert lines("caution", f"budget={total}step", "scheduler=cyclic", *line.split(": ")[1].split()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["scheduler=step", "scheduler.warmup=62%"],
        ["scheduler=multistep", "scheduler.at=[5step,50%]", "scheduler.warmup=1ep"],
    ],
)
def test_drops_inside_the_warm_up_are_refused_but_a_run_that_exists_goes_on(
    words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"scheduler\.warmup: of \d+ steps is still rising when"):
        lines("caution", "budget=100step", *words)
    cautions = lines("caution", "budget=100step", *words, stored=StoredOrigin(tmp_path))
    assert [line for line in cautions if "inside the warm-up" in line]
    lines("caution", "budget=100step", *words[:-1], "scheduler.warmup=5step")  # one that ends as it drops


# ---- L-BFGS


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["batch_size=full"], "dropout would change: model.dropout=0"),
        (["batch_size=full", "regularization=dropout"], "which dropout would change"),
        (["model.dropout=0"], "a batch of 32 samples would change: batch_size=full"),
        ([], "dropout and a batch of 32 samples would change: model.dropout=0 batch_size=full"),
        (["batch_size=full", "model.dropout=0", "augment=crop_flip"], "which augmentation would change"),
        (["batch_size=full", "model.dropout=0", "regularization=mixup"], "which mixup would change"),
    ],
)
def test_lbfgs_is_warned_of_what_changes_the_loss_from_step_to_step(words: list[str], text: str) -> None:
    model = ["model=cnn", "model.widths=[2]", "model.hidden=4"]
    cautions = lines("caution", "optimizer=lbfgs", "budget=1step", *model, *words)
    assert [line for line in cautions if text in line]


def test_lbfgs_on_one_and_the_same_loss_needs_no_caution() -> None:
    assert lines("caution", "optimizer=lbfgs", "budget=1step", "batch_size=full") == []


COMMANDS = [block.text for block in read("not-offered") if block.kind == "command"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_lines_for_full_batches_reach_what_least_squares_reach(command: str, folder: Path) -> None:
    """On five test splits; ordinary least squares on all patients have R2 0.52 on those they have seen."""
    words, reached = command.split()[1:], []
    for seed in range(5):
        few = ["budget=20step", f"seed={seed}", f"run_dir=run{seed}", "logger=none", "runtime.threads=1"]
        reached.append(trainrun.train([*words, *few]).metrics["test"]["r2"])
    x, y = load_diabetes(return_X_y=True)
    best = LinearRegression().fit(x, y).score(x, y)
    assert 0.42 <= statistics.mean(reached) <= best


# ---- ranks


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["parallel=ddp", "parallel.bucket_mb=25.0"], []),
        (["parallel.bucket_mb=1"], ["parallel.bucket_mb has no effect in one process"]),
        (
            ["parallel.bucket_mb=1", "parallel.reduce_dtype=bf16"],
            ["parallel.bucket_mb and parallel.reduce_dtype have no effect in one process"],
        ),
        (["parallel=fsdp"], ["parallel has no effect in one process"]),
    ],
)
def test_how_ranks_share_work_is_nothing_to_one_process(words: list[str], text: list[str]) -> None:
    assert [line for line in lines("caution", "budget=1ep", *words) if "one process" in line] == text
