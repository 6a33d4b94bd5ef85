"""What people type reaches the settings as they typed it, and every word that is offered can be pasted."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.types import QuotedString

from trainrun.config.check import problems_of
from trainrun.config.compose.composer import Composer
from trainrun.config.compose.grammar import parse, parse_override, value_of
from trainrun.config.suggest import hydra_value, override, shell_line, shell_word
from trainrun.vocabulary.errors import ConfigError

TEXTS = [
    *("été", "价格", "Größe", "ελ_2", "🚀", "👨‍👩‍👧", "1é", "é-1"),
    *("a[1].csv", "a(1).csv", "x (copy 2).csv", "price#", "#1", "a=b", "a{0}.csv", "R&D", "50%", "a;b"),
    *("it's", 'say "hi"', 'it\'s "both"', "C:\\data\\x (1).csv", "\\\\server\\share (1)", "a b", "<x>"),
    *("a~b", "a^b", "a]", "a)b(", "${oc.env:HOME}(1)", "!x", "`x`", "a\\"),
]


def plain(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_read_as_it_is_typed(text: str) -> None:
    assert plain(value_of(f"name={text}")) == text


@pytest.mark.parametrize("text", [*TEXTS, "null", "1e3", "", "a,b", " a ", "True", "line\nbreak", "[", "{a"])
def test_a_text_that_is_written_for_the_grammar_is_read_back(text: str) -> None:
    assert plain(value_of(f"name={hydra_value(text)}")) == text


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("x=[é,a=b,1,(c)]", ["é", "a=b", 1, "(c)"]),
        ("x=[[a=b,2],[é]]", [["a=b", 2], ["é"]]),
        ("x={é:1,'a b':0.5,\"c:d\":[x=1,true]}", {"é": 1, "a b": 0.5, "c:d": ["x=1", True]}),
        ("x={tête.*:{lr:0.1},head(1):{freeze:true}}", {"tête.*": {"lr": 0.1}, "head(1)": {"freeze": True}}),
        ("x=a\\,b (c)", "a,b (c)"),
        ("x=123", 123),
        ("x='a=b'", "a=b"),
    ],
)
def test_lists_and_mappings_keep_their_kinds(word: str, value: object) -> None:
    assert plain(value_of(word)) == value


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("name=a,é", ["a", "é"]),
        ("x=a=b,c (1),3", ["a=b", "c (1)", "3"]),
        ("x=choice(é,a=b,c d)", ["é", "a=b", "c d"]),
        ("x=[é],[a=b]", ["é", "a=b"]),
        ("x=f(1,2),b", ["f(1,2)", "b"]),
        ("x=range(3)", ["0", "1", "2"]),
    ],
)
def test_the_values_of_a_sweep(word: str, values: list[str]) -> None:
    assert parse_override(word).values == values and parse_override(word).is_sweep


@pytest.mark.parametrize("word", ["größe=1", "model.größe=8", "data.été.é=[1]", "+é=1"])
def test_a_key_in_any_language(word: str) -> None:
    assert parse(word).key_or_group == word.partition("=")[0].lstrip("+")


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("optimizer.lr=[1", r"cannot be read; as a text it is written 'optimizer\.lr=\"\[1\"'"),
        ("x=,", "cannot be read"),
        ("x=range(a)", "mismatch type argument start"),
        ("x=" + "9" * 5000, "holds a number of 5,000 digits"),
        ("x=[" * 3000, "nests too deep|cannot be read"),
        ("name=\udcff", "is not UTF-8 text"),
    ],
)
def test_what_cannot_be_read_is_answered_once(word: str, text: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        Composer().compose(["data=csv", "data.target=y", "data.path=x.csv", word])
    assert len(caught.value.problems) == 1 and len(str(caught.value)) < 300


def test_no_second_line_about_the_key_that_could_not_be_read(cli: Callable[..., Any]) -> None:
    answer = cli("data=csv", "data.path=[a", "data.target=y")
    assert answer.code == 2 and len(answer.err.splitlines()) == 1
    assert "needs a value" not in answer.err


def test_a_file_with_a_comma_in_its_name(folder: Path) -> None:
    (folder / "a,b.csv").write_text("x,y\n1,2\n")
    words = ["data=csv", "data.path=a,b.csv", "data.target=y"]
    assert Composer().compose(words).settings["data"]["path"] == "a,b.csv"
    with pytest.raises(ConfigError, match=r"one text as 'data\.path=\"b,c\.csv\"'"):
        Composer().compose([*words[::2], "data.path=b,c.csv"])


@pytest.mark.parametrize("typed", ["123", "1e3", "true", "0x1p", "007", "1_000"])
def test_a_number_for_a_name_is_offered_as_it_was_typed(typed: str, cli: Callable[..., Any]) -> None:
    answer = cli(f"name={typed}", "budget=0ep")
    fixed = [line for line in answer.err.splitlines() if line.startswith("name:")]
    if typed in ("0x1p", "007"):
        assert not fixed
        return
    (word,) = shlex.split(cli(f"name={typed}").line or "")[1:]
    assert plain(value_of(word)) == typed


@pytest.mark.parametrize("name", ["été", "价格_1", "🚀", "v1.0-β", "on", "e3"])
def test_a_name_in_any_language(name: str, folder: Path) -> None:
    job = Composer().compose([f"name={name}"])
    assert job.settings["name"] == name and problems_of(job) == []


@pytest.mark.parametrize("name", ["a b", "a/b", "-a", ".a", "é\u202eb", "a\nb", "é" * 101, "a\u3000b", ""])
def test_what_no_run_can_be_called(name: str, folder: Path) -> None:
    job = Composer().compose([f"name={hydra_value(name)}"])
    assert [problem.key for problem in problems_of(job)] == ["name"]


@pytest.mark.parametrize("stem", ["été", "a b", "a,b", "x(1)", "it's", "v1.2", "#1"])
def test_an_experiment_file_of_any_name(stem: str, folder: Path) -> None:
    (folder / f"{stem}.yaml").write_text("seed: 7\n")
    assert Composer().checked([f"{stem}.yaml"]).settings["seed"] == 7


def test_a_folder_of_options_of_any_name(folder: Path, files: Callable[[Mapping[str, str]], None]) -> None:
    files({"été #1/model/réseau.yaml": "_target_: trainrun.model.linear.Linear\n"})
    composer = Composer("été #1")
    assert composer.compose(["model=réseau"]).settings["model"]["_target_"].endswith("Linear")


def test_every_job_of_a_sweep_has_its_text(folder: Path) -> None:
    jobs = Composer().compose_sweep(["data=csv", "data.path=x (1).csv", "data.target=é,a=b,价格"])
    assert [job.settings["data"]["target"] for job in jobs] == ["é", "a=b", "价格"]
    again = [Composer().compose(list(job.overrides)).settings for job in jobs]
    assert again == [job.settings for job in jobs]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_every_word_that_is_printed_can_be_pasted(shell: str) -> None:
    words = [override("data.path", text) for text in [*TEXTS, "a\nb", "x\x1b[2J", "a\u202eb", "\x07'\\"]]
    words += [shell_word(text) for text in [*TEXTS, "a\nb'", "x\x1b[2J\\", "=a", "~a", "*", "a\tb"]]
    code = "import sys, json; print(json.dumps(sys.argv[1:]))"
    line = f"python3 -c {shlex.quote(code)} {' '.join(words)}"
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    flags = ["-f"] if shell == "zsh" else ["--norc"]
    done = subprocess.run([shell, *flags, "-c", line], capture_output=True, text=True, env=environment)
    read = json.loads(done.stdout)
    assert all(word.isprintable() or "\u200d" in word for word in words)
    assert [plain(value_of(word)) for word in read[: len(TEXTS) + 4]] == [
        *TEXTS,
        *("a\nb", "x\x1b[2J", "a\u202eb", "\x07'\\"),
    ]
    assert read[len(TEXTS) + 4 :] == [*TEXTS, "a\nb'", "x\x1b[2J\\", "=a", "~a", "*", "a\tb"]


def test_a_line_is_its_words() -> None:
    assert shell_line(["trainrun", "a b", "x=1"]) == "trainrun 'a b' x=1"
