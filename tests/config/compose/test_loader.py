"""Hydra's loader as we use it: any key may be set, the user's files are checked, Hydra is guarded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from trainrun.config.compose.composer import Composer
from trainrun.config.paths import CONF
from trainrun.vocabulary.errors import ConfigError

REFERENCES = [f"${{a{n}}}" for n in range(8)]
Files = Callable[[Mapping[str, str]], None]


def composed(*words: str) -> dict[str, Any]:
    return Composer().compose(list(words)).settings


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_a_key_that_no_file_has_is_composed_and_left_to_the_check(prefix: str) -> None:
    assert composed(f"{prefix}optimizer.nothing=1")["optimizer"]["nothing"] == 1
    assert composed(f"{prefix}optimizer.lr=0.5")["optimizer"]["lr"] == 0.5


def test_the_groups_are_the_folders_of_conf() -> None:
    folders = {folder.name for folder in CONF.iterdir() if folder.is_dir()} - {"hydra"}
    assert set(Composer().loader.groups) == folders


def test_what_is_left_to_the_data_is_chosen_and_not_recorded_as_typed() -> None:
    job = Composer().compose(["data=diabetes", "task=auto", "loss=auto"])
    assert job.settings["task"]["_target_"].endswith(".Regression")
    assert job.choices["loss"] == "mse"
    assert job.overrides == ("data=diabetes",) or "loss=mse" not in job.overrides


def test_the_users_files_are_read_and_their_mistakes_named(folder: Path, files: Files) -> None:
    files({"conf/model/mine.yaml": "_target_: my.Net\n", "conf/model/bad.yaml": "- a\n"})
    composer = Composer()
    assert composer.compose(["model=mine"]).settings["model"] == {"_target_": "my.Net"}
    assert composer.loader.files == [Path.cwd() / "conf" / "model" / "mine.yaml"]
    with pytest.raises(ConfigError, match=r"conf/model/bad\.yaml:1: is not a mapping of settings"):
        composer.compose(["model=bad"])


def test_a_file_in_place_of_the_whole_config_must_choose_options(folder: Path, files: Files) -> None:
    files({"conf/trainrun.yaml": "seed: 3\n"})
    with pytest.raises(ConfigError, match=r"conf/trainrun\.yaml: replaces the built-in file"):
        composed()


def test_a_call_in_a_group_that_combines_needs_no_header(folder: Path, files: Files) -> None:
    files({"conf/logger/mine.yaml": "_target_: my.Logger\n"})
    assert composed("logger=[mine]")["logger"]["mine"] == {"_target_": "my.Logger"}


def test_a_file_may_say_nothing_of_hydra_itself(folder: Path, files: Files) -> None:
    files({"conf/experiment/evil.yaml": "# @package _global_\nhydra: {job: {chdir: true}}\n"})
    with pytest.raises(ConfigError, match=r"hydra\.job\.chdir: is set in a file"):
        composed("experiment=evil")
    files({"conf/experiment/worse.yaml": "# @package _global_\nhydra: {launcher: {_target_: os.system}}\n"})
    with pytest.raises(ConfigError, match=r"hydra\.launcher\._target_: os\.system is not part of Hydra"):
        composed("experiment=worse")


def test_references_that_multiply_are_refused_before_they_are_resolved(folder: Path, files: Files) -> None:
    lines = ["# @package _global_", "a0: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: {[reference] * 10}" for n, reference in enumerate(REFERENCES, 1)]
    files({"conf/experiment/bomb.yaml": "\n".join(lines) + "\n"})
    with pytest.raises(ConfigError, match="references that grow to more than 10,000 values"):
        composed("experiment=bomb")
