"""trainrun from Python: what the commands do, values for people's own code, and nothing that stays set."""

from __future__ import annotations

import csv
import gc
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import trainrun
from trainrun.cli.main import main

SHORT = ["model=mlp", "model.width=8", "budget=2step", "data.limit=60", "logger=none", "runtime.threads=1"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_disk: None) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def _settings() -> dict[str, Any]:
    """What a run may set in a process, but for the generators."""
    cudnn = torch.backends.cudnn
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "filters": list(warnings.filters),
        "signals": [signal.getsignal(number) for number in sorted(signal.valid_signals())],
        "gc": (gc.isenabled(), gc.get_threshold()),
        "handlers": list(logging.root.handlers),
        "level": logging.root.level,
        "raises": logging.raiseExceptions,
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (cudnn.deterministic, cudnn.benchmark, cudnn.enabled),
        "precision": torch.get_float32_matmul_precision(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "errors": np.geterr(),
        "hook": sys.excepthook,
    }


def _draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(())), float(torch.rand(()))]


def _calls() -> dict[str, Callable[[], object]]:
    return {
        "train": lambda: trainrun.train([*SHORT, "runtime.deterministic=true", "precision=bf16"]),
        "a mistake": lambda: trainrun.train(["optimizer.lr=abc"]),
        "data that fail": lambda: trainrun.train(["data=csv", "data.path=none.csv"]),
        "resume": lambda: trainrun.resume("stored", ["budget=4step"]),
        "load": lambda: trainrun.load("stored"),
        "evaluate": lambda: trainrun.evaluate("stored"),
        "predict": lambda: trainrun.predict("stored"),
        "export": lambda: trainrun.export("stored", "model.pt2"),
    }


def test_what_a_run_seeds_sets_or_exports_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    trainrun.train([*SHORT, "name=stored"])
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    torch.set_float32_matmul_precision("medium")
    torch.set_num_threads(3)
    for name, call in _calls().items():
        torch.manual_seed(3), random.seed(4), np.random.seed(5)
        expected = _draws()
        torch.manual_seed(3), random.seed(4), np.random.seed(5)
        before = _settings()
        try:
            call()
        except trainrun.TrainrunError:
            assert name in ("a mistake", "data that fail")
        assert _settings() == before, name
        assert _draws() == expected, name
    torch.set_float32_matmul_precision("highest")
    torch.set_num_threads(1)


def test_a_search_of_the_callers_own_draws_another_point_in_every_round() -> None:
    points = []
    for _ in range(3):
        points.append(_draws())
        trainrun.train(SHORT)
    assert all(len({point[position] for point in points}) == 3 for position in range(4))


def test_a_run_is_the_same_whatever_the_caller_has_set() -> None:
    expected = trainrun.train(SHORT).metrics
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), torch.device("meta"), torch.autocast("cpu"):
            assert trainrun.train(SHORT).metrics == expected
            assert torch.get_default_device().type == "meta"
        with torch.inference_mode():
            assert trainrun.train(SHORT).metrics == expected
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


MODEL = """
from torch import nn
from my_layers import WIDTH
from my_package.parts import activation

class Net(nn.Module):
    def __init__(self, input_shape, num_outputs):
        super().__init__()
        layers = nn.Flatten(), nn.LazyLinear(WIDTH), activation(), nn.Linear(WIDTH, num_outputs)
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return self.body(x)
"""


