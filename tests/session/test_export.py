"""Exported models: the file's outputs are the model's, and a file whose outputs are not is not kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from trainrun.loss import MSE, BCEWithLogits, CrossEntropy
from trainrun.protocols import DataInfo, TargetScaling
from trainrun.session.export import about, check_path, export
from trainrun.task.binary import Binary
from trainrun.task.classification import Classification
from trainrun.task.multilabel import Multilabel
from trainrun.task.regression import Regression
from trainrun.vocabulary.errors import ConfigError, TrainrunError

module = sys.modules["trainrun.session.export"]  # beside the function of that name
ABOUT = {"classes": ["cat", "dog", "emu"], "fitted": {"shift": [1.5]}}


class Tied(nn.Module):
    """With one tensor under two names, a buffer, and layers that training would change."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.GELU(), nn.Dropout(0.5))
        self.again = nn.Linear(5, 5)
        self.again.weight = self.body[0].weight
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.again(self.body(x)))


def tied_model() -> Tied:
    torch.manual_seed(0)
    model = Tied()
    for _ in range(3):
        model(torch.randn(20, 5) + 1)  # running statistics of its own
    return model.eval()


def saved(path: Path, model: nn.Module | None = None, **changed: Any) -> Any:
    torch.manual_seed(1)
    inputs = changed.get("inputs", torch.randn(7, 5))
    return export(model or tied_model(), ((inputs,), {}), path, ABOUT)


def test_safetensors_holds_every_weight_bit_for_bit(tmp_path: Path) -> None:
    compared = saved(tmp_path / "m.safetensors")
    assert (compared.num_samples, compared.difference) == (7, 0.0)
    tensors, weights = load_file(tmp_path / "m.safetensors"), tied_model().state_dict()
    assert tensors.keys() == weights.keys()
    assert all(torch.equal(tensors[name], weights[name]) for name in weights)
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert json.loads(file.metadata()["trainrun"]) == ABOUT
    assert (tmp_path / "m.safetensors").stat().st_mode & 0o444 == 0o444 & ~_umask(tmp_path)
    assert [path.name for path in tmp_path.glob("m*")] == ["m.safetensors"]


def _umask(folder: Path) -> int:
    (folder / "plain").touch()
    return ~(folder / "plain").stat().st_mode & 0o777


def test_pt2_is_the_model_for_any_number_of_samples(tmp_path: Path) -> None:
    compared = saved(tmp_path / "m.pt2", inputs=torch.randn(1, 5))  # one is no number to trace with
    assert compared.difference <= 1e-6
    files = {"trainrun.json": ""}
    program = torch.export.load(tmp_path / "m.pt2", extra_files=files).module()
    assert json.loads(files["trainrun.json"]) == ABOUT
    for count in (1, 2, 7, 100):
        x = torch.randn(count, 5)
        torch.testing.assert_close(program(x), tied_model()(x))


def test_onnx_is_the_model_for_any_number_of_samples(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    check_path(tmp_path / "m.onnx")
    assert saved(tmp_path / "m.onnx").difference <= 1e-5
    session = runtime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["trainrun"]) == ABOUT
    for count in (1, 2, 100):
        x = torch.randn(count, 5)
        (outputs,) = session.run(None, {"inputs": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(outputs), tied_model()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrong", ["values", "shape", "nan"])
def test_a_file_whose_outputs_differ_is_not_kept(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, model: nn.Module) -> Any:
        assert path.exists()
        change = {"values": lambda y: y + 1e-6, "shape": lambda y: y[:, :2], "nan": lambda y: y * torch.nan}
        return lambda x: change[wrong](model(x))

    (tmp_path / "m.safetensors").write_text("before")
    monkeypatch.setitem(module._FORMATS, ".safetensors", (module._write_safetensors, read))
    with pytest.raises(TrainrunError, match=r"differ from the model's by up to|the file gives"):
        saved(tmp_path / "m.safetensors")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("m.safetensors", "before")]


def test_a_weight_that_the_file_lacks_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(model: nn.Module, inputs: Tensor, path: Path, text: str) -> None:
        changed = tied_model()
        with torch.no_grad():
            changed.head.bias[1] += 1e-3
        module._write_safetensors(changed, inputs, path, text)

    monkeypatch.setitem(module._FORMATS, ".safetensors", (write, module._read_safetensors))
    with pytest.raises(TrainrunError, match=r"by up to 0\.001"):
        saved(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


def test_a_model_that_cannot_be_traced_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"PATH: \.pt2 cannot hold Branching: .*; \.safetensors holds its weights"
    ):
        saved(tmp_path / "m.pt2", Branching())
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.safetensors, \.pt2, \.onnx"):
        check_path(tmp_path / "m.pth")
    with pytest.raises(ConfigError, match="there is no folder"):
        check_path(tmp_path / "a" / "m.pt2")
    monkeypatch.setitem(module._NEEDS, ".onnx", ("no_such_package",))
    with pytest.raises(
        ConfigError, match=r"needs a package, no_such_package: pip install 'trainrun\[export\]'"
    ):
        check_path(tmp_path / "m.onnx")


INFO = DataInfo("toy", (5,), "classes", 2, {}, ("no", "yes"))
SCALING = TargetScaling(torch.tensor([10.0]), torch.tensor([2.0]))
VALUES = DataInfo("toy", (5,), "values", 1, {}, target_scaling=SCALING)
TASKS = {
    "softmax": (Classification([], CrossEntropy(None, ()), INFO), INFO, torch.softmax),
    "sigmoid is the probability": (Binary([], BCEWithLogits(None, ()), INFO), INFO, torch.sigmoid),
    "for each label": (
        Multilabel([], BCEWithLogits(None, ()), DataInfo("toy", (5,), "labels", 2, {})),
        INFO,
        torch.sigmoid,
    ),
    r"output * target_std + target_mean": (Regression([], MSE(), VALUES, standardize=True), VALUES, None),
    "values in the targets' own units": (Regression([], MSE(), VALUES, standardize=False), VALUES, None),
}


@pytest.mark.parametrize("means", TASKS)
def test_what_is_said_of_the_outputs_makes_them_what_the_task_predicts(means: str) -> None:
    task, info, function = TASKS[means]
    content = about(task, info, {"shift": torch.tensor([[1.0]]), "features": [{"name": "a", "kept": ("x",)}]})
    assert means in content["output"]
    json.dumps(content)
    outputs = torch.randn(4, task.num_outputs)
    if function is not None:
        expected = function(outputs, 1) if function is torch.softmax else function(outputs)
        assert content.get("classes") == ["no", "yes"]
    else:
        expected = outputs * 2 + 10 if "target_std" in means else outputs
    torch.testing.assert_close(task.predict(nn.Identity(), outputs), expected.double())


@pytest.mark.parametrize(
    ("fitted", "expects"),
    [
        ({"shift": torch.ones(1), "scale": torch.ones(1)}, "(x - shift) * scale"),
        ({"shift": torch.zeros(()), "features": []}, "`features`"),
        ({"vocabulary": ["a"]}, "`vocabulary`"),
        ({}, "what the data set gives"),
    ],
    ids=["scaled", "table", "text", "own"],
)
def test_what_goes_in_is_told(fitted: dict[str, Any], expects: str) -> None:
    content = about(TASKS["softmax"][0], INFO, fitted)
    assert expects in content["input"]["expects"]
    assert content["input"]["shape"] == ["N", 5]
