"""From words to settings: the user's own project, sweeps, files, Hydra's habits; and what the shell sees."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainrun.config.check import check, problems_of
from trainrun.config.compose.composer import (
    Composer,
    experiment_files,
    parse_arguments,
    store_experiment,
    to_yaml,
)
from trainrun.config.paths import CONF, groups, roots
from trainrun.vocabulary.errors import ConfigError

Files = Callable[[Mapping[str, str]], None]
NET = """
from torch import nn
class Net(nn.Module):
    def __init__(self, width: int, num_outputs: int, gain: float = 1.0):
        super().__init__()
"""
OWN = {"my_model.py": NET, "conf/model/mine.yaml": "_target_: my_model.Net\nwidth: 8\n"}


def settings_of(*words: str) -> dict[str, Any]:
    return Composer().compose(list(words)).settings


def test_settings_are_plain_and_whole() -> None:
    settings = settings_of("data=synthetic")
    assert type(settings) is dict
    assert yaml.safe_load(yaml.safe_dump(settings)) == settings  # nothing of OmegaConf's in it
    assert "hydra" not in settings
    dials = yaml.safe_load((CONF / "trainrun.yaml").read_text())
    assert {key: settings[key] for key in ("budget", "batch_size", "seed")} == {
        key: dials[key] for key in ("budget", "batch_size", "seed")
    }


@pytest.mark.parametrize(
    ("word", "path", "value"),
    [
        ("optimizer.lr=1e-3", "optimizer.lr", 0.001),
        ("optimizer.betas=[0.5,0.999]", "optimizer.betas", [0.5, 0.999]),
        ("batch_size=full", "batch_size", "full"),
        ("name=null", "name", None),
        ("data.root=~/x y", "data.root", str(Path.home() / "x y")),
        ("+optimizer.lr=3", "optimizer.lr", 3),
        ("++optimizer.lr=3", "optimizer.lr", 3),
        (
            "parameters.rules={head*:{init:xavier_uniform}}",
            "parameters.rules",
            {"head*": {"init": "xavier_uniform"}},
        ),
        ("model.gain=2", "model.gain", 2),  # a signature, not a file, says which keys there are
        ("optimizer.lr=${optimizer.eps}", "optimizer.lr", 1e-8),
    ],
)
def test_a_word_sets_its_value(word: str, path: str, value: Any) -> None:
    node: Any = settings_of(word)
    for part in path.split("."):
        node = node[part]
    assert node == value


def test_the_last_of_a_repeated_key_wins() -> None:
    assert settings_of("seed=1", "seed=2")["seed"] == 2


def test_removing_a_value_leaves_the_rest() -> None:
    removed = settings_of("~optimizer.eps")["optimizer"]
    assert removed == {key: value for key, value in settings_of()["optimizer"].items() if key != "eps"}


def test_what_was_typed_is_kept_as_it_was_typed() -> None:
    words = ["optimizer.lr=0.1", "+seed=3", "parameters.rules={a*:{lr:1}}", "optimizer=sgd"]
    composed = Composer().compose(words)
    assert list(composed.overrides) == words
    assert yaml.safe_load(composed.record["overrides.yaml"]) == words
    assert composed.explicit == ["optimizer.lr", "seed", "parameters.rules", "optimizer"]


def test_own_options_stand_beside_the_built_in_ones(folder: Path, files: Files) -> None:
    files(OWN)
    assert roots() == [folder / "conf", CONF]
    assert {"mine", "mlp"} <= set(groups()["model"])
    composed = Composer().compose(["model=mine", "model.gain=2"])
    assert composed.settings["model"] == {"_target_": "my_model.Net", "width": 8, "gain": 2}
    assert check(composed.settings, composed.explicit, composed.files) == []
    assert composed.files == [folder / "conf/model/mine.yaml"]


def test_an_own_option_shadows_a_built_in_one(folder: Path, files: Files) -> None:
    files({"conf/optimizer/adamw.yaml": "_target_: torch.optim.AdamW\nlr: 0.5\n"})
    assert settings_of()["optimizer"] == {"_target_": "torch.optim.AdamW", "lr": 0.5}


def test_own_options_may_lie_in_folders(folder: Path, files: Files) -> None:
    files({"my_model.py": NET, "conf/model/big/wide.yaml": "_target_: my_model.Net\nwidth: 512\n"})
    assert settings_of("model=big/wide")["model"]["width"] == 512


def test_another_folder_of_options_can_be_named(folder: Path, files: Files) -> None:
    files({"elsewhere/model/mine.yaml": "_target_: my_model.Net\nwidth: 4\n"})
    assert Composer("elsewhere").compose(["model=mine"]).settings["model"]["width"] == 4


def test_a_single_file_is_an_experiment(folder: Path, files: Files) -> None:
    files({"sub/my-exp.v2.yaml": "defaults: [override /optimizer: sgd]\noptimizer: {lr: 0.5}\nseed: 3\n"})
    word = store_experiment(Path("sub/my-exp.v2.yaml"))
    composed = Composer().compose([word, "seed=4"])
    assert composed.settings["optimizer"]["lr"] == 0.5
    assert composed.settings["optimizer"]["_target_"] == "trainrun.optimizer.sgd"
    assert composed.settings["seed"] == 4
    assert composed.files == [Path("sub/my-exp.v2.yaml")]


def test_a_sweep_is_every_combination() -> None:
    jobs = Composer().compose_sweep(["optimizer=sgd,adamw", "seed=range(2)", "optimizer.lr=0.1,0.2"])
    combinations = {(j.choices["optimizer"], j.settings["seed"], j.settings["optimizer"]["lr"]) for j in jobs}
    assert combinations == {(o, s, lr) for o in ("sgd", "adamw") for s in (0, 1) for lr in (0.1, 0.2)}
    assert len(jobs) == 8


def test_a_mapping_is_whole_in_every_job() -> None:
    jobs = Composer().compose_sweep(["scheduler=torch", "scheduler.arguments={a:1},{b:2}"])
    assert [job.settings["scheduler"]["arguments"] for job in jobs] == [{"a": 1}, {"b": 2}]


def test_flags_may_stand_anywhere() -> None:
    arguments = parse_arguments(["seed=1", "-m", "optimizer=sgd,adamw", "--cfg", "job"])
    assert arguments.multirun and arguments.cfg == "job"
    assert arguments.overrides == ["seed=1", "optimizer=sgd,adamw"]
    with pytest.raises(ConfigError, match="--nope"):
        parse_arguments(["--nope"])


def test_yaml_comes_back() -> None:
    settings = settings_of()
    assert yaml.safe_load(to_yaml(settings)) == settings


@pytest.mark.parametrize(
    "words", [["--cfg", "job", "optimizer.lr=0.3"], ["optimizer.lr=0.3", "--cfg", "job"]]
)
def test_cfg_prints_the_job(words: list[str], cli: Any) -> None:
    answer = cli(*words)
    assert answer.code == 0
    printed = yaml.safe_load(answer.out)
    assert printed["optimizer"]["lr"] == 0.3
    assert "hydra" not in printed


def test_cfg_resolves_and_narrows(cli: Any) -> None:
    answer = cli("--cfg", "job", "--resolve", "-p", "optimizer", "optimizer.lr=${seed}", "seed=5")
    assert yaml.safe_load(answer.out)["lr"] == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--info"], "Defaults"),
        (["--info", "defaults"], "optimizer/adamw"),
        (["--info", "searchpath"], "conf"),
    ],
)
def test_info_tells_what_hydra_did(words: list[str], said: str, folder: Path) -> None:
    """In a process of its own, for Hydra sets up logging."""
    done = subprocess.run(
        [sys.executable, "-m", "trainrun", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert said in done.stdout
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("word", ["--cfg", "--info"])
def test_cfg_and_info_refuse_mistakes_as_training_does(word: str, cli: Any) -> None:
    answer = cli(word, "defaults" if word == "--info" else "job", "optimizer=adamww")
    assert answer.code == 2
    assert "did you mean adamw?" in answer.err


COMPLETIONS = {
    "trainrun optim": {"optimizer="},
    "trainrun optimizer=adam": {"optimizer=adam", "optimizer=adamax", "optimizer=adamw"},
    "trainrun optimizer.l": {"optimizer.lr="},
}


@pytest.mark.parametrize("line", COMPLETIONS)
def test_the_shell_completes_groups_options_and_keys(line: str, folder: Path) -> None:
    environment = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    command = [sys.executable, "-m", "trainrun", "-sc", "query=bash"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0
    assert COMPLETIONS[line] <= set(done.stdout.split())


def test_completion_installs_in_bash(folder: Path) -> None:
    binary = Path(sys.executable).with_name("trainrun")
    if not binary.exists() or not shutil.which("bash"):
        pytest.skip("needs bash and the installed command")
    script = f'PATH={shlex.quote(str(binary.parent))}:$PATH; eval "$(trainrun -sc install=bash)"'
    command = ["bash", "--norc", "-c", f"{script} && complete -p trainrun"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("complete ") and done.stdout.rstrip().endswith("trainrun")


def test_what_refers_to_a_faulty_value_is_not_told_again(folder: Path, files: Files) -> None:
    files({"exp.yaml": "data: {split_seed: '${seed}'}\n"})
    composer = Composer()
    (problem,) = problems_of(composer.compose([store_experiment(Path("exp.yaml")), "seed=x"]))
    assert problem.key == "seed"
    (problem,) = problems_of(composer.compose(["optimizer.lr=${monitor}"]))
    assert problem.key == "optimizer.lr"  # here the reference itself is the mistake


def test_a_jobs_folder_is_its_key_though_it_may_look_like_a_number(folder: Path) -> None:
    space = Composer().space(["seed=0,1,2"])
    jobs = {key: (f"seed={seed}",) for seed, key in enumerate(("8803849e50", "0012345678", "abcdef0123"))}
    seeds: dict[str, Any] = {}
    space.launch(jobs, lambda job, place: seeds.update({place.name: job.settings["seed"]}), Path("sweep"), {})
    assert seeds == {"8803849e50": 0, "0012345678": 1, "abcdef0123": 2}


@pytest.mark.parametrize(("written", "meant"), [("off", "off"), ("true", "model"), ("step", "step")])
def test_compile_may_be_the_truth_value_that_yaml_or_an_older_run_has(
    written: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """YAML reads off without quotes as false."""
    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(f"# @package _global_\nruntime:\n  compile: {written}\n")
    job = Composer().compose(experiment_files(["e.yaml"]))
    assert job.settings["runtime"]["compile"] == job.storable["runtime"]["compile"] == meant
    stored = {**job.storable, "runtime": {**job.storable["runtime"], "compile": meant != "off"}}
    if meant != "step":
        again = Composer().compose_stored(stored, [], tmp_path)
        assert again.settings["runtime"]["compile"] == meant and problems_of(again) == []
