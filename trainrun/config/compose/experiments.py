"""Experiment files: a single YAML file named in the shell is an option of the group `experiment`."""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_store import ConfigStore

from trainrun.config.diagnose import no_such_file
from trainrun.config.suggest import hydra_value
from trainrun.config.yaml_file import mark_missing, settings_of
from trainrun.vocabulary.errors import ConfigError

EXPERIMENTS: dict[str, Path] = {}  # name -> the file


def experiment_files(words: list[str]) -> list[str]:
    """The words, with YAML files as `experiment=NAME`."""
    return [store_experiment(Path(w)) if w.endswith((".yaml", ".yml")) and "=" not in w else w for w in words]


def forget_experiments() -> None:
    """Leave no file behind as an option: in a notebook the next line may mean another of that name."""
    for name in EXPERIMENTS:
        ConfigStore.instance().repo.get("experiment", {}).pop(f"{name}.yaml", None)
    EXPERIMENTS.clear()


def store_experiment(file: Path) -> str:
    """Make an experiment of one YAML file; returns the override that selects it."""
    try:
        node = settings_of(file)
    except FileNotFoundError:
        raise ConfigError([no_such_file(file)]) from None
    mark_missing(node)
    ConfigStore.instance().store(file.stem, node, "experiment", "_global_", provider=str(file))
    EXPERIMENTS[file.stem] = file
    return f"experiment={hydra_value(file.stem)}"
