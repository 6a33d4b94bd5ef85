"""The plan's figures: the learning rate's curve, groups, memory and checkpoints."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from fake_gpu import fake_gpu

from trainrun.assembly.build import Parts, build
from trainrun.config.compose.composer import Composer

LINEAR = 64 * 10 + 10  # parameters of model=linear on digits


def plan(*words: str) -> dict[str, str]:
    return dict(build_parts(*words).plan)


def build_parts(*words: str) -> Parts:
    return build(Composer().checked(["data.limit=40", "runtime.threads=1", "model=linear", *words]).settings)


def test_the_rates_are_drawn_from_the_first_step_to_the_last() -> None:
    said = plan("budget=100step", "optimizer.lr=0.1", "scheduler=linear", "scheduler.warmup=0step")["lr"]
    first, drawn, last = said.split()
    assert (first, last) == ("0.1", "0.001")  # the last step of a line that reaches 0 after it
    assert len(drawn) == 30
    heights = [max(row for row, bits in enumerate((0x09, 0x12, 0x24, 0xC0)) if ord(c) & bits) for c in drawn]
    assert heights == sorted(heights)  # rows are counted from the top: it falls
    assert (heights[0], heights[-1]) == (0, 3) or heights[0] < heights[-1]


@pytest.mark.parametrize("words", [["scheduler=constant"], ["scheduler=plateau"], ["budget=5s"]])
def test_no_curve_is_drawn_where_there_is_none_to_know(words: list[str]) -> None:
    assert "lr" not in plan(*words, "scheduler.warmup=0step" if words[0][0] == "s" else "seed=0")


@pytest.mark.parametrize(
    ("option", "text"), [("fp32", "this device has compute capability 8: "), ("bf16", "")]
)
def test_full_precision_on_a_gpu_says_what_is_faster(option: str, text: str) -> None:
    with fake_gpu():
        compute = plan("runtime.device=cuda:0", f"precision={option}")["compute"]
    hint = f" ({text}large products are several times as fast with precision=bf16)" if text else ""
    assert compute.startswith(f"cuda:0, {option}{hint}, ")


def test_data_that_would_fill_a_gpu_are_said_to_stay_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpu():
        assert "kept on the host" not in plan("runtime.device=cuda:0")["data"]
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=1000))
        assert "kept on the host: they would take more than half of" in plan("runtime.device=cuda:0")["data"]


def test_the_monitored_metric_stands_there_with_its_direction() -> None:
    assert plan()["monitor"] == "val/accuracy (max)"
    assert plan("monitor=val/loss")["monitor"] == "val/loss (min)"


def test_groups_say_how_many_parameters_follow_which_rule() -> None:
    assert plan("optimizer.weight_decay=0.1")["groups"] == "640 with decay 0.1; 10 with decay 0"
    assert "groups" not in plan("optimizer=adafactor", "optimizer.weight_decay=0")
    many = plan("model=mlp", "model.depth=6", "parameters.layer_decay=0.5")["groups"]
    assert many.endswith(" more groups") and many.count(" with ") == 4


@pytest.mark.parametrize(
    ("words", "numbers", "said"),
    [
        (["optimizer=sgd"], 2, "0.0026 of weights, 0.0026 of gradients; "),
        (["optimizer=momentum"], 3, "0.0026 of gradients, 0.0026 of momentum; "),
        (["optimizer=adamw", "regularization=ema"], 5, "0.0052 of adamw, 0.0026 of ema; "),
        (
            ["optimizer=adafactor"],
            2.13,
            "0.00034 of adafactor; ",
        ),  # a row and a column of the matrix, the bias
        (["optimizer=lbfgs", "batch_size=full"], 2, "0.0026 of gradients and what lbfgs keeps; "),
    ],
)
def test_memory_is_told_by_what_holds_it(words: list[str], numbers: float, said: str) -> None:
    text = plan(*words)["memory"]
    assert text.startswith(f"{numbers * LINEAR * 4 / 1e6:.2g} MB: ") and said in text


def test_the_size_of_a_checkpoint_is_near_that_of_its_file() -> None:
    parts = build_parts("model=mlp", "model.width=256", "regularization=ema")
    said = float(dict(parts.plan)["saves"].split()[0]) * 1e6
    for parameter in parts.state.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    parts.state.optimizer.step()
    tensors = _tensors(parts.state.state_dict())
    assert said == pytest.approx(sum(tensor.nbytes for tensor in tensors), rel=0.05)


def _tensors(tree: object) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return [tensor for value in values for tensor in _tensors(value)]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "every 1ep; the last 2 and the best are kept"),
        (["checkpoint.keep_last=1", "checkpoint.keep_best=0"], "every 1ep; the last is kept"),
        (
            ["checkpoint.every=50step", "checkpoint.keep_every=10ep"],
            "the last 2, the best and every 10ep are kept",
        ),
    ],
)
def test_how_many_checkpoints_are_kept(words: list[str], text: str) -> None:
    assert plan(*words)["saves"].endswith(text)


def digits(words: list[str]) -> Parts:
    return build(Composer().checked(["data.limit=40", "runtime.threads=1", "budget=1step", *words]).settings)


MIRRORED = "augment.flip mirrors digits, whose classes are digits: augment.flip=0"
DROPOUT = ["model=mlp", "regularization=dropout", "regularization.dropout.p=0.2"]


@pytest.mark.parametrize(
    ("words", "label", "text"),
    [
        (["model.dropout=0.3"], "with", "dropout 0.3 in 1 layer"),
        (["batch_size=64"], "steps", "1 an epoch, all 40 samples a step"),
        (["batch_size=40"], "steps", "1 an epoch, 40 samples a step"),
        (DROPOUT, "with", "dropout 0.2 in 2 layers"),
        (["augment=crop_flip"], "with", "augment CropFlip (shift 0.125, flip 0.5)"),
        (["augment=crop_flip"], "caution", MIRRORED),
    ],
)
def test_what_a_setting_came_to(words: list[str], label: str, text: str) -> None:
    (line,) = [line for name, line in digits(words).plan if name == label]
    assert text in line


def test_mirrored_clothes_and_unmirrored_digits_need_no_caution() -> None:
    for words in (["augment=crop_flip", "augment.flip=0"], ["data=synthetic", "augment=crop_flip"]):
        assert not [text for label, text in digits(words).plan if label == "caution"]
