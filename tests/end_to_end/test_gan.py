"""Two networks through the command: resumed to the byte, a known distance, own steps, and a VAE's bound."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.distributions import Independent, Normal, kl_divergence

from trainrun.assembly.build import build
from trainrun.config.compose.composer import Composer
from trainrun.runtime.machine import seed_forward

GUIDE = Path(__file__).parents[2] / "trainrun/cli/guide/gan.md"
STOP = """
import os
import signal


def stop(model, batches, step):
    if step == 6 and os.path.exists("stop"):
        os.remove("stop")
        os.kill(os.getpid(), signal.SIGTERM)
    return {"at": step}
"""
SHORT = ("data.limit=192", "model.width=4", "loop.log_every=2step", "budget=4ep")
PROBES = "loop.probes=[trainrun.loop.probes.SampleGrid, my_probes.stop]"


@pytest.fixture
def folder(tmp_path: Path, small_mnist: Callable[..., None]) -> Path:
    small_mnist(tmp_path / "data" / "FashionMNIST")
    (tmp_path / "my_probes.py").write_text(STOP)
    for block in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", GUIDE.read_text(), re.S):
        file = tmp_path / block[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block[1])
    return tmp_path


def records(run: Path, event: str) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == event]


def state_of(run: Path) -> dict[str, Any]:
    last = sorted((run / "checkpoints").glob("step-*"))[-1]
    state: dict[str, Any] = torch.load(last / "state.pt", weights_only=True)
    return state


def assert_rates(record: dict[str, Any], **expected: float) -> None:
    """Where all are the same the record has one."""
    lr = record["lr"] if isinstance(record["lr"], dict) else dict.fromkeys(expected, record["lr"])
    assert lr == pytest.approx(expected, rel=1e-9)


def assert_same(whole: Any, parts: Any, path: str = "") -> None:
    if isinstance(whole, dict):
        assert whole.keys() == parts.keys()
        for key in whole.keys() - {"seconds", "seconds_by_part"}:
            assert_same(whole[key], parts[key], f"{path}/{key}")
    elif isinstance(whole, list):
        for index, (mine, other) in enumerate(zip(whole, parts, strict=True)):
            assert_same(mine, other, f"{path}/{index}")
    else:
        equal = torch.equal(whole, parts) if isinstance(whole, torch.Tensor) else whole == parts
        assert equal, path


@pytest.mark.parametrize(
    "words",
    [
        ("experiment=gan", "scheduler.modules={generator: linear, discriminator: {cosine: {warmup: 2step}}}"),
        ("experiment=wgan_gp", "task.discriminator_steps=3", "regularization=[ema]", "loop.accumulate=2"),
    ],
)
def test_a_killed_run_ends_with_the_bytes_of_a_straight_one(
    words: tuple[str, ...], command: Callable, folder: Path
) -> None:
    command(*words, *SHORT, PROBES, "run_dir=whole")
    (folder / "stop").touch()
    command(*words, *SHORT, PROBES, "run_dir=parts", code=143)
    command("resume", "parts")
    whole, parts = folder / "whole", folder / "parts"
    assert (whole / "metrics.jsonl").read_bytes() == (parts / "metrics.jsonl").read_bytes()
    assert_same(state_of(whole), state_of(parts))
    assert state_of(whole)["features"]["fitted"] == 1

    grids = sorted(path.relative_to(whole) for path in whole.glob("probes/*/samples.png"))
    steps = [record["step"] for record in records(whole, "eval") if record["split"] == "val"]
    assert [grid.parent.name for grid in grids] == [f"step-{step:09d}" for step in steps]
    for grid in grids:
        assert (whole / grid).read_bytes() == (parts / grid).read_bytes()
        with Image.open(whole / grid) as picture:
            assert picture.size == (8 * 28, 8 * 28)
    board = EventAccumulator(str(whole / "tensorboard")).Reload()
    assert [image.step for image in board.Images("probe/samples")] == steps


def test_each_network_has_its_rate_and_its_optimizer_its_count(command: Callable, folder: Path) -> None:
    modules = "scheduler.modules={generator: linear, discriminator: constant}"
    words = (modules, "task.discriminator_steps=4", "parameters.rules={discriminator.*: {lr: 2}}")
    command("experiment=gan", *SHORT, *words, "run_dir=run", "loop.probes=[]")
    for record in records(folder / "run", "train"):
        assert_rates(record, generator=2e-4 * (1 - (record["step"] - 1) / 12), discriminator=4e-4)
        assert {"real_score", "fake_score"} <= record.keys()
    state = state_of(folder / "run")["optimizer"]
    memory = state["state"]["state"]
    counts = {name: int(memory[index]["step"]) for index, (name, *_) in enumerate(state["parameters"])}
    assert {counts[name] for name in counts if name.startswith("discriminator.")} == {12}
    assert {counts[name] for name in counts if name.startswith("generator.")} == {3}
    resumed = command("resume", "run", "budget=6ep", "optimizer.lr=1e-4").err
    assert "optimizer.lr: 0.0002 -> 0.0001 (takes effect)" in resumed
    command("resume", "run", "budget=7ep", "optimizer.modules.generator=lion", code=2)


def test_the_distance_is_that_of_the_stored_features(
    command: Callable, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("experiment=gan", *SHORT, "loop.probes=[]")
    command(*words, "run_dir=run")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    parts, stored = build(Composer().checked([*words]).settings), state_of(folder / "run")
    task: Any = parts.task
    model: Any = parts.state.model
    model.load_state_dict(stored["model"])
    task.features.load_state_dict(stored["features"])
    [batch] = parts.data.eval_batches("val")
    with torch.inference_mode():
        seed_forward(0, 0, torch.device("cpu"))
        fake = task.features(model.eval().generator(torch.randn(len(batch), 64)))
        lightness = (batch.inputs - batch.inputs.min()) / (batch.inputs.max() - batch.inputs.min())
        real = task.features(2 * lightness - 1)
    features = [x.numpy().astype(np.float64) for x in (real, fake)]
    means, covariances = [x.mean(0) for x in features], [np.cov(x.T, bias=True) for x in features]
    roots = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(0)).sum()
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1]) - 2 * roots
    last = [record for record in records(folder / "run", "eval") if record["split"] == "val"][-1]
    assert last["frechet"] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    again = json.loads(command("eval", "run", "--split", "val", "--checkpoint", "last").out)
    assert again["frechet"] == last["frechet"]


def test_the_guides_own_step_is_resumed_to_the_byte(command: Callable, folder: Path) -> None:
    code = re.search(r"class InTurn\(Step\):\n(?: .*\n|\n)*", (folder / "my_pair.py").read_text())
    assert code and len(code[0].strip().splitlines()) <= 30
    words = (
        "experiment=pair",
        "data.limit=96",
        "budget=4ep",
        "loop.log_every=1step",
        "loop.probes=[my_probes.stop]",
    )
    command(*words, "run_dir=whole")
    (folder / "stop").touch()
    command(*words, "run_dir=parts", code=143)
    command("resume", "parts")
    whole, parts = folder / "whole", folder / "parts"
    assert (whole / "metrics.jsonl").read_bytes() == (parts / "metrics.jsonl").read_bytes()
    assert_same(state_of(whole), state_of(parts))
    for record in records(whole, "train"):
        cosine = 1e-3 * (1 + math.cos(math.pi * (record["step"] - 1) / 12)) / 2
        assert_rates(record, maker=cosine, judge=1e-3)
        assert set(record["update_ratio"]) == {"maker", "judge"}
    losses = [record["loss"] for record in records(whole, "eval")]
    assert losses[-1] < losses[0]  # of the judge, against a maker that comes to rest


def test_the_guides_vae_lowers_its_bound_which_is_that_of_its_distributions(
    command: Callable, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("model=vae", "task=elbo", "monitor=val/loss")
    command(*words, "budget=3ep", "run_dir=run")
    evaluated = [record for record in records(folder / "run", "eval") if record["split"] == "val"]
    assert [record["loss"] for record in evaluated] == sorted((r["loss"] for r in evaluated), reverse=True)
    assert evaluated[-1]["loss"] < 0.8 * evaluated[0]["loss"] or evaluated[-1]["loss"] < 20
    for wanted in (["predict", "run"], ["export", "run", "vae.pt2"]):  # only its task knows how to call it
        assert "model: VAE has no forward to call" in command(*wanted, code=2).err
    assert "or choose by the loss: monitor=val/loss" in command(*words[:2], code=2).err
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    parts = build(Composer().checked([*words]).settings)
    model: Any = parts.state.model
    model.load_state_dict(state_of(folder / "run")["model"])
    [batch] = parts.data.eval_batches("val")
    with torch.inference_mode():
        mean, log_variance = model.encoder(batch.inputs).chunk(2, 1)
        posterior = Independent(Normal(mean, (log_variance / 2).exp()), 1)
        prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
        seed_forward(0, 0, torch.device("cpu"))
        pixels = Independent(Normal(model.decoder(posterior.rsample()), 1.0), 1)
        kl = kl_divergence(posterior, prior)
        constant = 64 * math.log(2 * math.pi) / 2
        bound = pixels.log_prob(batch.inputs.flatten(1)) + constant - kl
    assert evaluated[-1]["kl"] == pytest.approx(kl.mean().item(), rel=1e-4)
    assert evaluated[-1]["loss"] == pytest.approx(-bound.mean().item(), rel=1e-4)
