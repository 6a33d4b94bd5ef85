"""Targets are read as the task learns them; what would lose something is refused with the nearest remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainrun.data.samples import collate, unpacked
from trainrun.data.targets import describe_target, reading_of, resolve_classes
from trainrun.vocabulary.errors import ConfigError, DataError


def stacked(*targets: Any) -> Any:
    return unpacked(collate([(0.0, target) for target in targets]))[1]


def read(targets: Any, kind: str | None) -> Any:
    return reading_of(targets[:1], kind, "Rows")(targets, range(10, 20), "Rows")


def eye(*classes: int) -> list[Tensor]:
    return [torch.eye(3)[number] for number in classes]


READ = [
    ("classes", [2, 0], [2, 0]),
    ("classes", [True, False], [1, 0]),
    ("classes", [np.array([2]), np.array([0])], [2, 0]),
    ("classes", [[2], [0]], [2, 0]),
    ("classes", [2.0, 0.0], [2, 0]),
    ("classes", [np.array([2.0]), np.array([0.0])], [2, 0]),
    ("classes", eye(2, 0), [2, 0]),
    ("classes", [target.long() for target in eye(2, 0)], [2, 0]),
    ("classes", [target.bool() for target in eye(2, 0)], [2, 0]),
    ("values", [np.int64(-3), np.int64(5)], [[-3.0], [5.0]]),
    ("values", [np.array([-3]), np.array([5])], [[-3.0], [5.0]]),
    ("values", [[1, -2], [3, 4]], [[1.0, -2.0], [3.0, 4.0]]),
    ("values", [(0.5, -2), (3, 4)], [[0.5, -2.0], [3.0, 4.0]]),
    ("values", [True, False], [[1.0], [0.0]]),
    ("values", [torch.tensor(0.5).half(), torch.tensor(2.0).half()], [[0.5], [2.0]]),
    ("labels", [torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0])], [[1, 1], [0, 1]]),
    ("labels", [[1, 1], [0, 0]], [[1, 1], [0, 0]]),
    ("labels", [1, 0], [[1], [0]]),
    ("labels", [1.0, 0.0], [[1], [0]]),
    (None, [2, 0], [2, 0]),
    (None, [0.5, 1.0], [[0.5], [1.0]]),
    ("other", [torch.zeros(2, 2), torch.ones(2, 2)], [[[0.0] * 2] * 2, [[1.0] * 2] * 2]),
]


@pytest.mark.parametrize(("kind", "targets", "expected"), READ, ids=lambda value: str(value)[:40])
def test_targets_become_what_the_task_learns(kind: Any, targets: list[Any], expected: Any) -> None:
    converted = read(stacked(*targets), kind)
    wanted = {"values": torch.float32, "classes": torch.int64, "labels": torch.int64}
    assert converted.tolist() == expected and converted.dtype == wanted.get(kind, converted.dtype)


NOTED = [
    ("classes", 2, ""),
    ("values", 0.5, ""),
    ("labels", [1, 0], ""),
    ("classes", [2], "targets are integers of shape (1,), read as classes"),
    ("classes", 2.0, "targets are floats, read as classes"),
    ("classes", torch.eye(3)[1], "targets are one-hot, read as classes 0 to 2"),
    ("values", 3, "targets are integers, read as numbers"),
    ("values", 2**40, "targets are integers, read as numbers, rounded to 7 digits"),
    ("labels", torch.ones(2), "targets are floats 0 and 1, read as labels"),
]


@pytest.mark.parametrize(("kind", "target", "note"), NOTED, ids=lambda value: str(value)[:30])
def test_the_plan_says_what_was_converted(kind: str, target: Any, note: str) -> None:
    assert reading_of(stacked(target), kind, "Rows").note == note


TOKENS = torch.tensor([17, 4, 9, 9, 2])
REFUSED = [
    ("classes", 0.37, r"learns one class per sample; a target of Rows is 0.37 \(float32.*task=regression"),
    (
        "classes",
        [0.5, 1.5],
        r"\[0.5, 1.5\] \(float32 of shape \(2,\)\); for numbers use task=regression loss",
    ),
    ("classes", torch.tensor([1, 0, 1]), r"use task=multilabel loss=bce_with_logits"),
    ("classes", TOKENS, r"\[17, 4, 9, 9, ...\] \(int64 of shape \(5,\)\); .*task=language_model"),
    ("classes", torch.tensor([0.7, 0.2, 0.1]), r"target\.argmax\(\) in the data set.*task=regression"),
    ("labels", torch.zeros(4, 4).long(), r"of shape \(4, 4\)\); .*task of your own"),
    ("classes", torch.zeros(4, 4), r"learns one class per sample; .*of shape \(4, 4\)"),
    ("labels", TOKENS, "learns labels, each 0 or 1; .*17"),
    ("labels", 0.37, "learns labels.*task=regression"),
    ("labels", 3, "task=classification"),
    ("tokens", 3, "a token for each token of the input"),
]


@pytest.mark.parametrize(("kind", "target", "text"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_the_task_cannot_learn_is_told_with_what_was_seen_and_what_to_do(
    kind: str, target: Any, text: str
) -> None:
    with pytest.raises(ConfigError, match=f"task: .*{text}"):
        reading_of(stacked(target), kind, "Rows")


@pytest.mark.parametrize(
    ("task_kind", "target", "inputs", "kind"),
    [
        ("classes", torch.zeros(4, 4).long(), torch.zeros(1, 3, 4, 4), "step_classes"),
        ("classes", torch.tensor([0, 1, 0]), torch.tensor([[7, 8, 9]]), "step_classes"),  # of tokens
        ("classes", torch.tensor([0, 2, 1]), torch.zeros(1, 3, 5), "step_classes"),  # of a series
        ("classes", torch.tensor([0, 2, 1]), {"a": torch.tensor([[7, 8, 9]])}, "step_classes"),  # in a dict
        ("classes", torch.tensor([0, 1, 0]), torch.zeros(1, 3), "classes"),  # one-hot, of a row of a table
        ("classes", torch.tensor([0, 1, 0]), torch.zeros(1, 3, 5), "classes"),  # one-hot wins
        ("values", torch.zeros(4, 4), torch.zeros(1, 3, 4, 4), "step_values"),
        ("values", torch.zeros(4), torch.zeros(1, 4), "values"),
    ],
)
def test_targets_of_each_step_are_told_from_those_of_a_sample(
    task_kind: str, target: Any, inputs: Any, kind: str
) -> None:
    assert reading_of(stacked(target), task_kind, "Rows", inputs).kind == kind


UNREADABLE = [
    ("cat", r"the target 'cat', a text; give its number"),
    ({"a": 1}, r"dict \(a\); give one of them"),
    ([torch.zeros(2), torch.zeros(2)], "2 tensors; join them"),
]


@pytest.mark.parametrize("kind", ["classes", "values", "labels", "tokens"])
@pytest.mark.parametrize(("target", "text"), UNREADABLE, ids=lambda value: str(value)[:20])
def test_what_no_task_can_learn_is_a_data_error(kind: str, target: Any, text: str) -> None:
    with pytest.raises(DataError, match=f"sample 0 of Rows has .*{text}"):
        reading_of(stacked(target), kind, "Rows")
    assert reading_of(stacked(target), None, "Rows").kind == "other"  # a task of the user's own may


LATER = [
    ("classes", [*eye(0), torch.ones(3)], r"sample 11 of Rows has the target \[1.0, 1.0, 1.0\].*multilabel"),
    ("classes", [*eye(0), torch.tensor([0.5, 0.5, 0.0])], "sample 11 .*not a single 1 among zeros"),
    (
        "labels",
        [torch.ones(2), torch.tensor([0.0, 0.5])],
        r"sample 11 .*\[0.0, 0.5\], not labels, each 0 or 1",
    ),
]


@pytest.mark.parametrize(("kind", "targets", "text"), LATER, ids=lambda value: str(value)[:20])
def test_the_first_sample_that_differs_is_named(kind: str, targets: list[Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        read(stacked(*targets), kind)


def test_numbers_among_whole_ones_are_told_to_be_learned_as_numbers() -> None:
    text = "task: learns one class per sample; sample 11 of Rows has the target 1.5; .*task=regression"
    with pytest.raises(ConfigError, match=text):
        read(stacked(1.0, 1.5), "classes")


def test_a_batch_of_another_form_is_refused() -> None:
    reading = reading_of(stacked(*eye(0)), "classes", "Rows")
    text = r"sample 7 of Rows and others have targets of integers of shape \(\), not floats of shape \(3,\)"
    with pytest.raises(DataError, match=text):
        reading(stacked(1, 2), [7, 8], "Rows")


def test_the_labels_minus_one_and_one_become_two_classes() -> None:
    reading = reading_of(stacked(-1), "classes", "Rows")
    reading, classes, count = resolve_classes(reading, torch.tensor([-1, 1, 1]), 0, "Rows")
    assert classes.tolist() == [0, 1, 1] and count == 2 and "-1 and 1" in reading.note
    assert reading(torch.tensor([1, -1]), [0, 1], "Rows").tolist() == [1, 0]
    with pytest.raises(DataError, match="sample 5 of Rows has the target 0, not -1 or 1"):
        reading(torch.tensor([0]), [5], "Rows")


@pytest.mark.parametrize(
    ("classes", "count", "note"),
    [
        ([0, 1, 2], 3, ""),
        ([1, 2, 3], 4, "no sample has class 0; labels that count from 1 need one subtracted"),
        ([0, 5, 9], 10, "only 3 of 10 have samples, got 0, 5, 9; number them from 0 without gaps"),
    ],
)
def test_classes_that_no_sample_has_are_told(classes: list[int], count: int, note: str) -> None:
    reading = reading_of(stacked(0), "classes", "Rows")
    reading, resolved, number = resolve_classes(reading, torch.tensor(classes), 0, "Rows")
    assert (resolved.tolist(), number) == (classes, count)
    assert note in reading.note and bool(note) is bool(reading.note)


@pytest.mark.parametrize("first", [0, 18.0])
def test_numbers_far_apart_are_no_classes(first: float) -> None:
    reading = reading_of(stacked(first), "classes", "Rows")
    numbers = torch.tensor([3, 10**9, 5]) if first == 0 else torch.tensor([18, 19, 40])
    with pytest.raises(
        ConfigError, match=r"task: learns classes, counted from 0; .*task=regression loss=mse"
    ):
        resolve_classes(reading, numbers, 0, "Rows")


def test_one_hot_vectors_of_another_length_than_the_named_classes_are_refused() -> None:
    reading = reading_of(stacked(*eye(1)), "classes", "Rows")
    with pytest.raises(DataError, match="have 3 places, it names 5 classes"):
        resolve_classes(reading, torch.tensor([1]), 5, "Rows")


@pytest.mark.parametrize(
    ("target", "text"),
    [(3, "3 (int64)"), ([1.5, 2.0], "[1.5, 2] (float32 of shape (2,))"), ([7], "7 (int64 of shape (1,))")],
)
def test_a_target_is_shown_with_value_type_and_shape(target: Any, text: str) -> None:
    assert describe_target(stacked(target)) == text


def test_labels_below_zero_say_what_to_add() -> None:
    reading = reading_of(stacked(0), "classes", "Rows")
    with pytest.raises(ConfigError, match=r"counted from 0; .* begin with -2; add 2 to them in the data set"):
        resolve_classes(reading, torch.tensor([-2, 0, 1]), 0, "Rows")


@pytest.mark.parametrize(("distinct", "refused"), [(20, False), (21, True)])
def test_floats_of_which_hardly_two_are_alike_are_numbers(distinct: int, refused: bool) -> None:
    reading = reading_of(stacked(0.0), "classes", "Rows")
    classes = torch.arange(distinct)
    if not refused:
        assert resolve_classes(reading, classes, 0, "Rows")[2] == distinct
        return
    with pytest.raises(ConfigError, match=r"21 targets of Rows are 21 different floats; .*=regression"):
        resolve_classes(reading, classes, 0, "Rows")
    assert resolve_classes(reading, classes.repeat(2), 0, "Rows")[2] == distinct  # two samples of each


def test_any_two_labels_of_all_samples_are_named_classes() -> None:
    reading = reading_of(stacked(10), "classes", "Rows")
    reading, classes, count = resolve_classes(reading, torch.tensor([0, 10, 0]), 0, "Rows", are_all=True)
    assert (classes.tolist(), count, reading.names) == ([0, 1, 0], 2, ("0", "10"))
    assert reading(torch.tensor([10, 0]), [0, 1], "Rows").tolist() == [1, 0]
    one_hot = reading_of(stacked(*eye(0)), "classes", "Rows")  # of three places, of which two occur
    assert resolve_classes(one_hot, torch.tensor([0, 2]), 0, "Rows", are_all=True)[2] == 3
    plain = reading_of(stacked(0), "classes", "Rows")
    assert resolve_classes(plain, torch.tensor([0, 1]), 0, "Rows", are_all=True)[0].names == ()
