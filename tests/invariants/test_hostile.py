"""Nothing that a config names runs a command, and nothing small takes long: refused, with the key named.

Told apart are what comes from the user (the shell, a file that they name) and what comes from anybody
(a run's folder): the one may name their own code, the other nothing but torch's.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainrun.cli.main import main
from trainrun.config.check import check
from trainrun.config.compose.composer import Composer, to_yaml
from trainrun.config.compose.experiments import EXPERIMENTS
from trainrun.config.injection import SLOTS
from trainrun.run import signing
from trainrun.vocabulary.errors import ConfigError, ResumeError

# What would run a command, load code, or write a file, with arguments that would make it do so.
PAYLOADS: dict[str, dict[str, Any]] = {
    "os.system": {"command": "touch harm"},
    "posix.system": {"command": "touch harm"},
    "subprocess.run": {"args": ["touch", "harm"]},
    "subprocess.Popen": {"args": ["touch", "harm"]},
    "builtins.eval": {"source": "open('harm', 'w')"},
    "builtins.exec": {"source": "open('harm', 'w')"},
    "builtins.open": {"file": "harm", "mode": "w"},
    "os.makedirs": {"name": "harm"},
    "shutil.copyfile": {"src": "my_model.py", "dst": "harm"},
    "pathlib.Path.touch": {"self": "harm"},
    "runpy.run_path": {"path_name": "harmful.py"},
    "importlib.import_module": {"name": "harmful"},
    "pickle.load": {"file": "harm"},
    "functools.partial": {"func": "os.system"},
    "yaml.unsafe_load": {"stream": "!!python/object/apply:os.system [touch harm]"},
    "numpy.load": {"file": "harm", "allow_pickle": True},
    "torch.load": {"f": "harm", "weights_only": False},
    "torch.hub.load": {"repo_or_dir": ".", "model": "x", "source": "local"},
    "torch.utils.collect_env.run": {"command": "touch harm"},
    "torch.optim.optimizer.torch.utils.collect_env.run": {"command": "touch harm"},
    "torch.nn.modules.module.torch.load": {"f": "harm"},
    "torch.ops.load_library": {"path": "harm"},
    "torch.utils.cpp_extension.load_inline": {"name": "harm", "cpp_sources": ""},
    "logging.os.system": {"command": "touch harm"},
    "trainrun.cli.main.main": {"argv": ["run_dir=harm"]},
    "trainrun.run.cleaning.remove": {"path": "harm"},
    "trainrun.optimizer.torch.load": {"f": "harm"},
    "my_model.os.system": {"command": "touch harm"},
    "torch.nn.Module.__init_subclass__": {},
    "__main__.x": {},
    "os..system": {},
    "os.system\n": {},
    "os system": {},
}
# Every place of a call, and places that are none.
PLACES = [
    *(place for place in SLOTS if place != "task.metrics"),
    *("regularization.ema", "regularization.evil", "logger.evil", "parameters.rules.head.init"),
    *("model.width", "model.evil", "model.a.b", "scheduler.arguments.x", "optimizer.lr", "runtime.trust"),
    *("seed", "evil", "evil.a.b", "data.train.x"),
]
MODEL = """
import os
from torch import nn
class Net(nn.Module):
    def __init__(self, num_outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(num_outputs))
    def forward(self, x):
        return self.layers(x)
"""
HARMFUL = f"open('harm', 'w')\n{MODEL}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the user stands, with a model of their own, and a run's folder with code in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    EXPERIMENTS.clear()
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "outputs/run").mkdir(parents=True)
    for place in (tmp_path / "outputs/run", tmp_path / "theirs/run", tmp_path / "theirs"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "harmful.py").write_text(HARMFUL)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
    assert not (tmp_path / "harm").exists()


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return Composer().compose(["model=mlp"]).settings


def placed(settings: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """The settings with `value` at a dotted place."""
    whole = tree = copy.deepcopy(settings)
    *path, last = place.split(".")
    for key in path:
        tree[key] = tree[key] if isinstance(tree.get(key), dict) else {}
        tree = tree[key]
    tree[last] = value
    return whole


@pytest.mark.parametrize("stored", [False, True], ids=["the user's", "a stranger's"])
@pytest.mark.parametrize("target", PAYLOADS)
def test_no_place_takes_a_harmful_call(target: str, stored: bool, plain: dict[str, Any], home: Path) -> None:
    trust, call = () if stored else None, {"_target_": target, **PAYLOADS[target]}
    for place in PLACES if target == "os.system" else SLOTS:
        for value in (
            (call, [call]) if target != "os.system" else (call, [call], [[call]], {"x": {"y": call}})
        ):
            problems = check(placed(plain, place, value), trust=trust)
            assert any(problem.key.startswith(place.split(".")[0]) for problem in problems), (place, value)
    for metric in (target, call, [target]):
        assert check(placed(plain, "task.metrics", [metric]), trust=trust), metric


@pytest.mark.parametrize(
    "target", ["os.system", "torch.load", "torch.utils.collect_env.run", "logging.os.system"]
)
def test_a_harmful_call_is_refused_in_the_shell_and_in_a_file(
    target: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    call = {"_target_": target, **PAYLOADS[target]}
    (home / "exp.yaml").write_text(yaml.safe_dump({"model": call}))
    (home / "conf/model").mkdir(parents=True)
    (home / "conf/model/evil.yaml").write_text(yaml.safe_dump(call))
    words = [f"model._target_={target}", *(f"+model.{key}=1" for key in PAYLOADS[target])]
    for line in (words, ["exp.yaml"], ["model=evil"], ["-m", "model=evil,mlp"]):
        assert main(line) == 2
        said = capfd.readouterr().err
        assert said.startswith("model._target_: ") and target in said and "Traceback" not in said
    assert not any((home / "outputs").glob("*/*/config.yaml"))


def stored_run(folder: Path, settings: dict[str, Any]) -> Path:
    """A run's folder as anybody can make one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(to_yaml(settings | {"run_dir": None}))
    return folder


