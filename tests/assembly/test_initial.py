"""First weights: a model from outside keeps its own, a chosen init sets them anew; both follow the seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from trainrun.assembly.build import Parts, build
from trainrun.config.compose.composer import Composer

Files = Callable[[Mapping[str, str]], None]

MODELS = """
import random
import numpy as np
import torch
from torch import nn
from trainrun.init import orthogonal
from trainrun.model.gpt import GPT
from trainrun.model.linear import Linear
from trainrun.model.mlp import MLP
from trainrun.regularization.kinds import ModelChange

class Net(nn.Module):
    def __init__(self, num_outputs: int):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.LazyLinear(6), nn.ReLU())
        self.token = nn.Parameter(torch.randn(6))
        self.noise = nn.Parameter(torch.tensor([random.random(), np.random.rand()]))
        self.head = nn.Linear(6, num_outputs)
        nn.init.constant_(self.head.weight, 0.25)
    def initialize(self):
        raise AssertionError("this name means nothing to the run")
    def forward(self, x):
        return self.head(self.body(x) + self.token * self.noise.sum())

class Zeroed(MLP):
    def __init__(self, input_shape: tuple[int, ...], num_outputs: int):
        super().__init__(input_shape, num_outputs, 6, 2, "relu", "none", 0.0, False)
        nn.init.constant_(self.head.weight, 0.25)

class Scaled(Zeroed):
    pass

class Doubled(Linear):
    def forward(self, x):
        return 2 * super().forward(x)

def quarter(input_shape: tuple[int, ...], num_outputs: int):
    model = Linear(input_shape, num_outputs)
    nn.init.constant_(model.head.weight, 0.25)
    return model

class AddNoise(ModelChange):
    def change_model(self, model):
        model.register_parameter("extra", nn.Parameter(torch.randn(3)))
"""

DATA = """
import torch
from torch.utils.data import Dataset, IterableDataset
class Drawn(Dataset):
    def __init__(self, size: int): self.size = size
    def __len__(self): return self.size
    def __getitem__(self, i): return torch.randn(4) + i % 2, i % 2
class Stream(IterableDataset):
    num_classes = 2
    def __init__(self, size: int): self.size = size
    def __iter__(self): return ((torch.randn(4) + i % 2, i % 2) for i in range(self.size))
