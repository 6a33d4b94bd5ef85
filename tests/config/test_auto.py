"""What is left to the data: task and loss follow the target, the shell's choice wins."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trainrun.config.check import problems_of
from trainrun.config.compose.composer import Composer
from trainrun.vocabulary.errors import ConfigError

TABLES = {
    "price": ("Regression", "MSE", "values", "val/rmse"),
    "sold": ("Binary", "BCEWithLogits", "classes", "val/accuracy"),
    "city": ("Classification", "CrossEntropy", "classes", "val/accuracy"),
}


@pytest.fixture
def houses(tmp_path: Path) -> str:
    rows = [f"{n * 1.5},{('yes', 'no')[n % 2]},{('rome', 'oslo', 'bern')[n % 3]}" for n in range(30)]
    (tmp_path / "houses.csv").write_text("\n".join(["price,sold,city", *rows]))
    return f"data.path={tmp_path / 'houses.csv'}"


def composed(*words: str) -> dict:
    job = Composer().compose(list(words))
    if problems := problems_of(job):
        raise ConfigError(problems)
    return job.settings | {"explicit": job.explicit}


def short(settings: dict) -> tuple[str, str, str, str]:
    task, loss = (settings[group]["_target_"].rpartition(".")[2] for group in ("task", "loss"))
    return task, loss, settings["data"]["kind"], settings["monitor"]


@pytest.mark.parametrize("target", TABLES)
@pytest.mark.parametrize("data", ["csv", "parquet"])
def test_task_loss_and_monitor_follow_the_target(houses: str, target: str, data: str) -> None:
    settings = composed(f"data={data}", houses, f"data.target={target}")
    assert short(settings) == TABLES[target]
    assert settings["explicit"] == ["data", "data.path", "data.target"]


@pytest.mark.parametrize(
    ("written", "words", "expected"),
    [
        ("{n},5", (), ("Regression", "values")),
        ("{n} %", (), ("Regression", "values")),
        ("1.{m} €", ("data.decimal=comma",), ("Regression", "values")),
        ("{n},5", ("data.categorical=[]", "data.kind=classes"), ("Classification", "classes")),
    ],
)
def test_a_target_in_another_notation_is_a_value(
    tmp_path: Path, written: str, words: tuple[str, ...], expected: tuple[str, str]
) -> None:
    rows = [f"{n};{written.format(n=n % 13, m=100 + n)}" for n in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["x;y", *rows]))
    task, _, kind, _ = short(composed("data=csv", f"data.path={tmp_path / 't.csv'}", "data.target=y", *words))
    assert (task, kind) == expected


def test_how_a_table_is_written_is_asked_for_in_words(houses: str) -> None:
    wrong = [
        "data.separator=semicolom",
        "data.encoding=latin-99",
        "data.decimal=comma",
        "data.thousands=comma",
    ]
    with pytest.raises(ConfigError) as caught:
        composed("data=csv", houses, "data.target=price", *wrong)
    problems = {problem.key: problem for problem in caught.value.problems}
    assert problems.keys() == {"data.separator", "data.encoding", "data.thousands"}
    assert problems["data.separator"].fix == "data.separator=semicolon"
    words = ["data.separator=comma", "data.encoding=utf-8", "data.decimal=point", "data.thousands=none"]
    composed("data=csv", houses, "data.target=price", *words, "data.header=true", "data.missing_target=drop")


def test_the_shells_choice_wins(houses: str) -> None:
    words = ("data=csv", houses, "data.target=sold")
    assert short(composed(*words, "loss=focal"))[:2] == ("Binary", "Focal")
    assert short(composed(*words, "task=classification"))[:3] == ("Classification", "CrossEntropy", "classes")
    wanted = ("Regression", "Huber", "values", "val/rmse")
    assert short(composed("data=csv", houses, "data.target=price", "task=regression", "loss=huber")) == wanted


def test_a_kind_that_is_told_chooses_the_task(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\n".join(["x,y", *(f"{n},{n % 4}" for n in range(20))]))
    words = ("data=csv", f"data.path={tmp_path / 't.csv'}", "data.target=y")
    assert short(composed(*words))[0] == "Classification"
    assert short(composed(*words, "data.kind=values"))[:2] == ("Regression", "MSE")


def test_an_experiments_choice_wins(houses: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    lines = [
        "# @package _global_",
        "# Mine.",
        "defaults:",
        "  - override /data: csv",
        "  - override /loss: l1",
    ]
    (folder / "mine.yaml").write_text("\n".join([*lines, "data:", "  target: price"]))
    monkeypatch.chdir(tmp_path)
    settings = composed("experiment=mine", houses)
    assert short(settings) == ("Regression", "L1", "values", "val/rmse")
    assert short(composed("experiment=mine", houses, "loss=huber"))[1] == "Huber"


def test_a_table_that_cannot_be_read_leaves_the_other_mistakes_to_be_told(tmp_path: Path) -> None:
    words = ("data=csv", f"data.path={tmp_path / 'absent.csv'}", "data.target=y")
    assert composed(*words)["data"]["kind"] == "auto"
    with pytest.raises(ConfigError, match=r"optimizer\.lr"):
        composed(*words, "optimizer.lr=-1")
    with pytest.raises(ConfigError, match=r"data\.path"):
        composed("data=csv", "data.target=y")


def test_auto_is_what_a_data_set_selects() -> None:
    settings = composed("data=breast_cancer", "task=auto", "loss=auto")
    assert settings["task"]["_target_"].endswith(".Binary")
    assert settings["loss"]["_target_"].endswith(".BCEWithLogits")


def test_every_job_of_a_sweep_has_its_own_task(houses: str) -> None:
    jobs = Composer().compose_sweep(["data=csv", houses, "data.target=price,sold"])
    assert [short(job.settings)[0] for job in jobs] == ["Regression", "Binary"]


MINE = ["data=dataset", "data.train._target_=my.Rows"]


def test_the_loss_follows_a_task_that_was_chosen() -> None:
    """Where nobody chose a loss: one override is enough."""
    follows = {"regression": "MSE", "multilabel": "BCEWithLogits", "classification": "CrossEntropy"}
    for task, loss in follows.items():
        settings = Composer().compose([*MINE, f"task={task}"]).settings
        assert settings["loss"]["_target_"] == f"trainrun.loss.{loss}"
    assert "Focal" in Composer().compose([*MINE, "loss=focal", "task=binary"]).settings["loss"]["_target_"]
    typed = problems_of(Composer().compose([*MINE, "loss=cross_entropy", "task=regression"]))
    assert [problem.fix for problem in typed if problem.key == "loss"] == ["loss=mse"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.arange(12) % 2, ("Binary", "BCEWithLogits", "val/accuracy")),
        (np.arange(12) % 3, ("Classification", "CrossEntropy", "val/accuracy")),
        ((np.arange(12) % 3)[:, None] > 0, ("Binary", "BCEWithLogits", "val/accuracy")),
        (np.array([[0, 1], [1, 1]] * 6), ("Multilabel", "BCEWithLogits", "val/f1_macro")),
        (np.eye(3)[np.arange(12) % 3], ("Classification", "CrossEntropy", "val/accuracy")),
        (np.arange(12) / 3, ("Regression", "MSE", "val/rmse")),
    ],
)
def test_the_target_of_arrays_chooses_without_torch(
    tmp_path: Path, values: np.ndarray, expected: tuple[str, ...]
) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((12, 2)), y=values)
    code = f"""
import json, sys
from trainrun.config.compose.composer import Composer
job = Composer().checked(["data=arrays", "data.path={tmp_path / "x.npz"}"])
assert "torch" not in sys.modules
names = [job.settings[group]["_target_"].rpartition(".")[2] for group in ("task", "loss")]
print(json.dumps([*names, job.settings["monitor"]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert tuple(json.loads(done.stdout)) == expected
    words = ("data=arrays", f"data.path={tmp_path / 'x.npz'}", "task=regression")
    assert composed(*words)["loss"]["_target_"].endswith(".MSE")