COMMANDS: list[Callable[[Path], list[str]]] = [
    lambda run: ["resume", str(run)],
    lambda run: ["eval", str(run)],
    lambda run: ["predict", str(run)],
    lambda run: ["export", str(run), "model.safetensors"],
    lambda run: [f"run_dir={run}", "resume=auto"],
]


@pytest.mark.parametrize("target", ["os.system", "torch.load", "outputs.run.harmful.Net", "antigravity.fly"])
def test_no_command_makes_a_stored_call(
    target: str, plain: dict[str, Any], home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sys.modules.pop("antigravity", None)  # a module that acts when it is imported
    call = {"_target_": target, **PAYLOADS.get(target, {})}
    run = stored_run(home / "outputs/run", placed(plain, "model", call))
    for words in COMMANDS:
        assert main(words(run)) in (2, 5)
        said = capfd.readouterr().err
        assert target in said and "Traceback" not in said
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("outputs/run", "outputs.run.harmful.Net"),
        ("theirs/run", "theirs.run.harmful.Net"),
        ("theirs/run", "theirs.harmful.Net"),  # unpacked with the run
        ("theirs/run/deep", "theirs.run.harmful.Net"),
    ],
)
def test_code_that_may_have_come_with_a_run_is_not_imported(
    place: str, target: str, plain: dict[str, Any], home: Path
) -> None:
    run = stored_run(home / place, placed(plain, "model", {"_target_": target}))
    assert main(["eval", str(run)]) == 2
    assert target.rpartition(".")[0] not in sys.modules


def test_standing_in_a_runs_folder_makes_its_code_nobodys(
    plain: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = stored_run(home / "theirs/run", placed(plain, "model", {"_target_": "harmful.Net"}))
    (run / "status.json").write_text("{}")
    (run / "yaml.py").write_text("open('harm', 'w')")
    (run / "conf/model").mkdir(parents=True)
    (run / "conf/model/mlp.yaml").write_text("_target_: harmful.Net")
    monkeypatch.chdir(run)
    before = list(sys.path)
    assert main(["eval", "."]) == 2
    assert str(run) not in sys.path[: len(sys.path) - len(before)]
    assert "harmful.Net" in capfd.readouterr().err
    assert not (run / "harm").exists()


def test_trust_is_the_users_to_give(plain: dict[str, Any], home: Path) -> None:
    settings = placed(plain, "model", {"_target_": "antigravity.fly"})
    settings = placed(settings, "runtime.trust", ["antigravity", "os", ""])
    run = stored_run(home / "outputs/run", settings)
    from trainrun.session.open_run import open_run

    sys.modules.pop("antigravity", None)
    with pytest.raises(ConfigError, match=r"runtime\.trust=\[antigravity\]"):
        open_run(run)  # what the folder says of trust is not asked
    assert "antigravity" not in sys.modules
    mine = stored_run(home / "outputs/mine", placed(plain, "model", {"_target_": "my_model.Net"}))
    with pytest.raises(ConfigError, match=r"runtime\.trust=\[my_model\]"):
        open_run(mine)
    assert "my_model" not in sys.modules
    signing.sign(mine, signing.new_id(), (mine / "config.yaml").read_text())
    assert open_run(mine).parts.state.model is not None  # a run of one's own brings this folder's code


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("checkpoint.folder", "/tmp/harm"),
        ("logger.tensorboard.run_dir", "/tmp/harm"),
        ("loop.signals", 3),
        ("loop.checkpoints", None),
        ("loop.step.policy", {}),
        ("optimizer.params", []),
        ("precision.device", "cpu"),
        ("task.info", {}),
    ],
)
def test_where_a_run_writes_is_not_its_configs_to_say(place: str, value: Any, plain: dict[str, Any]) -> None:
    for trust in (None, ()):
        assert [problem.key for problem in check(placed(plain, place, value), trust=trust)] == [place]


