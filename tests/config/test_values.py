"""A value fits an annotation or not; the same for live annotations and for their source."""

from __future__ import annotations

import ast
import typing
from typing import Any

import pytest

from trainrun.config.values import complaint, kind_of, nearest_value
from trainrun.vocabulary import ranges


def complaint_of(value: Any, annotation: str) -> str | None:
    return complaint(value, ast.parse(annotation, mode="eval").body)


# annotation -> (values that fit, values that do not)
CASES: dict[str, tuple[list[Any], list[Any]]] = {
    "float": ([1, 0.5, -3], ["a", True, None, [1], float("inf")]),
    "int": ([1, -3], [1.0, True, "1", None]),
    "bool": ([True, False], [0, 1, "true", None]),
    "str": (["", "a"], [1, None, True, ["a"]]),
    "None": ([None], [0, "", "null"]),
    "float | None": ([1.5, None], ["a", True]),
    "Optional[int]": ([3, None], [1.5]),
    "typing.Optional[int]": ([3, None], [1.5]),
    "Union[int, str]": ([3, "a"], [1.5, None]),
    "float | Tensor": ([0.1], ["abc"]),
    "Union[float, torch.Tensor]": ([0.1], ["abc"]),
    "Literal['a', 'b']": (["a", "b"], ["c", None, 1]),
    "Literal['a', 1]": (["a", 1], ["1", True]),
    "Literal['full'] | int": (["full", 3], ["half"]),
    "list[int]": ([[], [1, 2]], [1, ["a"], [1.5], (1,)]),
    "Sequence[float]": ([[0.1, 1]], [0.1, ["a"]]),
    "tuple[float, float]": ([[0.1, 1]], [[0.1], [1, 2, 3], 0.1]),
    "tuple[int, ...]": ([[], [1, 2, 3]], [[1.5], 1]),
    "Normalize": (["train", None, [0.5, 0.5], [[0.1, 0.2], 1]], ["auto", [0.5, 0], [0.5], 0.5, True]),
    "dict[str, Any]": ([{}, {"a": 1}], [[], 1]),
    "Mapping[str, float]": ([{"a": 1}], ["a"]),
    "'int | None'": ([3, None], ["a"]),
    "Betas": ([[0.9, 0.999], [0, 0]], [[0.9, 1.0], [0.9], 0.9, [-0.1, 0.5]]),
    "Positive": ([1e-8, 3], [0, -1, "a", None]),
    "NonNegative": ([0, 0.5], [-1e-9]),
    "Fraction": ([0, 0.5, 1], [1.1, -0.1]),
    "Rate": ([0, 0.999], [1, 1.0, -0.1]),
    "PositiveFraction": ([1, 0.1], [0, 1.1]),
    "Count": ([1, 64], [0, -1, 1.0, True]),
    "Natural": ([0, 5], [-1, 0.5]),
    "Seed": ([0, 2**63 - 1], [-1, 2**63]),
    "Count | Literal['full']": ([1, "full"], [0, "all"]),
    "list[Count] | Count": ([[1, 2], 3], [[0], 0, []][:2]),
    "Steps": (["0step", "10ep", "5%", "60000sample"], ["5min", "2h", "x", 10, None, "-1ep"]),
    "Period": (["1step", "0.5ep"], ["0ep", "5s", 3]),
    "Period | None": (["1ep", None], ["0ep"]),
    "Length": (["1step", "0.5ep", "90s", "5min", "0.5h"], ["0ep", "0s", 3, "1day", None]),
    "list[Steps]": ([["50%", "75%"]], ["50%", [3]]),
    "SomethingElse": ([1, "a", None, [1]], []),
    "Callable[[int], int]": ([1, "a"], []),
}


@pytest.mark.parametrize("annotation", CASES)
def test_a_value_fits_its_annotation_or_is_told_why_not(annotation: str) -> None:
    fitting, others = CASES[annotation]
    for value in fitting:
        assert complaint_of(value, annotation) is None, value
    for value in others:
        said = complaint_of(value, annotation)
        assert said is not None, value
        assert said.startswith("must be ")
        assert ("null" if value is None else str(value)) in said


def test_without_an_annotation_nothing_can_be_judged() -> None:
    assert complaint("anything", None) is None


@pytest.mark.parametrize(
    "name", [name for name, form in vars(ranges).items() if typing.get_origin(form) or name == "Betas"]
)
def test_every_range_is_known_by_name(name: str) -> None:
    kind = kind_of(ast.parse(name, mode="eval").body)
    assert kind.words
    assert not kind.fits(object())


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        ("Positive", -1, "must be a number greater than 0, got -1"),
        ("Rate", 1, "must be a number in [0, 1), got 1"),
        ("Count | Literal['full']", 0, "must be a whole number of at least 1 or full, got 0"),
        ("Period", 10, "write 10step or 10ep"),
        ("Period", "5min", "clock units are not possible here"),
        ("Length", "0s", "must be a duration above 0 in ep, step, sample, s, min or h"),
        ("bool", "yes", "must be true or false, got 'yes'"),
    ],
)
def test_the_words_say_what_would_do(annotation: str, value: Any, said: str) -> None:
    assert said in str(complaint_of(value, annotation))


@pytest.mark.parametrize(
    ("annotation", "holds"),
    [
        ("Steps", True),
        ("Period | None", True),
        ("list[Steps]", True),
        ("int", False),
        ("float | None", False),
    ],
)
def test_durations_are_recognised_in_unions_and_lists(annotation: str, holds: bool) -> None:
    assert kind_of(ast.parse(annotation, mode="eval").body).holds_steps is holds


@pytest.mark.parametrize(
    ("annotation", "value", "right"),
    [
        ("Period", "10 epochs", "10ep"),
        ("Period", 10, None),  # of what, nobody knows
        ("Literal['max', 'min']", "maximum", "max"),
        ("Literal['max', 'min']", "both", None),
        ("Count", 3.0, "3"),
        ("Count", 3.5, None),
        ("Count", "3", "3"),
        ("Positive", "1e-3", "0.001"),
        ("Positive", "-1", None),
        ("bool", 1, "true"),
        ("bool", "yes", "true"),
        ("bool", "Off", "false"),
        ("bool", 2, None),
        ("Positive | None", "None", "null"),
        ("Positive", "none", None),
        ("list[str]", "a", "[a]"),
        ("Betas", 0.9, None),
    ],
)
def test_what_was_meant_fits(annotation: str, value: Any, right: str | None) -> None:
    assert nearest_value(value, ast.parse(annotation, mode="eval").body) == right


def test_a_bare_number_takes_the_unit_that_it_is_given() -> None:
    annotation = ast.parse("Period", mode="eval").body
    assert nearest_value(10, annotation, "ep") == "10ep"
    assert nearest_value("lots", annotation, "ep") is None


@pytest.mark.parametrize(("value", "near"), [(True, "auto"), (False, "null")])
def test_a_switch_of_what_has_an_automatic_choice_is_that_or_nothing(value: bool, near: str) -> None:
    annotation = ast.parse("Literal['auto'] | str | None", mode="eval").body
    assert complaint(value, annotation) == f"must be auto or text or null, got {value}"
    assert nearest_value(value, annotation) == near
