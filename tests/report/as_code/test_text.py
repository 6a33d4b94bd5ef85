"""Written values are the values, calls are as a formatter leaves them, and no name is bound twice."""

from __future__ import annotations

import ast

import pytest

from trainrun.report.as_code.text import Imports, call, constants, literal


@pytest.mark.parametrize(
    "value", [1, -0.5, 1e-8, True, None, 'a"b\\c', "é\n", [1, "x"], {"a": [None]}, (1, 2)]
)
def test_a_literal_reads_back(value: object) -> None:
    assert ast.literal_eval(literal(value)) == value


def test_a_call_fills_lines_where_it_is_too_long() -> None:
    assert call("x = f", {"a": 1}, ["y"]) == "x = f(y, a=1)"
    words = {f"argument_{n}": n for n in range(12)}
    text = call("f", words)
    first, *lines, last = text.split("\n")
    assert (first, last) == ("f(", ")") and all(60 < len(line) <= 88 for line in lines[:-1])
    assert eval(text, {"f": lambda **given: given}) == words


def test_numbers_are_assigned_at_once_where_they_fit() -> None:
    assert constants({"A": "1", "B": "2.5"}) == "A, B = 1, 2.5"
    assert constants({"A": "1" * 50, "B": "2" * 50}) == f"A = {'1' * 50}\nB = {'2' * 50}"


def test_a_part_named_as_something_of_the_script_gets_another_name() -> None:
    imports = Imports()
    assert imports.name("my.parts.Net") == "Net"
    assert imports.name("my.parts.model") == "my_parts_model"
    assert imports.name("other.Net") == "other_Net"
    lines = imports.lines("x = Net(1)\ny = other_Net(my_parts_model(2))")
    assert lines == "from my.parts import Net, model as my_parts_model\nfrom other import Net as other_Net"
