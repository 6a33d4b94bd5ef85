"""What a run's folder keeps of its config: no secrets, nothing that evaluates, the same settings again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from trainrun.config.call import StoredOrigin
from trainrun.config.check import check
from trainrun.config.compose.composer import Composer, to_yaml
from trainrun.config.stored import load_stored, storable
from trainrun.vocabulary.errors import ConfigError, ResumeError


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "hunter2")
    monkeypatch.setenv("MY_RATE", "0.25")


KEPT = {
    "${oc.env:MY_SECRET}": "hunter2",
    "pre-${oc.env:MY_SECRET}-post": "pre-hunter2-post",
    "${oc.env:MY_ABSENT,fallback}": "fallback",
    "${oc.env:MY_ABSENT,'a, b'}": "a, b",
    "${oc.decode:${oc.env:MY_RATE}}": 0.25,
    "${other}": "hunter2",  # by way of another value
    "${oc.env:MY_SECRET} at ${number}": "hunter2 at 3",
    "${run_dir}/x": "/new/place/x",
    r"\${literal}": "${literal}",
    r"\${literal} and ${oc.env:MY_SECRET}": "${literal} and hunter2",
    r"\\\${literal}": r"\${literal}",
    "${number}": 3,
    "${list}": [1, 2],
    "${oc.decode:'[1,2]'}": [1, 2],
    "plain $ {x} text": "plain $ {x} text",
}


@pytest.mark.parametrize("written", KEPT)
def test_a_value_means_the_same_after_storing_and_no_secret_is_stored(written: str, tmp_path: Path) -> None:
    tree = {
        "run_dir": "/old/place",
        "other": "${oc.env:MY_SECRET}",
        "number": 3,
        "list": [1, 2],
        "x": written,
    }
    stored = storable(OmegaConf.create(tree))  # type: ignore[arg-type]
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(stored))
    assert "hunter2" not in file.read_text()
    assert "/old/place" not in file.read_text()
    again = OmegaConf.create(load_stored(file) | {"run_dir": "/new/place"})
    assert OmegaConf.to_container(again, resolve=True)["x"] == KEPT[written]  # type: ignore[index,call-overload]


def test_the_environment_is_read_again_afterwards() -> None:
    storable(OmegaConf.create({"run_dir": None, "x": "${oc.env:MY_SECRET}"}))
    assert OmegaConf.create({"x": "${oc.env:MY_SECRET}"}).x == "hunter2"
    assert OmegaConf.create({"x": "${oc.decode:${oc.env:MY_RATE}}"}).x == 0.25


REFUSED = [
    "x: ${other}\nother: 1\n",
    "x: ${oc.select:other}\n",
    "x: ${now:%Y}\n",
    "x: ${hydra:runtime.cwd}\n",
    "x: ${oc.decode:'${other}'}\n",
    "x: ${oc.env:A${other}}\n",
    "x: ${oc.env:A,${other}}\n",
    'x: "\\x24{other}"\n',  # a dollar sign in disguise
    "x: '\\\\${other}'\n",  # an escaped backslash before a reference that is read
    "x: [1, {y: ['${other}']}]\n",
    "x: &a 1\ny: *a\n",
    "x: !!python/object/apply:os.getpid []\n",
    "x: !!str 1\n",
    "x: [1\n",
    "x: 1\nx: 2\n",
    "- 1\n",
    "x: " + "[" * 2000 + "]" * 2000,
    "x: '" + "a" * (1 << 18) + "'\n",
]


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
def test_what_no_run_would_have_written_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ResumeError, match=r"config\.yaml"):
        load_stored(file)


def test_a_missing_config_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="cannot be read"):
        load_stored(tmp_path / "config.yaml")


def test_the_first_line_names_the_format_and_a_newer_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    text = to_yaml({"x": 1})
    head, rest = text.split("\n", 1)
    assert head == "# trainrun config.yaml, format 1"
    for written in (text, rest, f"# a comment of mine\n{rest}"):  # without one: as before there was one
        file.write_text(written)
        assert load_stored(file) == {"x": 1}
    file.write_text(text.replace("format 1", "format 2"))
    with pytest.raises(ResumeError, match=r"format 2, this version reads up to 1; install a newer trainrun"):
        load_stored(file)


def stored_again(words: list[str], folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(settings as composed, the tree that a run would keep of them)."""
    composed = Composer().compose(words)
    file = folder / "config.yaml"
    file.write_text(to_yaml(composed.storable))
    return composed.settings, load_stored(file)


def test_stored_settings_are_those_that_were_composed(folder: Path) -> None:
    words = ["data=wine", "scheduler=multistep", "regularization=[ema]", "parameters.rules={head*:{lr:0.1}}"]
    settings, tree = stored_again(words, folder)
    again = Composer().compose_stored(tree, [], folder / "run")
    of_the_sweep = {"sweep": settings["sweep"]}  # which no run stores
    assert again.settings | {"run_dir": None} | of_the_sweep == settings


