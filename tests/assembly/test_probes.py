"""Probes by name: functions, calls with arguments, objects; and what cannot be one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainrun.assembly.build import build
from trainrun.config.compose.composer import Composer
from trainrun.vocabulary.errors import ConfigError

CODE = """
def plain(model, batches, step):
    return {"x": step}

def scaled(model, batches, step, factor):
    return {"y": factor * step}

class Counted:
    def __init__(self, start):
        self.start = start

    def __call__(self, model, batches, step):
        return {"z": self.start + step}

def two(model, batches):
    return {}

class Silent:
    pass

def missing(model, batches, step):
    return {"x": model.no_such_layer}

def trains(model, batches, step):
    next(model.parameters()).fill_(1)
    return batches[2]

def second(model, batches, step):
    _, batch, *_ = batches
    return {"x": len(batch)}

SEEN = []

def counts(model, batches, step):
    SEEN.append(sum(len(batch) for batch in batches))
    return {"x": SEEN[-1]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("my_probes.py").write_text(CODE)
    yield
    sys.modules.pop("my_probes", None)


def probes(*words: str) -> Any:
    settings = Composer().checked(["model=linear", "budget=2step", "runtime.threads=1", *words]).settings
    return build(settings).probes


def test_functions_calls_and_objects_keep_their_order_and_names() -> None:
    word = "{_target_: my_probes.scaled, factor: 10}, {_target_: my_probes.Counted, start: 5}"
    named = probes(f"loop.probes=[my_probes.plain, {word}]")
    assert [probe.name for probe in named] == ["my_probes.plain", "my_probes.scaled", "my_probes.Counted"]
    assert [probe.function(None, (), 3) for probe in named] == [{"x": 3}, {"y": 30}, {"z": 8}]
    assert {probe.module for probe in named} == {"my_probes"}
    assert probes() == ()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loop.probes=[my_probes.two]"], r"loop\.probes: my_probes\.two must take \(model, batches, step\)"),
        (["loop.probes=[my_probes.scaled]"], r"my_probes\.scaled must take .*factor"),
        (["loop.probes=[my_probes.plane]"], "my_probes has no plane; did you mean plain"),
        (["loop.probes=[my_probe.plain]"], "there is no module my_probe"),
        (["loop.probes=[my_probes.Silent]"], "needs a method __call__"),
        (["loop.probes=my_probes.plain"], "must be a list, got 'my_probes.plain'"),
        (["loop.probes=[os.getcwd]"], "os.getcwd"),
        (["loop.probes=[{_target_: my_probes.scaled, factr: 1}]"], "factr"),
        (
            ["loop.probes=[my_probes.plain]", "data.val_fraction=0"],
            "run on the validation split, and there is none",
        ),
        (["loop.probes=[my_probes.missing]"], r"^loop\.probes: my_probes\.missing failed .*no_such_layer"),
        (["loop.probes=[my_probes.plain,my_probes.plain]"], "is the name of another result already"),
        (["loop.probes=[my_probes.trains]"], r"my_probes\.trains changed the model that is trained"),
    ],
)
def test_what_cannot_be_a_probe_is_told(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        probes(*words)


def test_a_probe_is_tried_on_the_first_batch_and_on_all_where_that_is_too_little() -> None:
    probes("loop.probes=[my_probes.counts]", "data.eval_batch_size=5")
    assert sys.modules["my_probes"].SEEN == [5]
    probes("loop.probes=[my_probes.second]", "data.eval_batch_size=5")
    with pytest.raises(ConfigError, match=r"my_probes\.second failed"):
        probes("loop.probes=[my_probes.second]", "data.eval_batch_size=1024")
