"""What is shown of an option is what its file, read by YAML itself, and its callable say."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from trainrun.config.paths import CONF
from trainrun.config.show import about, defaults, dials, header, is_yours, option
from trainrun.vocabulary.errors import ConfigError

HEAD = "# My net,\n# in two lines.\n#\n# More.\n"
NET = '''
class Net:
    """The first line."""
    def __init__(self, width: int, deep: bool = True): ...
'''
Files = Callable[[Mapping[str, str]], None]
PLAIN = sorted(
    (file.parent.name, file.stem)
    for file in CONF.glob("*/*.yaml")
    if file.parent.name not in ("hydra", "experiment") and "# @package" not in file.read_text()
)


@pytest.mark.parametrize(("group", "name"), PLAIN)
def test_every_setting_of_a_file_is_shown_with_its_value(group: str, name: str) -> None:
    settings = yaml.safe_load((CONF / group / f"{name}.yaml").read_text()) or {}
    flat = {key: value for key, value in settings.items() if not isinstance(value, dict)}
    shown = {argument.name: argument for argument in option(group, name).arguments}
    for key in flat.keys() - {"_target_", "defaults"}:
        assert yaml.safe_load(shown[key].default) == flat[key], key
        assert shown[key].key.endswith(key)
        assert shown[key].meaning, f"{group}/{name}.yaml does not say what {key} means"


def test_arguments_are_split_into_written_given_and_more() -> None:
    adamw = option("optimizer", "adamw")
    assert adamw.target is not None
    module, _, name = adamw.target.rpartition(".")
    names = set(inspect.signature(getattr(import_module(module), name)).parameters)
    written = {argument.name for argument in adamw.arguments}
    assert names <= written | set(adamw.given) | set(adamw.more)
    assert "params" in adamw.given and "lr" in written
    assert next(a for a in adamw.arguments if a.name == "lr").takes == "a number greater than 0"


def test_an_option_selects_what_its_defaults_and_its_global_values_say() -> None:
    selects = option("data", "diabetes").selects
    assert {"task=regression", "loss=mse"} <= set(selects)
    assert "monitor=val/rmse" in option("task", "regression").selects


def test_the_dials_have_the_values_of_a_plain_run() -> None:
    rows = {row.name: row for row in dials()}
    assert rows["seed"].default == str(yaml.safe_load((CONF / "trainrun.yaml").read_text())["seed"])
    assert rows["batch_size"].takes == "a whole number of at least 1 or full"
    assert all(row.meaning for row in rows.values())


def test_the_defaults_are_those_of_the_file() -> None:
    entries = yaml.safe_load((CONF / "trainrun.yaml").read_text())["defaults"]
    listed = {key: value for entry in entries if isinstance(entry, dict) for key, value in entry.items()}
    expected = {key: value for key, value in listed.items() if "/" not in key}
    assert {key: yaml.safe_load(value) for key, value in defaults().items()} == expected


def test_a_file_of_the_users_own_is_described_by_its_head_or_its_callable(folder: Path, files: Files) -> None:
    files(
        {
            "conf/model/mine.yaml": f"{HEAD}_target_: my_net.Net\nwidth: 8  # how wide\n",
            "conf/model/bare.yaml": "_target_: my_net.Net\n",
            "my_net.py": NET,
        }
    )
    mine, bare = Path("conf/model/mine.yaml"), Path("conf/model/bare.yaml")
    assert header(mine) == [["My net,", "in two lines."], ["More."]]
    assert about(mine) == "My net, in two lines."
    assert about(bare) == "The first line."
    assert is_yours(mine) and not is_yours(CONF / "model" / "mlp.yaml")
    (width,) = option("model", "mine").arguments
    assert (width.key, width.default, width.takes, width.meaning) == (
        "model.width",
        "8",
        "a whole number",
        "how wide",
    )
    assert option("model", "mine").more == ("deep",)


def test_a_broken_file_is_named_with_its_line(folder: Path, files: Files) -> None:
    files({"conf/model/mine.yaml": "_target_: a.B\nwidth: [1\n"})
    with pytest.raises(ConfigError, match=r"conf/model/mine\.yaml:2: is not valid YAML"):
        option("model", "mine")
