"""A config names what is called: nothing hostile has a place, and what fits is called as written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainrun.config.call import StoredOrigin, call, imported_signature, misfit, parameters_of, resolve
from trainrun.config.injection import SLOTS
from trainrun.vocabulary.errors import ConfigError

STORED = StoredOrigin(Path("outputs/run"))  # one that the user made

HOSTILE = [
    *("os.system", "os.popen", "os.makedirs", "posix.system", "subprocess.run", "subprocess.Popen"),
    *("builtins.eval", "builtins.exec", "builtins.open", "builtins.getattr", "builtins.__import__"),
    *("torch.load", "torch.save", "torch.hub.load", "torch.utils.collect_env.run", "torch.jit.load"),
    *("numpy.load", "pickle.loads", "pickle.Unpickler", "shutil.rmtree", "shutil.copyfile", "runpy.run_path"),
    *("functools.partial", "operator.attrgetter", "importlib.import_module", "ctypes.CDLL", "code.interact"),
    *("trainrun.cli.main.main", "trainrun.session.train.train", "trainrun.run.files.replace_text"),
    *("trainrun.config.call.call", "trainrun.train", "trainrun.load"),
    *("logging.os.system", "torch.optim.optimizer.torch.load", "torch.nn.modules.module.os.system"),
    *("torch.nn.Linear.__init__", "torch.nn.Linear.__class__", "torch.__builtins__.eval", "__main__.main"),
    *(
        "torch.nn",
        "torch",
        "Linear",
        "",
        ".",
        "torch..nn",
        "torch.nn.",
        " torch.nn.Linear",
        "torch.nn.Linear()",
    ),
    *(
        "torch/nn/Linear",
        "../evil.Net",
        "torch.nn.Linear;x",
        "torch.nn:Linear",
        "pathlib.Path",
        "types.FunctionType",
    ),
]


@pytest.mark.parametrize("target", HOSTILE)
def test_a_hostile_name_has_no_place_in_any_slot(target: str, folder: Path) -> None:
    for name, slot in SLOTS.items():
        assert misfit(target, slot), name
        assert misfit(target, slot, stored=STORED), name
    assert not list(folder.iterdir())


def test_the_checkout_itself_is_no_users_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started in the project's own folder, its modules are below the current one."""
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    for target in ("trainrun.cli.main.main", "trainrun.cli.train.run", "trainrun.run.files.replace_text"):
        assert misfit(target, SLOTS["model"])


@pytest.mark.parametrize("start", ["/", sys.prefix])
def test_libraries_below_the_current_folder_are_not_the_users(
    start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(start)
    for target in ("shutil.rmtree", "numpy.load", "torch.load"):
        assert misfit(target, SLOTS["model"], stored=STORED)


FITTING = [
    ("optimizer", "torch.optim.AdamW"),
    ("optimizer", "torch.optim.LBFGS"),
    ("optimizer", "trainrun.optimizer.adamw"),
    ("scheduler", "torch.optim.lr_scheduler.StepLR"),
    ("scheduler", "trainrun.scheduler.cosine"),
    ("model", "torch.nn.Linear"),
    ("model", "torchvision.models.resnet18"),
    ("model", "torchvision.models.ResNet"),
    ("model", "trainrun.model.mlp.MLP"),
    ("loss", "torch.nn.MSELoss"),
    ("data.train", "torch.utils.data.TensorDataset"),
    ("model", "my_model.Net"),
    ("model", "my_model.make"),
    ("model", "my_package.inner.Net"),
    ("optimizer", "my_model.Opt"),
    ("task.metrics", "my_model.metric"),
    ("data", "my_model.Rows"),
]
MODULE = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, width: int, num_outputs: int, input_shape: tuple = (), *, options: dict | None = None):
        super().__init__()
        self.got = (width, num_outputs, input_shape, options)
