"""Precedence of overrides: the shell's choice of an option wins whole, over an experiment and the defaults.

`experiment=E optimizer=adamw`, where E chose sgd with lr 0.5, is AdamW with its own lr, not 0.5.
`model._target_=my_model.Net` keeps nothing that model=cnn gave to its CNN.
`'scheduler.arguments={T_max:100}'` is that mapping, not one merged into the option's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from trainrun.config.injection import slot_of
from trainrun.config.overrides import Override, key_of
from trainrun.config.paths import COMBINES
from trainrun.config.tree import leaves

Load = Callable[[list[str]], DictConfig]  # composes other overrides


def leave_out_replaced(cfg: DictConfig, load: Load, experiment: Mapping[str, Any]) -> list[str]:
    """Leave out what belongs to a replaced option or target; return what to say. `experiment`: its file."""
    return _options(cfg, load) + _members(cfg) + _targets(cfg, load, experiment)


def replace_mappings(cfg: DictConfig, words: Sequence[str], value_of: Callable[[str], Any]) -> None:
    """Put mappings from the shell in place of what was there; only a call's arguments are merged."""
    replaced: list[str] = []
    for word in words:
        override = Override.parse(word)
        key = override.key
        inside = any(key.startswith(f"{outer}.") for outer in replaced)
        if override.prefix == "~" or not (inside or (override.value or "").startswith("{")):
            continue
        value, node = value_of(word), OmegaConf.select(cfg, key, throw_on_missing=False)
        whole = isinstance(value, dict) and OmegaConf.is_dict(node) and "_target_" not in node
        if inside or whole:
            OmegaConf.update(cfg, key, value, merge=False, force_add=True)
            replaced.append(key)


def _options(cfg: DictConfig, load: Load) -> list[str]:
    """Take the experiment's values out of groups that the shell chose differently."""
    choices = cfg.hydra.runtime.choices
    overrides = [(word, Override.parse(word)) for word in words_of(cfg)]
    chosen = ({override.key for _, override in overrides} & set(choices)) - {"experiment"}
    if not choices.get("experiment") or not chosen:
        return []
    before = load([word for word, override in overrides if override.top not in chosen])
    previous = before.hydra.runtime.choices
    moved = [group for group in chosen if previous.get(group) != choices[group]]
    if not moved:
        return []
    words = [word for word, override in overrides if override.key in chosen or override.top in moved]
    pure = load(["~experiment", *_choices(cfg, without=chosen), *words])
    notes = []
    with read_write(cfg), open_dict(cfg):
        for group in [group for group in moved if cfg[group] != pure[group]]:
            cfg[group] = pure[group]
            theirs = f"experiment={choices['experiment']} gives to {group}={_text(previous.get(group))}"
            notes.append(f"{group}={_text(choices[group])} is yours: the values that {theirs} are left out")
    return notes


def _members(cfg: DictConfig) -> list[str]:
    """Take out the experiment's values of members that the shell's `group=[...]` has not."""
    written, notes = set(map(key_of, words_of(cfg))), []
    for group in written.intersection(COMBINES) if cfg.hydra.runtime.choices.get("experiment") else ():
        left_out = [
            str(name)
            for name, member in cfg[group].items()
            if "_target_" not in (member or {}) and not any(k.startswith(f"{group}.{name}") for k in written)
        ]
        with read_write(cfg), open_dict(cfg):
            for name in left_out:
                del cfg[group][name]
        if left_out:
            notes.append(f"{group} is yours: the experiment's values of {', '.join(left_out)} are left out")
    return notes


def _targets(cfg: DictConfig, load: Load, experiment: Mapping[str, Any]) -> list[str]:
    """Take an option's values away from a `_target_` that was written in the option's place."""
    written = set(map(key_of, words_of(cfg))) | {key for key, _ in leaves(experiment)}
    paths = sorted(key.removesuffix("._target_") for key in written if key.endswith("._target_"))
    slots = {path: slot_of(path) for path in paths}
    if not any(slots.values()):
        return []
    leave = ["~experiment"] if cfg.hydra.runtime.choices.get("experiment") else []
    pure = load([*leave, *_choices(cfg, without=())])
    notes = []
    with read_write(cfg), open_dict(cfg):
        for path, slot in slots.items():
            new, old = (OmegaConf.select(config, path, throw_on_missing=False) for config in (cfg, pure))
            if slot is None or not (OmegaConf.is_dict(new) and OmegaConf.is_dict(old)):
                continue
            if new.get("_target_") == old.get("_target_"):
                continue
            stays = {key[len(path) + 1 :].split(".")[0] for key in written if key.startswith(f"{path}.")}
            left_out = [key for key in old if key not in stays and key not in slot.extras]
            for key in left_out:
                new.pop(key, None)
            if left_out and path in written:  # of an option that nobody typed, nothing is missed
                whose = f"{path}={_text(cfg.hydra.runtime.choices[path])}"
                notes.append(f"{path}._target_ is yours: {', '.join(left_out)} of {whose} are left out")
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


def _text(choice: Any) -> str:
    return f"[{','.join(choice)}]" if OmegaConf.is_list(choice) or isinstance(choice, list) else str(choice)
