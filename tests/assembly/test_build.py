"""The assembly: each call is handed what came before it, and the user's own parts take any place."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainrun.assembly import plan
from trainrun.assembly.build import Parts, _collect_again, build, rates_of
from trainrun.config.check import check
from trainrun.config.compose.composer import Composer
from trainrun.vocabulary.errors import ConfigError

Files = Callable[[Mapping[str, str]], None]
SMALL = ("data.limit=40", "runtime.threads=1", "model=linear", "budget=2step")


def built(*words: str) -> Parts:
    composed = Composer().compose([*SMALL, *words])
    assert check(composed.settings, composed.explicit, composed.files) == []
    return build(composed.settings)


def rates(parts: Parts) -> list[float]:
    return [group["base_lr"] for group in parts.state.optimizer.param_groups]


def test_the_defaults_become_parts_without_touching_the_disk(folder: Path) -> None:
    parts = built()
    assert parts.state.total_steps == 2
    assert isinstance(parts.state.optimizer, torch.optim.AdamW)
    assert sum(p.numel() for p in parts.state.model.parameters()) == 64 * 10 + 10  # 8 x 8 pixels, ten digits
    assert list(folder.iterdir()) == []


def test_the_same_settings_give_the_same_weights() -> None:
    first, second, other = built(), built(), built("seed=1")
    weights = [next(iter(parts.state.model.parameters())) for parts in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("words", "lr"),
    [
        (("optimizer.lr=0.3",), 0.3),
        (("optimizer._target_=torch.optim.SGD", "optimizer.lr=0.3"), 0.3),
        (("optimizer._target_=torch.optim.SGD",), 1e-3),  # torch's own default
        (("optimizer._target_=torch.optim.Rprop",), 1e-2),
        (("optimizer.lr=0.3", "optimizer.lr_scaling=linear", "batch_size=128", "loop.accumulate=4"), 0.6),
        (("optimizer.lr=0.3", "optimizer.lr_scaling=sqrt", "batch_size=64"), 0.15),
    ],
)
def test_the_learning_rate_is_what_was_asked_for(words: tuple[str, ...], lr: float) -> None:
    assert rates(built(*words)) == [pytest.approx(lr)] * len(rates(built(*words)))


def test_the_rates_ahead_are_the_schedules_own_at_fifths_of_what_remains() -> None:
    parts = built("budget=100step", "scheduler=cosine", "optimizer.lr=0.2")
    state = parts.state
    state.step, state.applied = 20, 18  # two were skipped
    rates = parts.rates.course(state, state.state_dict()["schedule"])
    assert [step for step, _ in rates] == [21, 41, 61, 80, 100]
    assert [rate for _, rate in rates] == pytest.approx(
        [0.1 * (1 + math.cos(math.pi * update / 100)) for update in (18, 38, 58, 77, 97)]
    )
    state.step = state.applied = 100
    assert parts.rates.course(state, {}) == [(100, pytest.approx(0.1 * (1 + math.cos(math.pi * 0.99))))]


def test_the_next_rate_alone_is_known_of_a_schedule_that_follows_a_metric() -> None:
    parts = built("budget=100step", "scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.2")
    schedule = parts.state.schedule
    for metric in (0.5, 0.4):
        schedule.observe(metric)
    assert parts.rates.course(parts.state, parts.state.state_dict()["schedule"]) == [(1, pytest.approx(0.02))]
    other = rates_of(parts.settings | {"budget": "50step"}, parts)
    assert other.course(parts.state, {"kind": "function", "state": {}}) == [(1, pytest.approx(0.2))]


def test_one_rule_alone_treats_its_parameters_differently() -> None:
    parts = built("model=mlp", "init=zeros", "parameters.rules={head.weight:{init:{constant:{value:0.5}}}}")
    named = dict(parts.state.model.named_parameters())
    head = [p for name, p in named.items() if name == "head.weight"]
    assert len(head) == 1 and torch.all(head[0] == 0.5)
    assert all(torch.all(p == 0) for name, p in named.items() if name != "head.weight")


def test_an_init_by_rule_reaches_biases_named_alone_and_default_leaves_a_layer_alone() -> None:
    rules = "parameters.rules={head.weight:{init:default},'*.bias':{init:{constant:{value:-2}}}}"
    parts = built("model=mlp", "init=zeros", rules.replace("'", ""))
    named = dict(parts.state.model.named_parameters())
    assert all(torch.all(p == -2) for name, p in named.items() if name.endswith("bias"))
    assert named["head.weight"].any()
    assert not any(p.any() for name, p in named.items() if name.endswith("weight") and name != "head.weight")


OWN = """
import torch
from torch import nn
from torch.utils.data import Dataset
class Pairs(Dataset):
    def __init__(self, size: int):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(size, 4, generator=generator)
        self.y = (self.x.sum(1) > 0).long()
    def __len__(self): return len(self.x)
    def __getitem__(self, index): return self.x[index], int(self.y[index])
