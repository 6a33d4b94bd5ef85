"""`trainrun show api` is true: every name that it calls stable is there."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import trainrun
from trainrun import protocols
from trainrun.checkpoint.reader import FORMATS as CHECKPOINT_FORMATS
from trainrun.cli.guide import pages
from trainrun.config import stored
from trainrun.config.compose.composer import Composer
from trainrun.session.session import Result
from trainrun.vocabulary import errors, events

BLOCKS = pages.read("api")
# Where settings of a group are shown that its default option does not have.
ELSEWHERE = {"data": ["data=mnist", "data.root=x"], "sweep": []}


def table(head: str) -> list[list[str]]:
    """The rows of the table whose first column is called so."""
    (rows,) = (block.rows for block in BLOCKS if block.kind == "table" and block.rows[0][0] == head)
    return rows[1:]


def keys() -> dict[str, list[str]]:
    """Group, or Dials -> the keys that are listed for it."""
    listed: dict[str, list[str]] = {}
    for block in BLOCKS:
        if block.kind == "bullet":
            for group, text in re.findall(r"(\w+): ([\w. ]+?)(?=\.(?: |$)|,)", block.text):
                listed[group] = text.split()
    return {group: names for group, names in listed.items() if group != "Durations"}


def reached(settings: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(settings, dict) or part not in settings:
            return False
        settings = settings[part]
    return True


def test_every_key_is_a_setting() -> None:
    listed, composer = keys(), Composer()
    assert len(listed) >= 9 and "clip.agc" in listed["loop"]
    plain = composer.compose([]).settings
    for group, names in listed.items():
        words = ELSEWHERE.get(group, [])
        settings = composer.compose(words).settings if words else plain
        if group == "sweep":
            settings = {"sweep": dict.fromkeys(re.findall(r"^(\w+):", _conf("sweep/default"), re.M))}
        for name in names:
            assert reached(settings, name if group == "Dials" else f"{group}.{name}"), (group, name)


def _conf(name: str) -> str:
    return (Path(__file__).resolve().parents[2] / "conf" / f"{name}.yaml").read_text()


def test_exit_codes_are_those_of_the_errors() -> None:
    codes = {int(code) for row in table("code") for code in row[0].split(",")}
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    own = {kind.exit_code for kind in kinds if issubclass(kind, errors.TrainrunError)}
    assert own | set(errors.INTERRUPTED.values()) <= codes


def test_files_have_the_fields(cli: Callable[..., Any], folder: Path) -> None:
    words = ["model=linear", "data.limit=60", "budget=2step", "loop.log_every=1step", "logger=none"]
    words += ["regularization=[ema]", "regularization.ema.decay=0.5"]
    assert cli("-m", *words, "seed=0,1", "run_dir=two").code == 0
    assert cli(*words, "run_dir=run").code == 0
    listed = {file: re.findall(r"\w+", re.sub(r"; of .*", "", fields)) for file, fields in table("file")}
    (checkpoint,) = Path("run/checkpoints").iterdir()
    places = {"manifest.json": checkpoint, "sweep.json": Path("two")}
    for file in ("status.json", "result.json", "environment.json", "manifest.json", "sweep.json"):
        content = json.loads((places.get(file, Path("run")) / file).read_text())
        assert set(listed[file]) <= set(content), file
    for file in ("metrics.jsonl", "timing.jsonl", "lineage.jsonl"):
        lines = [json.loads(line) for line in Path("run", file).read_text().splitlines()]
        assert all(set(listed[file]) <= set(line) for line in lines), file
        (fields,) = (row[1] for row in table("file") if row[0] == file)
        for kinds, names in re.findall(r"of ([\w ]+): ([\w ]+)", fields):
            for kind in kinds.split(" and "):
                some = [line for line in lines if line["event"] == kind]
                assert some and all(set(names.split()) <= set(line) for line in some), (file, kind)
    parts = torch.load(checkpoint / "state.pt", weights_only=True)
    assert set(parts["model"]) == set(parts["averager"]["model"])
    assert Path("run/config.yaml").read_text().startswith("# trainrun config.yaml, format 1\n")


def test_formats_are_those_that_are_written() -> None:
    text = " ".join(block.text for block in BLOCKS)
    assert f"# trainrun config.yaml, format {stored.FORMAT} " in text
    whole, sharded = CHECKPOINT_FORMATS
    assert f"the field format, {whole}, or {sharded} with shards," in text


def test_python_names_are_the_public_ones() -> None:
    shown = {re.match(r"trainrun\.(\w+)", row[0])[1]: row for row in table("name")}  # type: ignore[index]
    assert set(shown) == set(trainrun.__all__) - {"__version__"}
    for name, row in shown.items():
        if match := re.search(r"\((.*)\)", row[0]):
            taken = list(inspect.signature(getattr(trainrun, name)).parameters)
            given = [part.strip().replace("words", "overrides") for part in match[1].split(",")]
            assert given == taken[: len(given)] or set(given) <= set(taken), name
    fields = {field.name for field in dataclasses.fields(Result)}
    assert set(re.findall(r"\w+", shown["train"][1].partition(":")[2].partition(";")[0])) <= fields
    for member in re.findall(r"\w+", shown["Run"][1]):
        assert member == "path" or hasattr(trainrun.Run, member)


def test_seams_have_what_is_said() -> None:
    for name, where, text in table("type"):
        kind = getattr(__import__(where, fromlist=["_"]), name.rstrip(" *"))
        names = re.findall(r"\w+", text.partition(":")[0]) if "called with" not in text else []
        has = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else None
        for member in names if name != "Task" else ["kinds", "metric_modes", "__call__"]:
            members = has if has is not None else {*dir(kind), *inspect.get_annotations(kind)}
            assert member in members, (name, member)
    assert protocols.Window


@pytest.mark.parametrize(("name", "fields"), [(row[0], row[1].split()) for row in table("event")])
def test_events_have_the_fields(name: str, fields: list[str]) -> None:
    assert set(fields) <= {field.name for field in dataclasses.fields(getattr(events, name))}
