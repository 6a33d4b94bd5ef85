"""Signatures read from source are those that inspect finds after importing."""

from __future__ import annotations

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from trainrun.config import signature as source
from trainrun.config.paths import CONF
from trainrun.config.signature import (
    constant_of,
    entries_of,
    locate,
    module_exists,
    names_in,
    signature,
    source_file,
)

OPTIMIZERS = [
    f"torch.optim.{name}" for name in torch.optim.__all__ if inspect.isclass(getattr(torch.optim, name))
]
SCHEDULERS = [f"torch.optim.lr_scheduler.{name}" for name in torch.optim.lr_scheduler.__all__]
LAYERS = [f"torch.nn.{name}" for name in ("Linear", "Conv2d", "LSTM", "TransformerEncoderLayer", "Dropout")]
OURS = sorted(
    {t for file in CONF.glob("*/*.yaml") for t in re.findall(r"^\s*_target_: (\S+)", file.read_text(), re.M)}
)


@pytest.mark.parametrize("target", [*OPTIMIZERS, *SCHEDULERS, *LAYERS, *OURS])
def test_source_tells_what_inspect_tells(target: str) -> None:
    module, _, name = target.rpartition(".")
    live = inspect.signature(getattr(import_module(module), name)).parameters
    named = {k: p for k, p in live.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    takes = signature(target)
    if takes is None:  # source could not tell: then only an import judges, which is right but slower
        assert not target.startswith("trainrun.") and target not in OPTIMIZERS
        pytest.skip("only an import can tell")
    takes_any = any(p.kind is p.VAR_KEYWORD for p in live.values())
    if not named and takes_any:
        assert takes.parameters == {}  # object's own: inspect says (*args, **kwargs), a call takes nothing
        return
    assert {k: p.required for k, p in takes.parameters.items()} == {
        k: p.default is inspect.Parameter.empty for k, p in named.items()
    }
    assert takes.takes_any == takes_any


SHAPES = '''
from dataclasses import dataclass
from my_other import Borrowed as Renamed
import torch.nn as nn
@dataclass(frozen=True)
class Fields:
    """What it is."""
    a: int
    b: float = 1.0
class Base:
    def __init__(self, x, *, y: int = 3): ...
class Child(Base):
    """A child."""
class Plain: ...
class Net(nn.Module): ...
class Foreign(some.where.Else): ...
def function(a, b: str = "x", *rest, c, **more):
    """Says so."""
if True:
    def guarded(q): ...
try:
    from nowhere_at_all import maybe
except ImportError:
    def maybe(fallback): ...
'''


@pytest.fixture
def shapes(folder: Path) -> None:
    (folder / "my_shapes.py").write_text(SHAPES)
    (folder / "my_other.py").write_text("from my_third import *\n")
    (folder / "my_third.py").write_text("class Borrowed:\n    def __init__(self, far): ...\n")


@pytest.mark.parametrize(
    ("name", "required", "takes_any"),
    [
        ("Fields", {"a": True, "b": False}, False),
        ("Base", {"x": True, "y": False}, False),
        ("Child", {"x": True, "y": False}, False),
        ("Plain", {}, False),
        ("Net", {}, False),
        ("function", {"a": True, "b": False, "c": True}, True),
        ("guarded", {"q": True}, False),
        ("maybe", {"fallback": True}, False),
        ("Renamed", {"far": True}, False),
    ],
)
def test_every_form_of_a_definition_is_read(
    shapes: None, name: str, required: dict[str, bool], takes_any: bool
) -> None:
    takes = signature(f"my_shapes.{name}")
    assert takes is not None
    assert {k: p.required for k, p in takes.parameters.items()} == required
    assert takes.takes_any is takes_any
    assert "my_shapes" not in sys.modules


@pytest.mark.parametrize("target", ["my_shapes.Foreign", "my_shapes.absent", "absent.x", "Bare", "sys.exit"])
def test_what_source_does_not_tell_is_none(shapes: None, target: str) -> None:
    assert signature(target) is None


def test_the_description_is_the_docstring(shapes: None) -> None:
    docs: dict[str, Any] = {name: signature(f"my_shapes.{name}") for name in ("Fields", "Child", "function")}
    assert [takes.doc for takes in docs.values()] == ["What it is.", "A child.", "Says so."]


def test_an_edited_module_is_read_again(folder: Path) -> None:
    file = folder / "my_edited.py"
    file.write_text("def f(a): ...\n")
    first = signature("my_edited.f")
    file.write_text("def f(a, b): ...\n")
    second = signature("my_edited.f")
    assert first and second
    assert (list(first.parameters), list(second.parameters)) == (["a"], ["a", "b"])


@pytest.mark.parametrize(
    ("module", "exists"),
    [("torch.optim", True), ("json", True), ("sys", True), ("torch.nothing", False), ("os.path.x", False)],
)
def test_modules_are_found_without_importing(module: str, exists: bool) -> None:
    assert module_exists(module) is exists


def test_a_module_beside_another_is_not_inside_it(shapes: None) -> None:
    assert not module_exists("my_shapes.my_other")
    assert source_file("my_shapes.my_other") is None


def test_names_follow_star_imports(shapes: None) -> None:
    assert "Borrowed" in names_in("my_other")
    assert {"Linear", "Conv2d", "LSTM"} <= set(names_in("torch.nn"))


def test_circular_reexports_end(folder: Path) -> None:
    (folder / "my_left.py").write_text("from my_right import *\n")
    (folder / "my_right.py").write_text("from my_left import *\n")
    assert locate("my_left.x") is None
    assert names_in("my_left") == []


def test_a_file_that_is_no_python_is_no_signature(folder: Path) -> None:
    (folder / "my_broken.py").write_text("def (\n")
    assert signature("my_broken.f") is None
    assert source.source_file("my_broken") == folder / "my_broken.py"


KEYS = """
class Plain:
    modes: dict = {"loss": "min", "f": "max"}
    def __init__(self, many):
        if many:
            self.modes = {**self.modes, "top5": "max"}
class Built:
    modes = dict(loss="min")
class Spread:
    modes = {**OTHER, "loss": "min"}
class Without(Plain): ...
def modes(): ...
"""


@pytest.mark.parametrize(
    ("name", "keys"),
    [("Plain", ["loss", "f", "top5"]), ("Built", []), ("Spread", []), ("Without", []), ("modes", [])],
)
def test_the_keys_of_an_attribute_are_read_where_all_are_told(
    name: str, keys: list[str], folder: Path
) -> None:
    (folder / "shapes_of_keys.py").write_text(KEYS)
    assert list(entries_of(f"shapes_of_keys.{name}", "modes")) == keys


def test_a_class_constant_is_read_where_it_is_a_literal(folder: Path) -> None:
    (folder / "my_constants.py").write_text("class A:\n    kinds: tuple = ('classes',)\n    n = len('ab')\n")
    assert constant_of("my_constants.A", "kinds") == ("classes",)
    assert constant_of("my_constants.A", "n") is None
    assert constant_of("my_constants.B", "kinds") is None
