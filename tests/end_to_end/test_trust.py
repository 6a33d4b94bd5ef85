"""Whose code is imported: the user's own runs bring theirs, a stranger's brings none until it is named.

Every module here leaves a file behind when it is imported.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

import trainrun
from trainrun.cli.main import main

MODEL = """
from pathlib import Path
Path('ran').touch()
import probe_layers
from torch import nn
class Net(nn.Module):
    def __init__(self, num_outputs, width):
        super().__init__()
        self.layers = probe_layers.layers(num_outputs, width)
    def forward(self, x):
        return self.layers(x)
def metric(outputs, targets):
    return 0.5
"""
LAYERS = """
from pathlib import Path
Path('ran').touch()
from torch import nn
def layers(num_outputs, width):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.Linear(width, num_outputs))
"""
SCHEDULE = """
open('ran_too', 'a').close()
from torch.optim.lr_scheduler import LRScheduler
class Constant(LRScheduler):
    def get_lr(self):
        return self.base_lrs
"""
QUICK = ("data=iris", "budget=4step", "logger=none", "-q")
TRUST = "'runtime.trust=[probe_model]'"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of the user's own, and a run of it: run/."""
    (tmp_path / "probe_model.py").write_text(MODEL)
    (tmp_path / "probe_layers.py").write_text(LAYERS)
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/mine.yaml").write_text("_target_: probe_model.Net\nwidth: 3\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(project: Path, command: Callable) -> Path:
    command(*QUICK, "model=mine", "run_dir=run")
    (project / "ran").unlink()
    return project / "run"


def strangers(run: Path) -> Path:
    """The run as it is for somebody who has not made it."""
    (run / "signature.json").unlink()
    return run


@pytest.fixture
def other_key(state_folder: Path) -> Iterator[None]:
    """Another machine's, or another user's."""
    (state_folder / "key").rename(state_folder / "kept")
    yield
    (state_folder / "key").unlink(missing_ok=True)
    (state_folder / "kept").rename(state_folder / "key")


COMMANDS = (
    ("resume", "run", "budget=6step"),
    ("eval", "run"),
    ("predict", "run"),
    ("export", "run", "model.safetensors"),
    ("run_dir=run", "resume=auto", "budget=6step"),
)


def test_ones_own_run_brings_its_code_wherever_it_was_moved(
    run: Path, command: Callable, project: Path
) -> None:
    shutil.copytree(run, project / "runs/moved")
    for place in ("run", "runs/moved"):
        for words in (("eval",), ("predict",), ("resume", "budget=6step"), ("eval",)):
            command(words[0], place, *words[1:])
            assert (project / "ran").exists()
            (project / "ran").unlink()


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_strangers_imports_nothing_until_the_printed_line_is_pasted(
    words: tuple[str, ...], run: Path, command: Callable, project: Path
) -> None:
    strangers(run)
    refused = command(*words, code=2)
    assert "model._target_: probe_model.Net" in refused.err and "it is not signed" in refused.err
    assert not (project / "ran").exists()
    line = refused.err.strip().splitlines()[-1].strip()
    assert line == f"trainrun {shlex.join(words)} {TRUST}"
    command(*shlex.split(line)[1:])
    assert (project / "ran").exists()


def _changed(run: Path) -> None:
    file = run / "config.yaml"
    file.write_text(file.read_text().replace("width: 3", "width: 4"))


def _linked(run: Path) -> None:
    (run / "config.yaml").rename(run.parent / "theirs.yaml")
    (run / "config.yaml").symlink_to(run.parent / "theirs.yaml")


def _trusting(run: Path) -> None:
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["runtime"]["trust"] = ["probe_model", "probe_layers"]
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    strangers(run)


def _of_another(run: Path) -> None:
    """The id and signature of a run that the user did make, beside another config."""
    other = run.with_name("other")
    assert main([*QUICK, "model=linear", f"run_dir={other}"]) == 0
    for name in ("signature.json", "status.json"):
        shutil.copy(other / name, run / name)


@pytest.mark.parametrize("forge", [_changed, _linked, _trusting, _of_another])
def test_no_trick_makes_a_strangers_run_ones_own(
    forge: Callable, run: Path, command: Callable, project: Path
) -> None:
    forge(run)
    for words in (("eval", "run"), ("resume", "run", "budget=6step")):
        command(*words, code=2)
        assert not (project / "ran").exists()


def test_all_that_a_run_names_is_told_at_once(run: Path, command: Callable, project: Path) -> None:
    settings = yaml.safe_load((strangers(run) / "config.yaml").read_text())
    settings["data"] = {"_target_": "probe_data.Rows", "train": {"_target_": "probe_rows.Rows"}}
    settings["task"]["metrics"] = ["probe_model.metric"]
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    said = command("eval", "run", "runtime.trust=[timm]", code=2).err
    for key in ("data", "data.train", "model"):
        assert f"{key}._target_: " in said
    assert "task.metrics: probe_model.metric" in said
    assert said.endswith("trainrun eval run 'runtime.trust=[timm,probe_data,probe_rows,probe_model]'\n")
    assert not (project / "ran").exists()