def _write(**files: str) -> None:
    for name, text in files.items():
        path = Path(f"{name.replace('__', '/')}.py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def _own_run() -> tuple[int, str]:
    """Train the own model; the width and the activation that it had."""
    Path("conf/model").mkdir(parents=True, exist_ok=True)
    Path("conf/model/mine.yaml").write_text("_target_: my_model.Net\n")
    trainrun.train(["model=mine", *SHORT[2:]])
    body = trainrun.load("last").body
    assert isinstance(body, nn.Sequential)
    return body[1].out_features, type(body[2]).__name__  # type: ignore[return-value]


def test_changed_code_is_what_trains_and_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    parts = "from torch.nn import {} as activation\n"
    _write(my_model=MODEL, my_layers="WIDTH = 5", my_package__parts=parts.format("ReLU"))
    _write(my_package____init__="")
    assert _own_run() == (5, "ReLU")
    assert "anew" not in capfd.readouterr().err
    _write(my_layers="WIDTH = 6")  # as long as before, and within the same second
    assert _own_run() == (6, "ReLU")
    printed = capfd.readouterr().err
    assert "my_layers: reloaded because its file has changed" in printed
    assert "my_model: reloaded because it imports my_layers" in printed
    assert _own_run() == (6, "ReLU")
    assert "anew" not in capfd.readouterr().err
    _write(my_package__parts=parts.format("Tanh"))
    assert _own_run() == (6, "Tanh")
    _write(my_model=MODEL.replace("WIDTH)", "9)").replace("(WIDTH,", "(9,"))
    assert _own_run() == (9, "Tanh")


def test_a_changed_file_that_fails_is_named_and_trains_once_it_is_mended() -> None:
    _write(my_model=MODEL, my_layers="WIDTH = 5", my_package__parts="from torch.nn import ReLU as activation")
    assert _own_run() == (5, "ReLU")
    for text in ("WIDTH = = 5", "WIDTH = 1 / 0"):
        _write(my_layers=text)
        with pytest.raises(trainrun.ConfigError, match=r"my_layers\.py has changed and fails"):
            _own_run()
    _write(my_layers="WIDTH = 7")
    assert _own_run() == (7, "ReLU")


def test_a_class_that_a_file_no_longer_has_is_missed() -> None:
    _write(my_model=MODEL, my_layers="WIDTH = 5", my_package__parts="from torch.nn import ReLU as activation")
    _own_run()
    _write(my_model=MODEL.replace("class Net", "class Other"))
    with pytest.raises(trainrun.ConfigError, match="my_model has no Net"):
        _own_run()


def test_another_folders_code_is_not_taken_for_this_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, width in (("first", 5), ("second", 6)):
        (folder / name).mkdir()
        monkeypatch.chdir(folder / name)
        _write(my_model=MODEL, my_layers=f"WIDTH = {width}")
        _write(my_package__parts="from torch.nn import ReLU as activation")
        assert _own_run() == (width, "ReLU")


def _interrupted(name: str, *words: str) -> None:
    Path("my_signal.py").write_text(
        "import os, signal\n"
        "def send(event):\n"
        f"    if type(event).__name__ == 'StepsLogged' and event.step == 5:\n"
        f"        os.kill(os.getpid(), signal.{name})\n"
    )
    Path("conf/logger").mkdir(parents=True)
    Path("conf/logger/send.yaml").write_text("_target_: my_signal.send\n")
    trainrun.train([*SHORT, "budget=50step", "loop.log_every=5step", "logger=send"])


@pytest.mark.parametrize(
    ("name", "error", "code"), [("SIGINT", KeyboardInterrupt, 130), ("SIGTERM", SystemExit, 143)]
)
def test_a_signal_saves_and_ends_the_callers_loop(name: str, error: type[BaseException], code: int) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(error) as raised:
        _interrupted(name)
    assert error is KeyboardInterrupt or raised.value.code == code
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    result = trainrun.resume("last")
    assert (result.state, result.step) == ("completed", 50)


def test_a_time_limit_is_the_callers_own_wish_and_is_returned() -> None:
    result = trainrun.train([*SHORT, "budget=1000000step", "runtime.time_limit=1s"])
    assert (result.state, result.exit_code) == ("interrupted", 124)


def test_words_do_what_they_do_on_the_command_line(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("defaults:\n  - override /model: mlp\nmodel:\n  width: 4\n")
    Path("sub").mkdir()
    Path("sub/mine.yaml").write_text("defaults:\n  - override /model: mlp\nmodel:\n  width: 6\n")
    for file, width in (("mine.yaml", 4), (Path("sub/mine.yaml"), 6)):
        run = trainrun.train([file, *SHORT[2:]]).run_dir
        assert f"width: {width}" in (run / "config.yaml").read_text()
    with pytest.raises(trainrun.ConfigError):  # a file is not an option of the next line
        trainrun.train(["experiment=mine", *SHORT])
    first = trainrun.train([*SHORT, "run_dir=here", "resume=auto"])
    again = trainrun.train([*SHORT, "run_dir=here", "resume=auto"])
    assert (again.step, again.state, again.metrics) == (2, "completed", first.metrics)
    longer = trainrun.train([*SHORT, "budget=4step", "run_dir=here", "resume=auto"])
    assert (longer.run_dir, longer.step) == (Path("here"), 4)
    capfd.readouterr()
    assert trainrun.train(["--cfg", "job", "model=mlp"]) is None
    assert "optimizer:" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("model=mlp budget=1ep", r"write \['model=mlp', 'budget=1ep'\]"),
        ({"model": "mlp"}, "must be a list"),
        ([nn.Linear], "code is named"),
        (["resume", "last"], "trainrun.resume"),
        (["check", "model=mlp"], "trainrun check model=mlp"),
        (["--lr", "0.1"], "is called optimizer.lr here"),
        (["epochs=10", "optimizer.lr=abc"], "(?s)epochs.*optimizer.lr"),
        (["model._target_=__main__.Net"], "put it into a file"),
        (["sweep.trials=3"], "-m"),
    ],
)
def test_mistakes_are_answered_plainly(words: Any, message: str) -> None:
    with pytest.raises(trainrun.ConfigError, match=message):
        trainrun.train(words)
    assert not Path("outputs").exists()


