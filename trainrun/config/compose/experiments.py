"""Single YAML files that are named in the shell, as options of the group `experiment`."""

from __future__ import annotations

from pathlib import Path

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from trainrun.config.diagnose import no_such_file, yaml_problem
from trainrun.config.limits import TooLarge, check_text, read_text
from trainrun.config.suggest import hydra_value
from trainrun.errors import ConfigError

EXPERIMENTS: dict[str, Path] = {}  # name -> the file


def experiment_files(words: list[str]) -> list[str]:
    """The words, those that are YAML files as experiments."""
    return [store_experiment(Path(w)) if w.endswith((".yaml", ".yml")) and "=" not in w else w for w in words]


def forget_experiments() -> None:
    """Leave no file behind as an option: in a notebook the next line may mean another of that name."""
    for name in EXPERIMENTS:
        ConfigStore.instance().repo.get("experiment", {}).pop(f"{name}.yaml", None)
    EXPERIMENTS.clear()


def store_experiment(file: Path) -> str:
    """Make an experiment of one YAML file; returns the override that selects it."""
    try:
        text = read_text(file)
        check_text(text, with_aliases=True)
        node = OmegaConf.create(text)
    except FileNotFoundError:
        raise ConfigError([no_such_file(file)]) from None
    except TooLarge as error:
        raise ConfigError.one(f"{file}{error.place}", str(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError.one(str(file), f"cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError([yaml_problem(error, file)]) from None
    if not OmegaConf.is_dict(node):
        raise ConfigError.one(str(file), "is not a mapping of settings")
    ConfigStore.instance().store(
        group="experiment", name=file.stem, node=node, package="_global_", provider=str(file)
    )
    EXPERIMENTS[file.stem] = file
    return f"experiment={hydra_value(file.stem)}"
