"""A line becomes a run: its words read, its mistakes answered before torch, its folder gone on with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trainrun.session.train import read_line, show_settings, trained
from trainrun.vocabulary.errors import ConfigError

SHORT = ["data=iris", "model=mlp", "model.width=4", "budget=2step", "logger=none", "runtime.threads=1"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_line_has_its_flags_apart() -> None:
    line = read_line(["-q", "data=iris", "-v", "-m"])
    assert (line.typed, line.quiet, line.verbose) == (["data=iris", "-m"], True, True)
    assert line.arguments.multirun and line.arguments.overrides == ["data=iris"]


def test_a_yaml_file_is_an_experiment() -> None:
    Path("mine.yaml").write_text("seed: 5\n")
    line = read_line(["mine.yaml"])
    assert line.arguments.overrides == ["experiment=mine"] and line.typed == ["mine.yaml"]
    assert line.composer.compose(line.arguments.overrides).settings["seed"] == 5


def test_of_a_file_that_is_missing_all_other_problems_are_told() -> None:
    Path("mine.yaml").write_text("seed: 5\n")
    with pytest.raises(ConfigError) as caught:
        read_line(["mien.yaml", "optimizer.lr=abc", "epochs=3"])
    keys = [problem.key for problem in caught.value.problems]
    assert sorted(keys) == ["epochs", "mien.yaml", "optimizer.lr"]


def test_another_form_is_answered_with_the_line_and_every_other_problem() -> None:
    with pytest.raises(ConfigError) as caught:
        read_line(["--optimizer.lr", "0.1", "epochs=3"])
    first, *others = caught.value.problems
    assert first.fix == "trainrun optimizer.lr=0.1 budget=3ep"
    assert [problem.key for problem in others] == ["epochs"]


def test_settings_are_shown_and_nothing_trains(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_settings(read_line(["--cfg", "job", "seed=3"]))
    assert "\nseed: 3\n" in capsys.readouterr().out
    assert not show_settings(read_line(["seed=3"]))
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "word", ["sweep.trials=3", "+sweep.zip=[]", "hydra/sweeper=random", "hydra/launcher=joblib"]
)
def test_what_only_a_sweep_reads_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="is a setting of a sweep; start one with -m"):
        trained(read_line([*SHORT, word]))


def test_a_run_ends_with_its_folder_and_its_budget_and_auto_goes_on_with_it() -> None:
    line = [*SHORT, "run_dir=run", "resume=auto"]
    ended = trained(read_line(line))
    assert ended.result is not None and (ended.result.step, ended.result.state) == (2, "completed")
    assert (ended.run_dir, ended.budget) == (Path("run"), "2step")
    again = trained(read_line(line))
    assert again.result is None and (again.run_dir, again.budget) == (Path("run"), "2step")
    longer = trained(read_line([*line, "budget=3step"]))
    assert longer.result is not None and (longer.result.step, longer.budget) == (3, "3step")


def test_mistakes_are_answered_without_torch() -> None:
    code = """
import sys
from trainrun.session.train import read_line, trained
from trainrun.vocabulary.errors import ConfigError
try:
    trained(read_line(["optimizer.lr=abc"]))
except ConfigError:
    sys.exit(1 if "torch" in sys.modules else 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