"""


def built(*words: str) -> Parts:
    small = ["budget=2step", "runtime.threads=1", "logger=none"]
    return build(Composer().checked([*small, *words]).settings)


def weights(*words: str) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in built(*words).state.model.named_parameters()}


def init_line(parts: Parts) -> str | None:
    return dict(parts.plan).get("init")


@pytest.fixture(autouse=True)
def _models(folder: Path, files: Files) -> None:
    files({"my_nets.py": MODELS, "my_data.py": DATA})


# ---- what init=auto leaves alone


@pytest.mark.parametrize("model", ["Net", "Zeroed", "Scaled", "quarter"])
def test_auto_leaves_a_model_from_outside_the_weights_it_gave_itself(model: str) -> None:
    parts = built("data.limit=40", f"model._target_=my_nets.{model}")
    named = dict(parts.state.model.named_parameters())
    assert bool(named["head.weight"].eq(0.25).all())
    assert named["head.bias"].any()  # torch's own, not 0
    assert str(init_line(parts)).startswith("auto leaves ")


def test_auto_sets_what_is_trainruns_own_and_what_changes_no_weights_of_it() -> None:
    parts = built("data.limit=40", "model._target_=my_nets.Doubled")
    assert not parts.state.model.get_parameter("head.bias").any()
    assert init_line(parts) is None
    assert init_line(built("data.limit=40", "model=linear")) is None


def test_auto_leaves_a_model_of_torchvision_as_it_came() -> None:
    words = ["data=synthetic", "data.num_samples=40", "model=torchvision"]
    words += ["model.name=squeezenet1_1", "batch_size=8"]
    named = weights(*words)
    assert float(named["classifier.1.weight"].std()) == pytest.approx(0.01, rel=0.05)  # what its code gives
    assert torch.equal(named["features.0.weight"], weights(*words, "init=default")["features.0.weight"])


@pytest.mark.parametrize("model", ["Net", "Zeroed", "quarter"])
def test_a_chosen_init_sets_it_anew_and_the_plan_counts_layers(model: str) -> None:
    parts = built("data.limit=40", f"model._target_=my_nets.{model}", "init=orthogonal")
    head = parts.state.model.get_parameter("head.weight").detach()
    assert not head.eq(0.25).any() and not parts.state.model.get_parameter("head.bias").any()
    gram = head @ head.T if head.shape[0] <= head.shape[1] else head.T @ head
    torch.testing.assert_close(gram, torch.eye(len(gram)))
    expected = {"Net": "2 layers set anew; kept as the model made them: token, noise"}
    expected |= {"Zeroed": "3 layers set anew", "quarter": "1 layer set anew"}
    assert init_line(parts) == expected[model]


def test_a_rule_sets_the_parameters_it_names_and_no_others() -> None:
    rule = "parameters.rules={head.weight:{init:zeros}}"
    named = weights("data.limit=40", "model._target_=my_nets.Net", rule)
    assert not named["head.weight"].any() and named["head.bias"].any()
    plan = [text for _, text in built("data.limit=40", "model=mlp", rule).plan]
    assert "parameters.rules sets head.weight by zeros" in plan


# ---- the seed


def _table(folder: Path) -> list[str]:
    draws = random.Random(0)
    rows = "".join(f"{draws.random()},{draws.random()},{draws.choice('ab')}\n" for _ in range(60))
    (folder / "table.csv").write_text(f"x,y,kind\n{rows}")
    return ["data=csv", "data.path=table.csv", "data.target=kind"]


def _pictures(folder: Path) -> list[str]:
    draws = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")
    return ["data=imagefolder", "data.root=photos", "data.image_size=8", "data.memory_mib=0"]


KINDS: dict[str, Callable[[Path], list[str]]] = {
    "digits": lambda _: ["data.limit=40"],
    "own": lambda _: ["data._target_=my_data.Drawn", "data.size=60"],
    "own with workers": lambda _: ["data._target_=my_data.Drawn", "data.size=60", "data.num_workers=1"],
    "own stream": lambda _: [
        "data=dataset",
        "data.train={_target_:my_data.Stream,size:60}",
        "data.val={_target_:my_data.Drawn,size:20}",
        "data.test_fraction=0",
        "loop.eval_every=2step",
        "checkpoint.every=2step",
    ],
    "csv": _table,
    "imagefolder": _pictures,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_a_model_draws_follow_the_seed_whatever_was_read_before(kind: str, folder: Path) -> None:
    words = [*KINDS[kind](folder), "model._target_=my_nets.Net", "batch_size=4"]
    words += ["regularization.noise._target_=my_nets.AddNoise"]
    first, again, other = (weights(*words, f"seed={seed}") for seed in (1, 1, 2))
    drawn = ["body.1.weight", "token", "noise", "head.bias", "extra"]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert [name for name in drawn if torch.equal(first[name], other[name])] == []


def test_no_part_draws_what_another_has_drawn() -> None:
    """Two parts under one and the same stream would begin with the same numbers."""
    named = weights(
        "data.limit=40", "model._target_=my_nets.Net", "regularization.noise._target_=my_nets.AddNoise"
    )
    assert not torch.isin(named["extra"], named["token"]).any()


def test_the_draws_of_rules_do_not_depend_on_the_batch_that_lsuv_reads() -> None:
    rules = "parameters.rules={head.weight:{init:orthogonal},body.1.weight:{init:orthogonal}}"
    words = ["data._target_=my_data.Drawn", "data.size=60", "model._target_=my_nets.Net", rules, "init=lsuv"]
    first, other = (weights(*words, f"seed={seed}")["head.weight"] for seed in (1, 2))
    assert not torch.equal(first, other)
