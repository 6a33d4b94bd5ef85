"""One call is checked by small checks: each is met alone, and a value that is right passes all of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from trainrun.config.check_call import Arguments, Trust, check_arguments, check_call
from trainrun.config.paths import CONF
from trainrun.config.signature import Parameter, Signature, source_signature

OWN = Trust((), None)  # the user's own settings
ADAMW = yaml.safe_load((CONF / "optimizer" / "adamw.yaml").read_text())


def problems(changes: dict[str, Any], path: str = "optimizer") -> list[tuple[str, str | None]]:
    return [(problem.text, problem.fix) for problem in check_call(ADAMW | changes, path, OWN)]


def test_what_is_right_is_no_problem() -> None:
    assert problems({}) == []
    assert problems({"lr_scaling": "none", "base_batch_size": 256}) == []  # what every optimizer takes


@pytest.mark.parametrize(
    ("changes", "text", "fix"),
    [
        ({"params": 1}, "is set by the run itself", None),
        ({"lrr": 0.2}, "adamw takes no 'lrr'; did you mean lr?", "optimizer.lr=0.2"),
        ({"lrr": -1}, "adamw takes no 'lrr'; did you mean lr?", None),  # -1 would not fit there either
        ({"lr": "???"}, "needs a value: optimizer.lr=...", None),
        ({"lr": "@nothing"}, "there is no @nothing here; there are @params, @model", None),
        ({"lr": float("nan")}, "must be a finite number, got nan", None),
        ({"lr": ".inf"}, "must be a finite number, got .inf", None),
        ({"lr": 0.0}, "must be a number greater than 0, got 0.0", None),
        ({"lr": "0.1"}, "must be a number greater than 0, got '0.1'", "optimizer.lr=0.1"),
        ({"betas": [0.9, 1.0]}, "must be a list of 2", None),
        ({"_target_": None}, "must be a dotted name such as my_package.MyClass, got null", None),
        ({"_target_": "nothing_there.Net"}, "there is no module nothing_there", None),
        ({"_target_": "__main__.Net"}, "defined in the script or notebook itself", None),
        ({"_target_": "trainrun.loss.MSE"}, "does not belong here; that takes trainrun.optimizer", None),
        ({"_target_": "trainrun.optimizer.adamww"}, "has no adamww; did you mean adamw?", None),
    ],
)
def test_one_fault_is_one_problem(changes: dict[str, Any], text: str, fix: str | None) -> None:
    ((found_text, found_fix),) = problems(changes)
    assert text in found_text
    assert found_fix == fix


def test_a_place_without_a_slot_takes_no_call() -> None:
    ((text, fix),) = problems({}, path="nowhere.inside")
    assert text.startswith("no call has a place here; make the object in a function")
    assert fix is None


def test_a_bare_value_in_the_place_of_a_call_is_its_main_argument() -> None:
    takes = Signature({"clip": Parameter("clip", None, required=True)}, False, "")
    (problem,) = check_arguments(Arguments({"clip": 0.5}, "loop", takes, "trainrun.loop.Loop"))
    assert problem.fix == "loop.clip.norm=0.5"
    (problem,) = check_arguments(Arguments({"clip": -1}, "loop", takes, "trainrun.loop.Loop"))
    assert problem.fix is None  # it would not fit there either
    (problem,) = check_arguments(Arguments({"clip": None}, "loop", takes, "trainrun.loop.Loop"))
    assert problem.fix == "loop.clip.norm=null"


def test_missing_arguments_are_named_unless_offered_or_passed_by_the_run() -> None:
    takes = Signature({name: Parameter(name, None, required=True) for name in ("a", "b")}, False, "")
    arguments = Arguments({}, "loss", takes, "my.loss", offers=("a",))
    assert [problem.text for problem in check_arguments(arguments)] == ["my.loss needs a value: loss.b=..."]
    assert list(check_arguments(arguments, plain=(1,))) == []
    assert len(list(check_arguments(arguments, plain=(2,)))) == 1


@pytest.mark.parametrize(("value", "fix"), [(1000, "budget=1000ep"), (1001, None), (20.0, "budget=20.0ep")])
def test_a_bare_budget_is_meant_in_epochs_where_it_is_small(value: Any, fix: str | None) -> None:
    dials = source_signature("trainrun.config.top_level.Dials")
    wanted = Signature({"budget": dials.parameters["budget"]}, False, "")
    (problem,) = check_arguments(Arguments({"budget": value}, "", wanted, "the run"))
    assert problem.fix == (fix if isinstance(value, int) else None)
