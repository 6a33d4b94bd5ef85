"""The shell's choice wins whole: values that were given to something else do not follow.

`experiment=E optimizer=adamw`, where E chose sgd with lr 0.5, is AdamW with its own lr, not 0.5.
`model._target_=my_model.Net` keeps nothing that model=cnn gave to its CNN.
`'scheduler.arguments={T_max:100}'` is that mapping, not one merged into the option's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from trainrun.config.injection import slot_of
from trainrun.config.paths import COMBINES

Load = Callable[[list[str]], DictConfig]  # composes other overrides


def resolve_overrides(cfg: DictConfig, load: Load, experiment: Mapping[str, Any]) -> list[str]:
    """Leave out what belongs to an option or a target that was replaced; returns what to say of it.

    `experiment` is what the experiment's own file holds. Further composes are made only where an
    experiment meets a group of the shell, or a `_target_` was written.
    """
    return _options(cfg, load) + _members(cfg) + _targets(cfg, load, experiment)


def mappings(cfg: DictConfig, words: Sequence[str], value_of: Callable[[str], Any]) -> None:
    """Put mappings from the shell in place of what was there; only a call's arguments are merged."""
    replaced: list[str] = []
    for word in words:
        key = key_of(word)
        inside = any(key.startswith(f"{outer}.") for outer in replaced)
        if word.startswith("~") or not (inside or "={" in word):
            continue
        value, node = value_of(word), OmegaConf.select(cfg, key, throw_on_missing=False)
        whole = isinstance(value, dict) and OmegaConf.is_dict(node) and "_target_" not in node
        if inside or whole:
            OmegaConf.update(cfg, key, value, merge=False, force_add=True)
            replaced.append(key)


def _options(cfg: DictConfig, load: Load) -> list[str]:
    """Take the experiment's values out of groups that the shell chose differently."""
    task, choices = words_of(cfg), cfg.hydra.runtime.choices
    chosen = ({key_of(word) for word in task} & set(choices)) - {"experiment"}
    if not choices.get("experiment") or not chosen:
        return []
    rest = [word for word in task if key_of(word).split(".")[0] not in chosen]
    was = load(rest).hydra.runtime.choices
    moved = [group for group in chosen if was.get(group) != choices[group]]
    if not moved:
        return []
    own = [
        w
        for w in task
        if key_of(w) != "experiment" and (key_of(w) in chosen or key_of(w).split(".")[0] in moved)
    ]
    pure = load(["~experiment", *_choices(cfg, without=chosen), *own])
    notes = []
    with read_write(cfg), open_dict(cfg):
        for group in moved:
            if cfg[group] != pure[group]:
                cfg[group] = pure[group]
                theirs = f"experiment={choices['experiment']} gives to {group}={_text(was.get(group))}"
                notes.append(
                    f"{group}={_text(choices[group])} is yours: the values that {theirs} are left out"
                )
    return notes


def _members(cfg: DictConfig) -> list[str]:
    """Take out the experiment's values of members that the shell's `group=[...]` has not."""
    written, notes = {key_of(word) for word in words_of(cfg)}, []
    for group in written.intersection(COMBINES) if cfg.hydra.runtime.choices.get("experiment") else ():
        left = [
            str(name)
            for name, member in cfg[group].items()
            if "_target_" not in (member or {}) and not any(k.startswith(f"{group}.{name}") for k in written)
        ]
        with read_write(cfg), open_dict(cfg):
            for name in left:
                del cfg[group][name]
        if left:
            notes.append(f"{group} is yours: the experiment's values of {', '.join(left)} are left out")
    return notes


def _targets(cfg: DictConfig, load: Load, experiment: Mapping[str, Any]) -> list[str]:
    """Take an option's values away from a `_target_` that was written in the option's place."""
    written = {key_of(word) for word in words_of(cfg)} | set(_leaves(experiment))
    paths = sorted(key.removesuffix("._target_") for key in written if key.endswith("._target_"))
    if not any(slot_of(path) for path in paths):
        return []
    leave = ["~experiment"] if cfg.hydra.runtime.choices.get("experiment") else []
    pure = load([*leave, *_choices(cfg, without=())])
    notes = []
    with read_write(cfg), open_dict(cfg):
        for path in filter(slot_of, paths):
            new, old = (OmegaConf.select(one, path, throw_on_missing=False) for one in (cfg, pure))
            if (
                not OmegaConf.is_dict(new)
                or not OmegaConf.is_dict(old)
                or new.get("_target_") == old.get("_target_")
            ):
                continue
            slot = slot_of(path)
            kept = {key[len(path) + 1 :].split(".")[0] for key in written if key.startswith(f"{path}.")}
            left = [key for key in old if key not in kept and not (slot and key in slot.extras)]
            for key in left:
                new.pop(key, None)
            if left:
                option = _text(cfg.hydra.runtime.choices.get(path, "the option"))
                notes.append(f"{path}._target_ is yours: {', '.join(left)} of {path}={option} are left out")
    return notes


def _choices(cfg: DictConfig, without: Any) -> list[str]:
    """`group=option` of every group, as composed."""
    return [
        f"{group}={_text(option)}"
        for group, option in cfg.hydra.runtime.choices.items()
        if "/" not in group and group not in ("experiment", *without) and option
    ]


def words_of(cfg: DictConfig) -> list[str]:
    """The overrides that were given, as they were written."""
    words = OmegaConf.to_container(cfg.hydra.overrides.task, resolve=False)
    return [str(word) for word in words or ()]


def _leaves(tree: Mapping[str, Any], at: str = "") -> Iterator[str]:
    for key, value in tree.items():
        path = f"{at}.{key}" if at else str(key)
        if isinstance(value, Mapping):
            yield from _leaves(value, path)
        else:
            yield path


def key_of(word: str) -> str:
    """The key or group that an override is about."""
    return word.lstrip("+~").split("=")[0].split("@")[0]


def _text(choice: Any) -> str:
    if OmegaConf.is_list(choice) or isinstance(choice, list):
        return "[" + ",".join(choice) + "]"
    return str(choice)