@pytest.mark.parametrize(("delimiter", "separator"), [(None, "auto"), (";", ";")])
def test_a_run_from_before_a_setting_existed_goes_on_as_it_began(
    folder: Path, delimiter: str | None, separator: str
) -> None:
    (folder / "t.csv").write_text("\n".join(["x;y", *(f"{n}%;{n / 2}" for n in range(40))]))
    words = ["data=csv", f"data.path={folder / 't.csv'}", "data.target=y"]
    settings, tree = stored_again(words, folder)
    added = ("separator", "encoding", "header", "decimal", "thousands", "missing_target")
    older = {key: value for key, value in tree["data"].items() if key not in added}
    file = folder / "older.yaml"
    file.write_text(to_yaml(tree | {"data": older | {"delimiter": delimiter}}))
    data = load_stored(file)["data"]
    assert data.keys() == settings["data"].keys()
    assert {key: data[key] for key in added} == {
        "separator": separator,
        "encoding": "utf-8",
        "header": True,
        "decimal": "plain",  # 5% was a text
        "thousands": "auto",
        "missing_target": "refuse",
    }
    assert check(load_stored(file) | {"run_dir": None}, trust=(), stored=StoredOrigin(folder)) == []


def test_overrides_go_on_stored_settings(folder: Path) -> None:
    settings, tree = stored_again([], folder)
    words = ["optimizer.lr=0.5", "+model.depth=3", "runtime.trust=[x]"]
    again = Composer().compose_stored(tree, words, folder / "run")
    assert again.settings["optimizer"] == settings["optimizer"] | {"lr": 0.5}
    assert again.settings["model"]["depth"] == 3
    assert again.settings["runtime"]["trust"] == ["x"]


def test_changed_defaults_do_not_leak_into_stored_settings(folder: Path) -> None:
    settings, tree = stored_again([], folder)
    (folder / "conf/optimizer").mkdir(parents=True)
    (folder / "conf/optimizer/adamw.yaml").write_text("_target_: torch.optim.AdamW\nlr: 9.0\nfoo: 1\n")
    assert Composer().compose([]).settings["optimizer"]["lr"] == 9.0  # a new run sees them
    again = Composer().compose_stored(tree, ["seed=4"], folder / "run")
    assert again.settings["optimizer"] == settings["optimizer"]


def test_an_option_of_a_stored_run_cannot_change(folder: Path) -> None:
    _, tree = stored_again([], folder)
    with pytest.raises(ConfigError, match=r"optimizer: .* new run"):
        Composer().compose_stored(tree, ["optimizer=sgd"], folder / "run")


@pytest.mark.parametrize(
    ("word", "text"),
    [("hydra.job.chdir=true", "cannot be set here"), ("seed=1,2", "-m"), ("seed=[1", "cannot be read")],
)
def test_a_word_that_cannot_be_read_of_a_stored_run_is_refused(word: str, text: str, folder: Path) -> None:
    _, tree = stored_again([], folder)
    with pytest.raises(ConfigError, match=re.escape(text)):
        Composer().compose_stored(tree, [word], folder / "run")


def test_the_scheduler_and_the_loggers_of_a_stored_run_are_replaced_whole(folder: Path) -> None:
    settings, tree = stored_again(["scheduler=one_cycle", "scheduler.warmup=3ep"], folder)
    words = ["scheduler=step", "scheduler.every=2ep", "logger=[csv]"]
    again = Composer().compose_stored(tree, words, folder / "run").settings
    fresh = Composer().compose(words).settings
    assert again["scheduler"] == fresh["scheduler"]
    assert again["logger"] == fresh["logger"]
    assert list(again["logger"]) == ["csv"]
    rest = settings.keys() - {"scheduler", "logger", "run_dir", "sweep"}
    assert {key: again[key] for key in rest} == {key: settings[key] for key in rest}
    for word in ("scheduler=stepp", "scheduler=[step,cosine]", "scheduler=null", "logger=nope"):
        with pytest.raises(ConfigError, match=word.partition("=")[0]):
            Composer().compose_stored(tree, [word], folder / "run")


def test_a_secret_is_in_nothing_that_a_run_writes(folder: Path) -> None:
    words = ["name=${oc.env:MY_SECRET}", "optimizer.lr='${oc.decode:${oc.env:MY_RATE}}'"]
    composed = Composer().compose(words)
    assert composed.settings["name"] == "hunter2"
    assert composed.settings["optimizer"]["lr"] == 0.25
    written = [to_yaml(composed.storable), *composed.record.values(), *composed.overrides]
    assert all("hunter2" not in text and "lr: 0.25" not in text for text in written)
