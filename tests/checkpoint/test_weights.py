"""What a new run may start from, what fits of it, and what is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toy import Toy, mlp, same_bits

from trainrun.checkpoint.reader import path_of
from trainrun.checkpoint.weights import Weights, read_checkpoint, read_file, start_from
from trainrun.model.torchvision import torchvision
from trainrun.regularization.ema import EMA
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ResumeError


def net(classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))


def filled(model: nn.Module, value: float) -> dict[str, torch.Tensor]:
    return {
        name: torch.full_like(tensor, value) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }


def weights(tensors: dict[str, Any]) -> Weights:
    return Weights(Path("w.pt"), "", "w.pt", tensors)


@pytest.mark.usefixtures("quick_disk")
def test_a_checkpoint_gives_the_weights_that_were_judged(tmp_path: Path) -> None:
    trained = Toy(tmp_path / "run", state={"weight_average": lambda: EMA(0.8)}).train()
    path = path_of(tmp_path / "run" / "checkpoints", 16)
    stored = read_checkpoint(path)
    assert same_bits(dict(stored.tensors), dict(trained.state.weight_average.model.state_dict()))
    assert stored.description == f"the ema weights of step 16 in {path}"
    assert stored.sha256 == hashlib.sha256((path / "state.pt").read_bytes()).hexdigest()
    raw = Toy(tmp_path / "raw").train()
    stored = read_checkpoint(path_of(tmp_path / "raw" / "checkpoints", 16))
    assert same_bits(dict(stored.tensors), dict(raw.weights))
    (path / "state.pt").write_bytes(b"damage")
    with pytest.raises(ResumeError, match="bytes in state"):
        read_checkpoint(path)


@pytest.mark.parametrize("inside", [None, "model", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_a_file_may_hold_a_state_dict_in_the_usual_ways(
    inside: str | None, prefix: str, tmp_path: Path
) -> None:
    state = {f"{prefix}{name}": tensor for name, tensor in filled(net(), 2.0).items()}
    torch.save(state if inside is None else {inside: state, "epoch": 3}, tmp_path / "w.pt")
    model = net()
    assert start_from(model, read_file(tmp_path / "w.pt")) == []
    assert all((parameter == 2).all() for parameter in model.parameters())
    assert (model[1].running_mean == 2).all()


def test_what_does_not_fit_keeps_its_init_and_is_listed() -> None:
    model = net(classes=5)
    head = model[2].weight.detach().clone()
    state = filled(net(classes=3), 2.0)
    del state["1.bias"]
    lines = start_from(model, weights(state | {"extra": torch.zeros(2)}))
    assert lines == [
        "1.bias: not stored, (8,) here: initialised anew",
        "2.weight: (3, 8) stored, (5, 8) here: initialised anew",
        "2.bias: (3,) stored, (5,) here: initialised anew",
    ]
    assert torch.equal(model[2].weight, head)
    assert (model[0].weight == 2).all()
    assert (model[1].bias == 0).all()


def test_half_precision_is_taken_and_complex_numbers_are_not() -> None:
    model = net()
    half = {name: tensor.half() for name, tensor in filled(net(), 0.5).items()}
    half["0.weight"] = torch.zeros(8, 4, dtype=torch.complex64)
    assert start_from(model, weights(half)) == [
        "0.weight: (8, 4) stored, (8, 4) here: initialised anew",
        "1.num_batches_tracked: () stored, () here: initialised anew",
    ]
    assert model[2].weight.dtype == torch.float32
    assert (model[2].weight == 0.5).all()


def test_nothing_that_fits_is_refused_with_the_names_of_both() -> None:
    with pytest.raises(ResumeError) as refused:
        start_from(net(), weights({"conv.weight": torch.zeros(3, 3), "1.bias": torch.zeros(8)}))
    assert "there are conv.weight (3, 3), 1.bias (8,); the model has 0.weight (8, 4)" in str(refused.value)


def test_weights_that_are_not_finite_are_refused() -> None:
    state = filled(mlp(), 1.0)
    state["0.bias"][0] = float("nan")
    with pytest.raises(ResumeError, match=r"not finite in 0\.bias"):
        start_from(mlp(), weights(state))


@pytest.mark.parametrize("shape", [[1 << 40, 1 << 40, 0], [0, 1 << 40, 1 << 40]])
def test_shapes_that_no_tensor_has_are_refused(shape: list[int], tmp_path: Path) -> None:
    text = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(ResumeError, match="impossible sizes of w"):
        read_file(tmp_path / "w.safetensors")


class Code:
    def __reduce__(self) -> Any:
        return print, ("run",)


def test_files_that_would_run_code_or_fill_the_memory_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, packed = tmp_path / "whole.pt", tmp_path / "packed.pt"
    torch.save(filled(net(), 1.0), whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    torch.save({"model": Code()}, tmp_path / "code.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"0.weight": [1.0]}))
    torch.save(net(), tmp_path / "module.pt")
    for name in ("packed", "code", "old", "module"):
        with pytest.raises(ResumeError, match=r"run code|not written by torch\.save"):
            read_file(tmp_path / f"{name}.pt")
    for number, content in enumerate(([torch.zeros(1)], {"lr": 0.1}, {"model": {}}, torch.zeros(1))):
        torch.save(content, tmp_path / f"{number}.pt")
        with pytest.raises(ResumeError, match="holds no weights by name"):
            read_file(tmp_path / f"{number}.pt")
    with pytest.raises(ResumeError, match="there is no file"):
        read_file(tmp_path / "none.pt")
    assert "run" not in capsys.readouterr().out


def test_files_of_the_safetensors_library_are_read(tmp_path: Path) -> None:
    torch_files = pytest.importorskip("safetensors.torch")
    torch_files.save_file(filled(net(), 3.0), tmp_path / "w.safetensors")
    model = net()
    assert start_from(model, read_file(tmp_path / "w.safetensors")) == []
    assert all((parameter == 3).all() for parameter in model.parameters())
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ResumeError, match="cannot be loaded"):
        read_file(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(("channels", "reinitialized"), [(3, []), (1, ["conv1.weight"])])
def test_torchvisions_trained_weights_serve_other_classes_and_channels(
    channels: int, reinitialized: list[str], tmp_path: Path
) -> None:
    theirs = import_torchvision("torchvision.models").resnet18(num_classes=1000)
    for norm in (module for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.normal_()  # as training leaves it
    torch.save(theirs.state_dict(), tmp_path / "resnet18-f37072fd.pth")  # what their server gives
    ours = torchvision("resnet18", None, (channels, 32, 32), 7)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    lines = start_from(ours, read_file(tmp_path / "resnet18-f37072fd.pth"))
    assert [line.partition(":")[0] for line in lines] == [*reinitialized, "fc.weight", "fc.bias"]
    assert lines[-2] == "fc.weight: (1000, 512) stored, (7, 512) here: initialised anew"
    for name, tensor in ours.state_dict().items():
        keeps_init = name in (*reinitialized, "fc.weight", "fc.bias")
        assert torch.equal(tensor, before[name] if keeps_init else theirs.state_dict()[name]), name
