"""Usual names: which entries of a sample or a file are inputs, which the target, and which splits."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trainrun.vocabulary.errors import ConfigError

Key = str | int

# The usual names, as in torchvision, Hugging Face, Keras and MONAI; the first group that fits is taken.
_INPUTS = {"inputs", "input", "x", "image", "images", "img", "pixel_values", "input_ids", "tokens"}
_INPUTS |= {"attention_mask", "features", "data", "text", "sequence", "signal", "audio", "waveform"}
_TARGETS = (
    ("targets", "target", "labels", "label", "y", "class", "class_id"),
    ("mask", "masks", "segmentation"),
)
SPLITS = ("train", "val", "test")
_SPELLINGS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("eval", "evaluation", "holdout"), "val or test"),
}
_FILLER = r"(data|dataset|set|images?|imgs?|pictures?|photos?|samples?|split|folder|dir)"


def split_of(name: str) -> str | None:
    """`train`, `val`, `test` or `val or test` where a name is a spelling of one, else None."""
    letters = re.sub(r"[^a-z]", "", name.lower())
    for bare in (letters, re.sub(f"{_FILLER}$", "", letters), re.sub(f"^{_FILLER}", "", letters)):
        if bare in _SPELLINGS:
            return _SPELLINGS[bare]
    return None


def target_among(keys: Sequence[Key]) -> Key | None:
    """The target by its usual name, or the last place of a tuple. Raises ConfigError where two would do."""
    if keys and all(isinstance(key, int) for key in keys):
        return keys[-1]
    for usual in _TARGETS:
        targets = [key for key in keys if str(key).lower() in usual]
        if len(targets) > 1:
            text = f"{listed(targets)} may all be the target"
            raise ConfigError.of("data.targets", f"{text}; name the right one by data.targets")
        if targets:
            return targets[0]
    return None


def asked_for_target(keys: Sequence[Key]) -> str:
    """`data.targets=KEY` where one entry alone has no usual name of inputs, else `data.targets`."""
    others = [key for key in keys if str(key).lower() not in _INPUTS]
    return f"data.targets={others[0]}" if len(others) == 1 else "data.targets"


def inputs_among(keys: Sequence[Key]) -> tuple[Key, ...]:
    """All places of a tuple; in a dict what has a usual name, or the only entry there is."""
    if len(keys) == 1 or all(isinstance(key, int) for key in keys):
        return tuple(keys)
    usual = tuple(key for key in keys if str(key).lower() in _INPUTS)
    if not usual:
        text = f"cannot tell which entries are inputs, a sample has {listed(keys)} beside its target"
        raise ConfigError.of("data.inputs", f"{text}; name them: 'data.inputs=[{listed(keys)}]'")
    return usual


def listed(keys: Sequence[Key]) -> str:
    """`image, age, label`."""
    return ", ".join(map(str, keys))
