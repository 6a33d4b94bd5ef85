"""Written values are the values, calls are as a formatter leaves them, and no name is bound twice."""

from __future__ import annotations

import ast

import pytest

from trainrun.report.as_code.text import Imports, call, literal


@pytest.mark.parametrize(
    "value", [1, -0.5, 1e-8, True, None, 'a"b\\c', "é\n", [1, "x"], {"a": [None]}, (1, 2)]
)
def test_a_literal_reads_back(value: object) -> None:
    assert ast.literal_eval(literal(value)) == value


def test_a_call_breaks_where_it_is_too_long() -> None:
    assert call("x = f", {"a": 1}, ["y"]) == "x = f(y, a=1)"
    one = call("x = " + "f" * 40, {"argument": "v" * 40})
    assert one.split("\n") == ["x = " + "f" * 40 + "(", f'    argument="{"v" * 40}"', ")"]
    each = call("f", {"a": "v" * 50, "b": "v" * 50})
    assert each.split("\n") == ["f(", f'    a="{"v" * 50}",', f'    b="{"v" * 50}",', ")"]


def test_a_part_named_as_something_of_the_script_gets_another_name() -> None:
    imports = Imports()
    assert imports.name("my.parts.Net") == "Net"
    assert imports.name("my.parts.model") == "my_parts_model"
    assert imports.name("other.Net") == "other_Net"
    assert "from other import Net as other_Net" in imports.lines()