PATHS = ["../up", "/etc/up", "a/../../up", "..", ".", "a\\..\\up", "~/up", "con\0", "a" * 200]


@pytest.mark.parametrize("name", PATHS)
def test_names_and_options_cannot_leave_their_folder(
    name: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (home.parent / "up.yaml").write_text("seed: 7\n")
    for key in ("name", "model", "experiment", "regularization"):
        assert main([f"{key}={name}", "budget=1step"]) == 2
        said = capfd.readouterr().err
        assert said.startswith(key) and "Traceback" not in said
    assert sorted(path.name for path in home.iterdir()) == ["my_model.py", "outputs", "theirs"]


def test_a_stored_name_cannot_leave_the_folder_either(plain: dict[str, Any], home: Path) -> None:
    run = stored_run(home / "outputs/run", plain | {"name": "../../up"})
    assert main(["resume", str(run)]) == 2
    assert main(["eval", str(run)]) == 2


ALIASES = "x0: &x0 [a]\n" + "\n".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]" for i in range(1, 12))
DOUBLING = "n0: ab\n" + "\n".join(f"n{i}: ${{n{i - 1}}}${{n{i - 1}}}" for i in range(1, 40))
BOMBS = {
    "aliases": ALIASES,
    "an alias of itself": "a: &a [*a]",
    "references": f"name: ${{n39}}\n{DOUBLING}",
    "brackets": "name: " + "[" * 5000,
    "a long text": "name: " + "a" * (4 << 20),
    "many keys": "\n".join(f"k{i}: {i}" for i in range(100_000)),
    "tags": "name: !!python/object/apply:os.system ['touch harm']",
    "hydra's callbacks": "hydra: {callbacks: {x: {_target_: os.system, command: touch harm}}}",
    "hydra's folders": "hydra: {run: {dir: /tmp/harm}}",
    "hydra's launcher": "hydra: {launcher: {_target_: os.system, command: touch harm}}",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_file_is_answered_and_takes_no_memory(
    kind: str, home: Path, plain: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    (home / "exp.yaml").write_text(BOMBS[kind])
    (home / "conf/experiment").mkdir(parents=True)
    (home / "conf/experiment/bomb.yaml").write_text(f"# @package _global_\n{BOMBS[kind]}")
    (home / "outputs/run/config.yaml").write_text(f"{to_yaml(plain)}\n{BOMBS[kind]}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for words in (["exp.yaml"], ["experiment=bomb"], ["-m", "exp.yaml", "seed=1,2"]):
        assert main(words) == 2
    if not kind.startswith("hydra"):  # what a stored config says of Hydra is not read
        assert main(["eval", "outputs/run"]) == 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000  # KB
    assert "Traceback" not in capfd.readouterr().err


def test_brackets_in_the_shell_are_counted_too(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for word in ("name=" + "[" * 900 + "]" * 900, "model.x=" + "{a:" * 400 + "1" + "}" * 400):
        assert main([word]) == 2
        assert "Traceback" not in capfd.readouterr().err


def test_a_secret_of_the_environment_reaches_no_file(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_SECRET", "hunter2")
    words = ["data=iris", "budget=1step", "run_dir=outputs/secret", "name=${oc.env:MY_SECRET}"]
    words += ["model._target_=my_model.Net", "+parameters.rules={'x-${oc.env:MY_SECRET}':{}}"]
    code = main(words[:-1])
    assert code == 0, capfd.readouterr().err
    run = home / "outputs/secret"
    assert json.loads((run / "status.json").read_text())["name"] is not None
    for file in (path for path in run.rglob("*") if path.is_file()):
        assert b"hunter2" not in file.read_bytes(), file
    assert yaml.safe_load((run / "config.yaml").read_text())["name"] == "${oc.env:MY_SECRET}"


def test_a_stored_config_refers_to_nothing_but_the_environment(plain: dict[str, Any], home: Path) -> None:
    from trainrun.config.stored import load_stored

    for text in ("${oc.env:${name}}", "${now:%Y}", "${hydra:runtime.cwd}", "${name}${name}"):
        run = stored_run(home / "outputs/run", plain)
        (run / "config.yaml").write_text(
            (run / "config.yaml").read_text().replace("name: null", f"name: '{text}'")
        )
        with pytest.raises(ResumeError):
            load_stored(run / "config.yaml")
    assert os.listdir(home / "outputs")