def test_another_key_is_no_error_until_it_matters_and_then_it_is_explained(
    run: Path, command: Callable, project: Path, other_key: None, state_folder: Path
) -> None:
    said = command("eval", "run", code=2).err
    assert "TRAINRUN_STATE" in said and str(state_folder) in said
    # The command line that began the run names the code itself: no other word is needed.
    command(*QUICK, "model=mine", "run_dir=run", "resume=auto")
    command("budget=6step", *QUICK[::2], "model=mine", "run_dir=run", "resume=auto")
    (state_folder / "key").unlink(missing_ok=True)
    (state_folder / "key").mkdir()  # what cannot be read or written
    command(*QUICK, "model=mine", "run_dir=unsigned")
    assert "no key can be kept in" in command("eval", "unsigned", code=2).err
    command("eval", "unsigned", "runtime.trust=[probe_model]")
    (state_folder / "key").rmdir()


def test_what_the_users_own_words_and_conf_name_needs_no_trust(
    run: Path, command: Callable, project: Path
) -> None:
    (project / "probe_schedule.py").write_text(SCHEDULE)
    (project / "conf/scheduler").mkdir()
    (project / "conf/scheduler/mine.yaml").write_text("_target_: probe_schedule.Constant\n")
    command(*QUICK, "model=linear", "run_dir=plain")
    strangers(project / "plain")
    command("resume", "plain", "budget=6step", "scheduler=mine")
    assert (project / "ran_too").exists()
    (project / "ran_too").unlink()
    assert "probe_schedule.Constant" in command("eval", "plain", code=2).err  # now the folder says it
    assert not (project / "ran_too").exists() and not (project / "ran").exists()


def test_reading_records_and_weights_imports_nothing(run: Path, command: Callable, project: Path) -> None:
    command(*QUICK, "model=linear", "run_dir=plain")
    strangers(run)
    for words in (("doctor", "run"), ("compare", "run", "plain"), ("runs",), ("plot", "run", "run")):
        command(*words)
    command(*QUICK, "model=mlp", "model.width=3", "model.depth=1", "run_dir=new", "init_from=run", code=5)
    assert not (project / "ran").exists()


def test_a_sweep_is_its_makers_too(command: Callable, project: Path) -> None:
    command(*QUICK, "-m", "model=mine", "seed=0,1", "run_dir=sweep")
    folder = project / "sweep"
    content = json.loads((folder / "sweep.json").read_text())

    def lose_a_job() -> None:
        shutil.rmtree(folder / content["jobs"][1]["folder"])
        (project / "ran").unlink(missing_ok=True)

    lose_a_job()
    command("resume", "sweep")
    assert (project / "ran").exists()
    lose_a_job()
    (folder / "sweep.json").write_text(json.dumps(content | {"signature": None}))
    refused = command("resume", "sweep", code=2).err
    assert not (project / "ran").exists()
    assert refused.endswith(f"  trainrun resume sweep {TRUST}\n")
    command("resume", "sweep", "runtime.trust=[probe_model]")
    assert (project / "ran").exists()
    lose_a_job()
    command("resume", "sweep", code=2)  # trusted once, it is not signed by that
    words = [word.replace("seed=0,1", "seed=0,2") for word in content["words"]]
    (folder / "sweep.json").write_text(json.dumps(content | {"words": words}))
    assert "changed after it was signed" in command("resume", "sweep", code=2).err


def test_a_job_of_a_sweep_is_a_run_of_its_own(command: Callable, project: Path) -> None:
    command(*QUICK, "-m", "model=mine", "seed=0,1", "run_dir=sweep")
    job = next(path.parent for path in (project / "sweep").glob("*/signature.json"))
    command("eval", str(job))
    strangers(job)
    command("eval", str(job), code=2)


def test_python_names_what_it_trusts(run: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(project), *sys.path])
    try:
        strangers(run)
        with pytest.raises(trainrun.vocabulary.errors.ConfigError, match="probe_model"):
            trainrun.load("run")
        assert not (project / "ran").exists()
        assert type(trainrun.load("run", trust=["probe_model"])).__name__ == "Net"
    finally:
        for name in ("probe_model", "probe_layers"):
            sys.modules.pop(name, None)


def test_no_file_of_the_folder_takes_the_place_of_a_library(run: Path, project: Path) -> None:
    """In processes of their own: one that a stranger's run is evaluated by, and one with `python -m`."""
    for name in ("yaml", "sklearn", "hydra", "omegaconf", "numpy", "rich", "torchmetrics", "safetensors"):
        (project / f"{name}.py").write_text("open('ran', 'a').close()\nraise SystemExit('imported')\n")
    strangers(run)
    line = [sys.executable, "-m", "trainrun", "eval", "run"]
    environment = os.environ | {"PYTHONPATH": str(Path(trainrun.__file__).parents[1])}
    done = subprocess.run(line, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "probe_model.Net" in done.stderr, done.stderr
    assert not (project / "ran").exists()
    for name, code in (("probe_model", MODEL), ("probe_layers", LAYERS)):
        (project / f"{name}.py").write_text(code.replace("Path('ran').touch()", ""))
    line.append("runtime.trust=[probe_model]")
    done = subprocess.run(line, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert not (project / "ran").exists()
