"""Fine-tuning through the command: frozen to the last bit, resumed in either phase, adapters merged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.end_to_end.conftest import Command

PICTURES = ("data=imagefolder", "data.root=photos", "data.image_size=8", "model=cnn", "model.norm=batch")
SMALL = ("batch_size=8", "logger=console", "model.widths=[4,4]", "model.hidden=8")
KEEP = ("checkpoint.every=1step", "checkpoint.keep_every=1step", "loop.eval_every=2step")
FREEZE = ("parameters.rules.backbone.freeze=true", "parameters.rules.backbone.lr=0.1")
HEAD = {"head.weight", "head.bias"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes whose pictures differ in their brightest channel."""
    random = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(0, 120, (12, 10, 3))
            pixels[..., channel] += 100
            file = tmp_path / "photos" / name / f"{number}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    return tmp_path / "photos"


def state_of(run: Path, step: int) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run / f"checkpoints/step-{step:09d}/state.pt", weights_only=True)
    return state


def changed(run: Path, before: int, after: int) -> set[str]:
    first, last = (state_of(run, step)["model"] for step in (before, after))
    return {name for name in first if not torch.equal(first[name], last[name])}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        computed = a.keys() - {"seconds", "seconds_by_part"}
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in computed)
    return all(map(same, a, b)) if isinstance(a, (list, tuple)) else bool(a == b or a != a)


def as_killed_after(step: int, run: Path, to: Path) -> Path:
    """A copy of a run as if it had been killed when the checkpoint of `step` was its newest."""
    shutil.copytree(run, to)
    for folder in (to / "checkpoints").iterdir():
        if int(folder.name[5:]) > step:
            shutil.rmtree(folder)
    status = json.loads((to / "status.json").read_text())
    (to / "status.json").write_text(json.dumps(status | {"state": "running"}))
    return to


@pytest.mark.usefixtures("photos")
def test_what_is_frozen_stays_until_the_step_and_a_resume_is_bit_for_bit_in_either_phase(
    command: Command, tmp_path: Path
) -> None:
    words = (*PICTURES, *SMALL, *KEEP, *FREEZE, "budget=10step", "parameters.unfreeze_at=40%")
    said = command(*words, "run_dir=whole").err
    assert "running statistics of their layers, until 40%, then trained" in said
    whole = tmp_path / "whole"
    assert all(changed(whole, step, step + 1) == HEAD for step in (1, 2, 3))
    names = set(state_of(whole, 1)["model"])
    assert any("running_mean" in name for name in names)
    assert changed(whole, 4, 5) == names
    for step in (2, 4, 7):  # in the first phase, at its end, in the second
        run = as_killed_after(step, whole, tmp_path / f"resumed{step}")
        command("resume", str(run))
        assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
        assert same(state_of(run, 10), state_of(whole, 10))


@pytest.mark.usefixtures("photos")
def test_the_experiment_starts_from_a_file_with_a_new_head(command: Command, tmp_path: Path) -> None:
    from trainrun.runtime.vision import import_torchvision

    model = import_torchvision("torchvision.models").squeezenet1_1(num_classes=3)  # as many as here
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    words = ("experiment=finetune", "data.root=photos", "model.name=squeezenet1_1", "init_from=weights.pt")
    more = ("data.image_size=32", "budget=2step", "parameters.unfreeze_at=null", "logger=console")
    said = command(*words, *more, "run_dir=run").err
    assert "classifier.1.weight: by parameters.rules, (3, 512, 1, 1) here: initialised anew" in said
    stored, trained = model.state_dict(), state_of(tmp_path / "run", 2)["model"]
    head = {"classifier.1.weight", "classifier.1.bias"}
    assert {name for name in stored if not torch.equal(stored[name], trained[name])} == head


