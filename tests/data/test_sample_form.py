"""Which entries of a sample are inputs and which is the target."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass, replace
from typing import Any

import pytest

from trainrun.data.sample_form import WHOLE, SampleForm, form_of
from trainrun.protocols import InputParts
from trainrun.vocabulary.errors import ConfigError, DataError


@dataclass
class Scan:
    image: str
    age: int
    label: int


Point = namedtuple("Point", "x label")
Pair = namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (("in", 1), ("in", 1)),
        (["in", 1], ("in", 1)),
        (("a", "b", 1), (InputParts("ab"), 1)),
        ({"image": "in", "label": 1}, ("in", 1)),
        ({"img": "in", "y": 1, "path": "p"}, ("in", 1)),
        ({"x": "in", "target": 1}, ("in", 1)),
        ({"picture": "in", "label": 1}, ("in", 1)),  # the only entry beside the target
        ({"input_ids": "a", "tokens": "b", "labels": 1}, ({"input_ids": "a", "tokens": "b"}, 1)),
        ({"image": "in", "mask": "m"}, ("in", "m")),  # as in segmentation
        ({"Image": "in", "Label": 1}, ("in", 1)),
        (Scan("in", 7, 1), ("in", 1)),
        (Point("in", 1), ("in", 1)),
        (Pair("in", 1), ("in", 1)),
    ],
)  # fmt: skip
def test_the_usual_forms_are_found(sample: Any, expected: Any) -> None:
    assert form_of(sample, None, None)(sample) == expected


def test_names_of_the_users_choose_and_the_rest_is_said() -> None:
    sample = {"image": "in", "age": 7, "label": 1, "grade": 2}
    form = form_of(sample, ["image", "age"], "grade")
    assert form(sample) == ({"image": "in", "age": 7}, 2)
    assert form.note == "inputs are image, age, the target is grade; left out: label"
    assert form_of(("a", "b", "c"), 2, 0)(("a", "b", "c")) == ("c", "a")
    assert form_of(Scan("in", 7, 1), "age", "label")(Scan("in", 7, 1)) == (7, 1)


def test_a_pair_has_no_note() -> None:
    assert form_of(("in", 1), None, None).note == ""
    assert form_of((1, 2, 3), None, None).note == "inputs are 0, 1, the target is 2"


def test_without_targets_all_of_a_single_value_is_input() -> None:
    assert form_of("text", None, None, needs_target=False) == WHOLE
    assert WHOLE("text") == ("text", None)
    assert WHOLE(("in",)) == ("in", None)
    assert WHOLE.note == "the model gets all entries of a sample"
    assert form_of({"x": 1, "id": 2}, "x", None, needs_target=False)({"x": 1, "id": 2}) == (1, None)


@pytest.mark.parametrize(
    ("sample", "inputs", "target", "message"),
    [
        ({"a": 1, "b": 2}, None, None, "data.targets: cannot tell which entry is the target"),
        (
            {"image": 1, "label": 2, "target": 3},
            None,
            None,
            "data.targets: label, target may all be the target",
        ),
        ({"a": 1, "b": 2, "label": 3}, None, None, "data.inputs: cannot tell which entries are inputs"),
        (
            {"x": 1, "label": 3},
            "image",
            None,
            "data.inputs: 'image' is no entry of a sample; it has x, label",
        ),
        ({"x": 1, "label": 3}, None, "y", "data.targets: 'y' is no entry of a sample; it has x, label"),
        ("text", "x", None, "data.inputs: names an entry, a sample is a str without entries"),
    ],
)
def test_what_cannot_be_told_is_asked_for(sample: Any, inputs: Any, target: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("'", ".")):
        form_of(sample, inputs, target)


def test_all_wrong_names_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        form_of({"x": 1, "label": 3}, ["image", "x", "age"], "grade")
    assert [problem.key for problem in raised.value.problems] == [
        "data.inputs",
        "data.inputs",
        "data.targets",
    ]
    assert [problem.text.split()[0] for problem in raised.value.problems] == ["'image'", "'age'", "'grade'"]


@pytest.mark.parametrize(
    ("sample", "end"),
    [
        ({"image": 1, "grade": 2}, "name it by data.targets=grade"),
        ({"grade": 1, "image": 2}, "name it by data.targets=grade"),
        ({"image": 1, "age": 2, "grade": 3}, "name it by data.targets"),
        ({"label": 1, "target": 2}, "name the right one by data.targets"),
    ],
)
def test_a_target_is_proposed_only_where_one_alone_is_possible(sample: Any, end: str) -> None:
    with pytest.raises(ConfigError, match=f"{end}$"):
        form_of(sample, None, None)


def test_a_single_value_needs_a_target() -> None:
    with pytest.raises(DataError, match="a sample is a single str; return an input and a target"):
        form_of("text", None, None)


@pytest.mark.parametrize("sample", [{"image": 1}, (1,), 5])
def test_a_sample_without_the_entry_is_named(sample: Any) -> None:
    form = SampleForm(("image",), "label") if isinstance(sample, dict) else SampleForm((0,), 1)
    with pytest.raises(DataError, match="a sample has no entry"):
        form(sample)


def test_special_entries_are_neither_input_nor_target() -> None:
    form = form_of((1, 2, 3), None, None, special=[2])
    assert (form.inputs, form.target, form.left_out) == ((0,), 1, (2,))
    assert form_of({"x": 1, "y": 2, "target": 3}, None, None, special=["target"]).target == "y"
    assert form_of({"x": 1, "age": 2, "y": 3}, ["x", "age"], None, special=["age"]).inputs == ("x", "age")
    whole = replace(WHOLE, left_out=("w",))
    assert whole({"x": 1, "w": 2}) == ({"x": 1}, None)
    assert whole.note == "the model gets all entries of a sample; left out: w"
    assert replace(WHOLE, left_out=(1,))((5, 6, 7)) == ((5, 7), None)
