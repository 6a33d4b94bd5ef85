"""A model's layers: below the page of `trainrun show model/NAME`, and before a run with -v."""

from __future__ import annotations

from trainrun.config.paths import groups
from trainrun.config.show import is_yours
from trainrun.vocabulary.errors import ConfigError

_DATA = {"gpt": ["data=text"]}  # others take the default's


def model_of(topic: str) -> str | None:
    """The built-in model that a page is about: `model/cnn`, `model=cnn` or `cnn`."""
    name = topic.strip("/").replace("=", "/", 1).removeprefix("model/")
    file = groups()["model"].get(name)
    return name if file is not None and not is_yours(file) else None


def lines(model: str) -> list[str]:
    """A table of its layers, for the default data or such that it takes."""
    from trainrun.assembly.build import build
    from trainrun.assembly.layers import table
    from trainrun.config.compose.composer import Composer

    try:
        parts = build(Composer().compose([f"model={model}", *_DATA.get(model, [])]).settings)
    except ConfigError as error:  # a package that it needs is not installed
        return ["", *(str(problem) for problem in error.problems)]
    return ["", *table(parts)]