class Opt(torch.optim.SGD): ...
class Rows(torch.utils.data.Dataset): ...
class Other: ...
def make(width, num_outputs): return Net(width, num_outputs)
def number(): return 3
def fails(width): raise ValueError("model.width: wants less")
def breaks(width): raise RuntimeError("deep inside")
def metric(outputs, targets): return 0.0
VALUE = 3
"""


@pytest.fixture
def project(
    folder: Path, files: Callable[[Mapping[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> Path:
    for name in ("my_model", "my_package", "my_package.inner"):  # another test's folder may have had them
        monkeypatch.delitem(sys.modules, name, raising=False)
    files({"my_model.py": MODULE, "my_package/__init__.py": "", "my_package/inner.py": MODULE})
    return folder


@pytest.mark.parametrize(("slot", "target"), FITTING)
@pytest.mark.parametrize("stored", [False, True])
def test_what_fits_its_slot_is_resolved(slot: str, target: str, stored: bool, project: Path) -> None:
    run = STORED if stored else None
    assert callable(resolve(target, slot, SLOTS[slot], stored=run))


@pytest.mark.parametrize(
    ("slot", "target", "said"),
    [
        ("model", "torch.optim.SGD", "is not a Module"),
        ("optimizer", "torch.nn.Linear", "is not an Optimizer"),
        ("model", "my_model.Other", "is not a Module"),
        ("model", "my_model.Nett", "did you mean Net?"),
        ("model", "my_model.VALUE", "neither a class nor a function"),
        ("model", "absent.Net", "cannot import absent.Net"),
        ("data", "my_model.Net", "is not a"),
    ],
)
def test_what_does_not_fit_is_told_why(slot: str, target: str, said: str, project: Path) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        resolve(target, slot, SLOTS[slot])
    assert caught.value.problems[0].key == f"{slot}._target_"


def test_a_function_of_another_package_needs_trust(project: Path, tmp_path_factory: Any) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "their_models.py").write_text(MODULE)
    sys.path.insert(0, str(elsewhere))
    try:
        said = misfit("their_models.make", SLOTS["model"])
        assert said and "'runtime.trust=[their_models]'" in said
        assert misfit("their_models.make", SLOTS["model"], trust=["their_models"]) is None
        assert misfit("their_models.Net", SLOTS["model"]) is None  # the user's own settings name a model
        assert misfit("their_models.Net", SLOTS["model"], stored=STORED)  # a stranger's do not
        assert misfit("their_models.Net", SLOTS["model"], trust=["their_models"], stored=STORED) is None
    finally:
        sys.modules.pop("their_models", None)


def test_a_stored_run_does_not_even_import_another_package(project: Path, tmp_path_factory: Any) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "their_trap.py").write_text("raise SystemExit('imported')\n")
    sys.path.insert(0, str(elsewhere))
    assert misfit("their_trap.Net", SLOTS["model"], stored=STORED)
    assert "their_trap" not in sys.modules


@pytest.mark.parametrize("inside", ["outputs/2026/x", "runs/mine"])
def test_a_run_folder_is_not_the_users_code(inside: str, project: Path) -> None:
    run = project / inside
    run.mkdir(parents=True)
    (run / "status.json").write_text("{}")
    (run / "trap.py").write_text("raise SystemExit('imported')\n")
    module = ".".join([*Path(inside).parts, "trap"])
    assert misfit(f"{module}.Net", SLOTS["model"], stored=STORED)
    assert module not in sys.modules


OFFERED = {"num_outputs": 10, "input_shape": (1, 8, 8), "num_classes": 10}


def make(project: Path, **node: Any) -> Any:
    return call(node, "model", SLOTS["model"], OFFERED)


def test_runtime_values_fill_what_is_required_and_not_written(project: Path) -> None:
    net = make(project, _target_="my_model.Net", width=3)
    assert net.got == (3, 10, (), None)  # input_shape has a default, so nothing is handed out


def test_what_is_written_wins_over_what_is_offered(project: Path) -> None:
    assert make(project, _target_="my_model.Net", width=3, num_outputs=7).got[1] == 7


def test_runtime_values_are_asked_for_by_name_also_nested(project: Path) -> None:
    options = {"a": ["@num_classes", 1], "b": "@nothing", "c": "plain"}
    net = make(project, _target_="my_model.Net", width="@num_outputs", options=options)
    assert net.got[0] == 10
    assert net.got[3] == {"a": [10, 1], "b": "@nothing", "c": "plain"}


def test_a_torch_class_is_called_unwrapped() -> None:
    layer = nn.Linear(2, 2)
    node = {"_target_": "torch.optim.AdamW", "lr": 0.25}
    optimizer = call(node, "optimizer", SLOTS["optimizer"], {"params": layer.parameters()})
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize(
    ("node", "key", "said"),
    [
        ({"_target_": "my_model.fails", "width": 3}, "model.width", "wants less"),
        ({"_target_": "my_model.Net"}, "model", "width"),
        ({"_target_": "my_model.number"}, "model", "int, not a Module"),
    ],
)
def test_a_refused_call_is_a_problem_of_the_config(
    node: dict[str, Any], key: str, said: str, project: Path
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        make(project, **node)
    assert caught.value.problems[0].key == key


def test_an_error_of_the_users_own_code_is_not_swallowed(project: Path) -> None:
    with pytest.raises(RuntimeError, match="deep inside"):
        make(project, _target_="my_model.breaks", width=3)


def test_parameters_by_import() -> None:
    def function(a: int, b: int = 1, *rest: int, c: int, **more: int) -> None: ...

    assert parameters_of(function) == ({"a": True, "b": False, "c": True}, True)
    assert imported_signature("absent.f") is None
    imported = imported_signature("torch.nn.Linear")
    assert imported is not None
    assert imported.parameters["in_features"].required and not imported.parameters["bias"].required
