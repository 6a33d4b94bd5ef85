"""Settings as other tools take them are read as what they mean; what is an override already stays."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from trainrun.config.arguments import as_overrides
from trainrun.config.compose.composer import flags

# as it was typed -> as it is written here
FORMS = {
    "--lr 0.1": "lr=0.1",
    "--lr=0.1": "lr=0.1",
    "-lr 0.1": "lr=0.1",
    "--max-epochs 3 --lr 1e-3": "max_epochs=3 lr=1e-3",
    "--optimizer.lr -1": "optimizer.lr=-1",
    "--amp --seed 3": "amp=true seed=3",
    "--amp": "amp=true",
    "--name 'my run'": "'name=my run'",
    "--name=a=b": "name=a=b",
    "--config exp.yaml": "exp.yaml",
    "--config=sub/exp.yml seed=1": "sub/exp.yml seed=1",
    "optimizer.lr = 0.1": "optimizer.lr=0.1",
    "optimizer.lr =0.1": "optimizer.lr=0.1",
    "optimizer.lr= 0.1": "optimizer.lr=0.1",
    "loop.stop_at= -0.5": "loop.stop_at=-0.5",
    "optimizer adam lr 0.1": "optimizer=adam lr=0.1",
    "train optimizer=sgd": "optimizer=sgd",
    "fit --lr 0.1": "lr=0.1",
    "-m --lr 0.1,0.2": "-m lr=0.1,0.2",
}


@pytest.mark.parametrize("typed", FORMS)
def test_another_form_is_read_as_an_override(typed: str) -> None:
    assert as_overrides(shlex.split(typed), flags()) == shlex.split(FORMS[typed])


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "optimizer=adam optimizer.lr=0.1",
        "-m optimizer=sgd,adam -q",
        "--multirun seed=1,2",
        "--multi seed=1,2",  # argparse takes the beginning of a flag
        "--cfg job optimizer=sgd",
        "--cfg job --resolve -p optimizer",
        "--config-dir conf model=mine",
        "-cd conf --info defaults",
        "name= model=mlp",  # an empty value, and another setting
        "name=",
        "exp.yaml optimizer.lr=0.1",
        "optimizer.lr=${seed} +x=1 ~optimizer.eps",
        "parameters.rules={a=b:1}",
        "trian",
        "nonsense words",
        "=",
        "''",
    ],
)
def test_what_is_written_as_it_should_be_stays(typed: str) -> None:
    assert as_overrides(shlex.split(typed), flags()) == shlex.split(typed)


def test_every_other_mistake_is_told_with_the_form(cli: Any) -> None:
    answer = cli("--optimzer", "adam", "--model.dropout", "2", "seed", "=", "x")
    assert answer.code == 2
    keys = [line.split(":")[0] for line in answer.err.splitlines() if ":" in line]
    assert keys == ["command line", "optimzer", "seed", "model.dropout"]
    assert answer.line is None


def test_resume_answers_other_forms_too(cli: Any) -> None:
    for words in (["--budget", "40ep"], ["--epochs=40"], ["epochs", "40"]):
        answer = cli("resume", "last", *words)
        assert (answer.code, answer.line) == (2, "trainrun resume last budget=40ep")


def test_a_file_named_without_its_ending_is_found(cli: Any, files: Any) -> None:
    files({"my_exp.yaml": "seed: 1\n"})
    for words in (["my_exp"], ["experiment=my_exp"], ["experiment=my_exp.yaml"], ["my_epx.yaml"]):
        answer = cli(*words)
        assert (answer.code, answer.line) == (2, "trainrun my_exp.yaml"), words
