"""Every mistake in a YAML file is told with the file and its line, wherever the file lies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainrun.config.check import problems_of
from trainrun.config.compose.composer import Composer
from trainrun.config.yaml_file import settings_of
from trainrun.vocabulary.errors import ConfigError

# what is in the file -> the line, and what is said of it
BROKEN: dict[str, tuple[bytes, int, str]] = {
    "latin-1": ("seed: 1\nname: \xe9t\xe9\n".encode("latin-1"), 2, "not UTF-8 text, it has the byte 0xe9"),
    "a tab": (b"loop:\n\taccumulate: 2\n", 2, "not valid YAML.*t.*cannot start"),
    "a key twice": (b"seed: 1\nbatch_size: 2\nseed: 3\n", 3, "duplicate key seed"),
    "indentation": (b"seed: 1\n  batch_size: 2\n", 2, "mapping values are not allowed"),
    "a tag": (b"seed: 1\nname: !foo bar\n", 2, "!foo"),
    "a tag of Python": (b"name: !!python/object/apply:os.system [ls]\n", 1, "python/object"),
    "an alias of nothing": (b"seed: 1\nname: *nope\n", 2, "undefined alias 'nope'"),
    "aliases without end": (b"seed: 1\na: &a [*a]\n", 2, "aliases that grow"),
    "a NUL": (b"seed: 1\nname: a\0b\n", 2, r"control character, '\\x00'"),
    "an escape": (b"seed: 1\nname: \x1b[2J\n", 2, r"control character, '\\x1b'"),
    "UTF-16": ("seed: 1\n".encode("utf-16"), 1, "UTF-16.*save it as UTF-8"),
    "UTF-16 without a mark": ("seed: 1\n".encode("utf-16-le"), 1, "UTF-16"),
    "UTF-32": ("seed: 1\n".encode("utf-32"), 1, "UTF-32"),
    "one text": (b"\njust text\n", 2, "not a mapping of settings, KEY: VALUE, but a text"),
    "a number": (b"5\n", 1, "but a number"),
    "a list": (b"- 1\n", 1, "but a list"),
    "too many digits": (b"seed: 1\nbatch_size: " + b"9" * 5000, 2, "a number of 5,000 digits"),
    "too many hexadecimal digits": (b"batch_size: 0x1" + b"0" * 5000, 1, "a number of 5,003 digits"),
    "a set": (b"seed: 1\nname: !!set {a, b}\n", 2, "'set' is not a supported"),
    "a merge of nothing": (b"seed: 1\n<<: 5\n", 2, "not valid YAML"),
    "two documents": (b"seed: 1\n---\nseed: 2\n", 2, "another document"),
    "a key that is true": (b"seed: 1\non: 5\n", 2, "name must be a text, got on"),
    "a key that is null": (b"seed: 1\n~: 5\n", 2, "name must be a text, got ~"),
    "a key that is a number": (b"seed: 1\n5: 5\n", 2, "name must be a text, got 5"),
    "a key that is a list": (b"seed: 1\n? [a]\n: 5\n", 2, "name must be a text, got a list"),
    "a quote that does not close": (b'seed: 1\nname: "abc\n\n\n', 2, "end of stream"),
    "depth": (b"name: " + b"[" * 200 + b"]" * 200, 1, "nests too deep"),
    "a reference that does not close": (b"seed: 1\nname: ${nope\n", 2, "cannot be read"),
    "a header": (b"seed: 1\n# @package a b\n", 2, "# @package _global_"),
    "defaults that are none": (b"seed: 1\ndefaults: 5\n", 2, "defaults must be a list"),
    "a default that is a number": (b"defaults:\n  - 5\n", 2, "defaults must be a list"),
    "a default of two": (b"defaults:\n  - {a: b, c: d}\n", 2, "defaults must be a list"),
}
PLACES = (
    "exp.yaml",
    "conf/model/mine.yaml",
    "conf/experiment/mine.yaml",
    "conf/trainrun.yaml",
    "more/x/o.yaml",
)
WORDS = {
    "exp.yaml": ["exp.yaml"],
    "conf/model/mine.yaml": ["model=mine"],
    "conf/experiment/mine.yaml": ["experiment=mine"],
    "conf/trainrun.yaml": [],
    "more/x/o.yaml": ["-m", "--config-dir", "more", "+x=o"],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_mistake_names_the_file_and_the_line(name: str, folder: Path) -> None:
    content, line, text = BROKEN[name]
    Path("exp.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^exp\.yaml:{line}: .*{text}"):
        settings_of(Path("exp.yaml"))


@pytest.mark.parametrize("place", PLACES[:4])
@pytest.mark.parametrize("name", ["latin-1", "a key twice", "UTF-16", "one text", "a NUL", "too many digits"])
def test_wherever_it_lies(name: str, place: str, folder: Path, cli: Callable[..., Any]) -> None:
    content, line, _ = BROKEN[name]
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).write_bytes(content)
    answer = cli(*WORDS[place])
    assert answer.code == 2 and answer.err.startswith(f"{place}:{line}: "), answer.err
    assert len(answer.err.splitlines()) == 1 and len(answer.err) < 300


@pytest.mark.parametrize("kind", ["a folder", "a pipe"])
@pytest.mark.parametrize("place", PLACES[:4])
def test_what_is_no_file(kind: str, place: str, folder: Path, cli: Callable[..., Any]) -> None:
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).mkdir() if kind == "a folder" else os.mkfifo(place)
    answer = cli(*WORDS[place])
    assert answer.code == 2 and answer.err.startswith(f"{place}: is {kind}, not a file"), answer.err


def test_a_device_is_no_file() -> None:
    with pytest.raises(ConfigError, match="a device or socket"):
        settings_of(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("batch_size: ???\n", "batch_size", 1),
        ("seed: 1\noptimizer:\n  lr: ???\n", "optimizer.lr", 3),
        ("loop:\n  clip:\n    norm: ???\n", "loop.clip.norm", 3),
    ],
)
def test_three_question_marks_need_a_value(text: str, key: str, line: int, folder: Path) -> None:
    Path("exp.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        Composer().checked(["exp.yaml"])
    assert str(caught.value) == f"{key}: needs a value: {key}=... (exp.yaml:{line})"
    assert Composer().checked(["exp.yaml", f"{key}=1"])


def test_an_option_on_another_needs_its_value_too(folder: Path) -> None:
    Path("conf/optimizer").mkdir(parents=True)
    Path("conf/optimizer/mine.yaml").write_text("defaults: [adamw, _self_]\nlr: ???\n")
    with pytest.raises(ConfigError, match=r"optimizer\.lr: needs a value"):
        Composer().checked(["optimizer=mine"])
    assert Composer().checked(["optimizer=mine", "optimizer.lr=0.5"]).settings["optimizer"]["lr"] == 0.5


def test_an_empty_file_and_a_mark_of_the_order_of_bytes_are_no_mistakes(folder: Path) -> None:
    Path("exp.yaml").write_bytes(b"")
    assert settings_of(Path("exp.yaml")) == {}
    Path("exp.yaml").write_bytes(b"\xef\xbb\xbfseed: 7\r\nname: \xc3\xa9\r\n")
    job = Composer().checked(["exp.yaml"])
    assert (job.settings["seed"], job.settings["name"]) == (7, "é")


def test_a_name_that_ends_in_yml_is_told(folder: Path) -> None:
    Path("conf/model").mkdir(parents=True)
    Path("conf/model/mine.yml").write_text("_target_: trainrun.model.linear.Linear\n")
    with pytest.raises(
        ConfigError, match=r"conf/model/mine\.yml is not read, an option's file ends in \.yaml"
    ):
        Composer().compose(["model=mine"])
    job = Composer().compose([])
    assert job.notes == ("conf/model/mine.yml is not read; an option's file ends in .yaml",)
    assert problems_of(job) == []


def test_an_own_first_file_that_chooses_nothing(folder: Path) -> None:
    Path("conf").mkdir()
    Path("conf/trainrun.yaml").write_text("seed: 1\n")
    with pytest.raises(ConfigError, match=r"^conf/trainrun\.yaml: replaces the built-in file"):
        Composer().compose([])


def test_a_reference_to_nothing_names_its_line(folder: Path) -> None:
    Path("exp.yaml").write_text("seed: 1\nname: ${nope}\n")
    with pytest.raises(ConfigError, match=r"^name: .*'nope' not found \(exp\.yaml:2\)"):
        Composer().checked(["exp.yaml"])


@pytest.mark.parametrize("group", ["optimizer", "data", "model", "loss"])
def test_a_group_that_is_null(group: str, folder: Path) -> None:
    Path("exp.yaml").write_text(f"seed: 1\n{group}:\n")
    with pytest.raises(ConfigError, match=rf"{group}: is missing.*\(exp\.yaml:2\)"):
        Composer().checked(["exp.yaml"])