def test_a_module_that_trains_when_it_is_imported_is_told_so() -> None:
    _write(my_script="import trainrun\ntrainrun.train(['model=mlp', 'budget=1step'])\nclass Net: ...\n")
    with pytest.raises(trainrun.ConfigError, match="if __name__ == '__main__'"):
        trainrun.train(["model._target_=my_script.Net"])
    assert not Path("outputs").exists()


def test_a_stored_run_gives_what_its_commands_print(capfd: pytest.CaptureFixture[str]) -> None:
    run = trainrun.train([*SHORT, "name=stored"])
    for split in ("val", "test"):
        assert trainrun.evaluate("stored", split) == pytest.approx(dict(run.metrics[split]))
    rows = trainrun.predict("stored")
    capfd.readouterr()
    assert main(["predict", "stored"]) == 0
    printed = list(csv.DictReader(capfd.readouterr().out.splitlines()))
    assert [{name: str(row[name]) for name in ("index", "target", "predicted")} for row in rows] == [
        {name: row[name] for name in ("index", "target", "predicted")} for row in printed
    ]
    assert [row["p_3"] for row in rows] == [float(row["p_3"]) for row in printed]
    samples = np.random.default_rng(0).uniform(0, 16, (3, 1, 8, 8)).astype(np.float32)
    np.save("three.npy", samples)
    assert trainrun.predict("stored", samples) == trainrun.predict("stored", "three.npy")
    assert trainrun.predict("stored", torch.tensor(samples)) == trainrun.predict("stored", Path("three.npy"))
    assert trainrun.export("stored", "model.safetensors") == Path("model.safetensors")
    for call in (
        lambda: trainrun.evaluate("stored", "valid"),
        lambda: trainrun.evaluate("stored", overrides=["optimizer.lr=1"]),
        lambda: trainrun.predict("stored", tta="turn"),
        lambda: trainrun.export("stored", "model.zip"),
    ):
        with pytest.raises(trainrun.ConfigError):
            call()


def test_the_public_names_are_what_dir_shows_and_have_a_docstring() -> None:
    names = ["evaluate", "export", "history", "load", "predict", "resume", "train"]
    others = ["ConfigError", "Run", "TrainrunError", "__version__"]
    assert dir(trainrun) == sorted(trainrun.__all__) == [*others, *names]
    for name in names:
        assert callable(getattr(trainrun, name))
        assert getattr(trainrun, name).__doc__


SCRIPT = """
import threading, os, signal, sys
import trainrun
if sys.argv[1] == "mistake":
    trainrun.train(["epochs=3", "optimizer.lr=abc"])
result = trainrun.train(["-m", "seed=0,1", *sys.argv[1:]])
print(result.state, len(result.jobs), result.best.folder)
"""


def test_a_mistake_in_a_script_prints_plainly_and_a_sweep_returns_its_record() -> None:
    Path("script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py", "mistake"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "epochs: is called budget here" in done.stderr
    assert "optimizer.lr" in done.stderr
    done = subprocess.run([sys.executable, "script.py", *SHORT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    state, count, best = done.stdout.split()
    assert (state, count) == ("completed", "2")
    assert next(Path("outputs/multirun").glob(f"*/{best}/result.json"))


def test_in_a_thread_of_its_own_a_run_leaves_signals_alone() -> None:
    ended = []
    thread = threading.Thread(target=lambda: ended.append(trainrun.train(SHORT).state))
    thread.start()
    thread.join()
    assert ended == ["completed"]