@pytest.mark.usefixtures("photos")
def test_pictures_are_prepared_as_the_named_weights_say(command: Command, tmp_path: Path) -> None:
    words = ("data=imagefolder", "data.root=photos", "model=torchvision", "model.name=squeezenet1_1")
    more = (
        "model.preprocessing=IMAGENET1K_V1",
        "budget=1step",
        "batch_size=2",
        "data.limit=4",
        "logger=console",
    )
    said = command(*words, *more, "data.val_fraction=0", "run_dir=run").err
    assert "their middle 224 x 224 once the shorter side has 256 pixels" in said
    assert "prepared as for SqueezeNet1_1_Weights.IMAGENET1K_V1, bilinear" in said
    fitted = state_of(tmp_path / "run", 1)["fitted"]
    assert fitted["shift"].flatten().tolist() == pytest.approx([255 * m for m in (0.485, 0.456, 0.406)])


def test_adapters_are_trained_resumed_and_merged_on_export(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="needs the extra: pip install 'trainrun[lora]'")
    from safetensors.torch import load_file

    lora = "parameters.lora={rank: 2, targets: '*qkv', alpha: 6}"
    words = ("model=transformer", "model.width=16", "model.depth=1", "model.heads=2", lora, *KEEP)
    command(*words, "budget=6step", "logger=none", "run_dir=run", "data.limit=64")
    run = tmp_path / "run"
    first, last = (state_of(run, step)["model"] for step in (1, 6))
    moved = {name for name in first if not torch.equal(first[name], last[name])}
    assert moved == {name for name in first if ".lora_" in name or name.startswith("head.")}
    as_killed_after(3, run, tmp_path / "resumed")
    command("resume", "resumed")
    assert same(state_of(tmp_path / "resumed", 6), state_of(run, 6))
    command("export", "run", "merged.safetensors", "--checkpoint", "6")
    merged = load_file(tmp_path / "merged.safetensors")
    (layer,) = {name.partition(".lora_")[0] for name in last if ".lora_" in name}
    a, b = (last[f"{layer}.lora_{side}.default.weight"] for side in "AB")
    torch.testing.assert_close(merged[f"{layer}.weight"], last[f"{layer}.base_layer.weight"] + 6 / 2 * b @ a)
    assert not any("lora" in name or "base_layer" in name for name in merged)
    said = command("model=transformer", "init_from=run", "budget=1step", code=5).err
    assert "merge them first: trainrun export RUN merged.safetensors" in said


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["parameters.unfreeze_at=20%"], "unfreeze_at: has no effect because no rule freezes anything"),
        ([*FREEZE[:1], "parameters.unfreeze_at=1ep", "parameters.lora={rank: 2, targets: x}"], "unfreeze_at"),
        (["parameters.lora={rank: 0, targets: x}"], "lora.rank: must be a whole number of at least 1, got 0"),
        (["parameters.lora={rank: 2}"], "lora.targets: must be a pattern of layers"),
        (["parameters.lora={rank: 2, targets: x, r: 3}"], "lora.r: no such setting"),
        ([*FREEZE[:1], "parameters.unfreeze_at=20%", "budget=5s"], "unfreeze_at: a share of the run"),
        (["model=torchvision", "model.preprocessing=DEFAULT"], "preprocessing: has no effect on data=digits"),
        (["model=torchvision", "model.pretrained=true"], "trainrun model=torchvision init_from=pretrained"),
        (["model=torchvision", "model.weights=a.pt"], "trainrun model=torchvision init_from=a.pt"),
        (["init_from=pretrained"], "init_from: pretrained takes the weights of a library"),
        (["data=imagefolder", "data.root=x", "data.normalize=imagnet"], "did you mean imagenet?"),
    ],
)
def test_what_has_no_meaning_is_refused_before_anything_is_written(
    command: Command, tmp_path: Path, words: list[str], text: str
) -> None:
    assert text in command(*words, "run_dir=none", code=2).err
    assert not (tmp_path / "none").exists()


def test_a_network_that_is_frozen_with_random_weights_is_cautioned(command: Command, tmp_path: Path) -> None:
    assert "random weights" in command("model=mlp", *FREEZE, "budget=1step", "run_dir=run").err
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert status["state"] == "completed"