class Net(nn.Module):
    def __init__(self, width: int, num_outputs: int):
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(width), nn.ReLU(), nn.Linear(width, num_outputs))
    def forward(self, x): return self.layers(x)
def spread(outputs, targets): return float(outputs.std())
"""


def test_own_code_takes_every_place(folder: Path, files: Files) -> None:
    files({"my_code.py": OWN})
    words = ["data._target_=my_code.Pairs", "data.size=60", "model._target_=my_code.Net", "model.width=3"]
    composed = Composer().compose(
        [*words, "task.metrics=[my_code.spread]", "budget=1step", "runtime.threads=1", "batch_size=8"]
    )
    assert check(composed.settings, composed.explicit, composed.files) == []
    parts = build(composed.settings)
    shapes = [tuple(p.shape) for p in parts.state.model.parameters()]
    assert shapes == [(3, 4), (3,), (2, 3), (2,)]  # lazy layers have seen a batch; two classes


def test_inputs_that_cannot_be_mixed_are_told_before_anything_is_written(folder: Path, files: Files) -> None:
    body = "def __getitem__(self, i): return torch.tensor([i % 7, i % 5]), i % 2\n"
    body = f"class Codes(Dataset):\n    def __len__(self): return 40\n    {body}"
    files({"my_codes.py": f"import torch\nfrom torch.utils.data import Dataset\n{body}"})
    words = ["data._target_=my_codes.Codes", "model._target_=torch.nn.EmbeddingBag", "batch_size=8"]
    words += ["model.num_embeddings=7", "model.embedding_dim=2", "budget=1step", "runtime.threads=1"]
    build(Composer().compose(words).settings)
    with pytest.raises(ConfigError, match=r"regularization\.mixup: needs inputs of real numbers"):
        build(Composer().compose([*words, "regularization=mixup"]).settings)


def test_a_runtime_value_can_be_asked_for() -> None:
    words = [*SMALL[:2], "model._target_=torch.nn.Bilinear"]  # its features only the data know
    problems = check(Composer().compose(words).settings)
    assert {problem.key for problem in problems} >= {"model.in1_features", "model.out_features"}
    parts = built("model=mlp", "model.width='@num_outputs'")
    assert parts.state.model.get_parameter("head.weight").shape == (10, 10)


# Only the data, or a call, can tell these: words -> (key, part of the message)
LATE: dict[str, tuple[str, str]] = {
    "scheduler.warmup=200%": ("scheduler.warmup", "the whole run"),
    "model=resnet model.depth=21": ("model.depth", "6 n + 2"),
    "model=mlp model.dropout=[0.5,0.3,0.1]": ("model.dropout", "one per layer"),
    "loss.class_weights=[1,2]": ("loss.class_weights", "10 weights"),
    "monitor=val/accuracyy": ("monitor", "val/accuracy"),
    "monitor=val/rmse": ("monitor", "val/accuracy"),
    "data=diabetes model=cnn": ("model", "pictures"),
    "data=diabetes data.balanced=true": ("data.balanced", "must be classes"),
    "data=synthetic_table data.kind=labels task=multilabel loss=focal data.balanced=true": (
        "data.balanced",
        "those of synthetic_table are labels",
    ),
    "task=binary loss=bce_with_logits": ("task", "two classes"),
    "model=torchvision model.name=resnet1888": ("model.name", "did you mean resnet18?"),
    "scheduler=torch scheduler.name=StepLRR": ("scheduler.name", "did you mean StepLR?"),
    "parameters.rules={nothing*:{lr:0.1}}": ("parameters.rules.nothing*", "matches no parameter"),
    "runtime.device=gpu": ("runtime.device", "cpu, cuda"),
    "model._target_=torch.nn.Flatten": ("model", "no parameter"),
}


@pytest.mark.parametrize("words", LATE, ids=str)
def test_what_only_the_parts_can_tell_is_told_before_anything_is_written(
    words: str, cli: Any, folder: Path
) -> None:
    key, said = LATE[words]
    answer = cli("data.limit=40", "budget=2step", *words.split())
    assert answer.code == 2
    (line,) = [line for line in answer.err.splitlines() if line.startswith(f"{key}:")]
    assert said in line
    assert "Traceback" not in answer.err
    assert list(folder.iterdir()) == []


def test_parts_below_a_base_are_what_they_claim() -> None:
    parts = built("regularization=[ema]")
    assert isinstance(parts.state.model, nn.Module)
    assert parts.state.weight_average is not None
    assert list(parts.regularizers) == ["ema"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("scheduler=warmup_cosine", "budget=200step"), "cosine schedule after a warm-up of 10 steps (5%)"),
        (("scheduler=cosine",), "cosine schedule"),
        (("scheduler=linear", "scheduler.warmup=1step"), "linear schedule after a warm-up of 1 step"),
        (("scheduler=torch",), "StepLR schedule"),
        (
            ("scheduler._target_=torch.optim.lr_scheduler.ExponentialLR", "+scheduler.gamma=0.9"),
            "ExponentialLR",
        ),
    ],
)
def test_the_plan_names_the_schedule_and_its_warm_up(words: tuple[str, ...], said: str) -> None:
    plan = dict(built(*words).plan)
    assert plan["optimizer"].split("; ")[1].removesuffix(" schedule") == said.removesuffix(" schedule")


def test_the_plan_names_what_was_chosen_beside_the_groups_of_every_run() -> None:
    assert "with" not in dict(built().plan)
    words = ["regularization=[label_smoothing,ema]", "augment=crop_flip", "init=kaiming_normal"]
    words += ["parameters.layer_decay=0.5", "loop.clip.norm=1", "data=synthetic"]
    said = "label_smoothing, ema, augment CropFlip (shift 0.125, flip 0.5), "
    said += "init kaiming_normal, layer decay 0.5, clipping by norm 1"
    assert dict(built(*words).plan)["with"] == said


def test_the_plan_says_where_a_models_parameters_lie() -> None:
    said = dict(built("model=mlp", "model.width=[3,5]", "model.depth=null").plan)["model"]
    body, head = (64 * 3 + 3) + (3 * 5 + 5), 5 * 10 + 10
    assert said == f"MLP: {body + head} parameters (body {body}, head {head})"
    assert dict(built("model=linear").plan)["model"] == "Linear: 650 parameters"  # has one layer
    said = dict(built("model=torchvision", "model.name=squeezenet1_1", "data=synthetic").plan)["model"]
    assert said.startswith("torchvision squeezenet1_1: ")


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_that_will_be_slow_says_so(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "bf16_units", lambda device: ["avx512_bf16"] * fast)
    assert ("slow here" in dict(built("precision=bf16").plan)["compute"]) is not fast
    assert "slow here" not in dict(built("precision=fp32").plan)["compute"]


CAUTIONS: dict[str, str | None] = {
    "regularization=l2 optimizer.weight_decay=0.01": "l2 decays weights that optimizer.weight_decay=0.01",
    "regularization=[l2,elastic] optimizer.weight_decay=0.01": "l2 and elastic decays weights",
    "regularization=l2 optimizer.weight_decay=0": None,
    "regularization=l1": None,
    "model=mlp model.norm=batch batch_size=7": "batch norm estimates mean and variance from 7 samples",
    "model=mlp model.norm=batch batch_size=8": None,
    "model=mlp model.norm=layer batch_size=2": None,
    "model=mlp model.norm=batch batch_size=4 loop.accumulate=4": "from 4 samples at a time",
    "model=transformer scheduler=cosine": "without a warm-up: scheduler.warmup=5%",
    "model=transformer scheduler=one_cycle": None,
    "model=transformer scheduler=cosine scheduler.warmup=1step": None,
    "model=transformer": None,
    "model=mlp scheduler=cosine": None,
}


@pytest.mark.parametrize("words", CAUTIONS, ids=str)
def test_what_is_seldom_meant_is_cautioned_against_once(words: str) -> None:
    texts = [text for label, text in built(*words.split()).plan if label == "caution"]
    said = CAUTIONS[words]
    assert [said in text for text in texts] == ([] if said is None else [True])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "after 10 evaluations in a row that are not better; then the best weights are restored"),
        (
            ("regularization.early_stopping.patience=3", "regularization.early_stopping.min_delta=0.01"),
            "after 3 evaluations in a row that are not better by more than 0.01; "
            "then the best weights are restored",
        ),
        (
            ("regularization.early_stopping.restore_best=false",),
            "after 10 evaluations in a row that are not better; then the last weights are kept",
        ),
    ],
)
def test_the_plan_says_when_early_stopping_ends_the_run_and_with_which_weights(
    words: tuple[str, ...], said: str
) -> None:
    assert dict(built("regularization=early_stopping", *words).plan)["stops"] == said
    assert "stops" not in dict(built().plan)


def test_the_collector_that_the_command_line_stopped_goes_on_without_what_is_there() -> None:
    frozen = gc.get_freeze_count()
    try:
        _collect_again()  # a notebook's, which was never stopped
        assert gc.get_freeze_count() == frozen
        gc.disable()
        _collect_again()
        assert gc.isenabled() and gc.get_freeze_count() > frozen
    finally:
        gc.enable()
        gc.unfreeze()
