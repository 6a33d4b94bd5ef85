"""Read the user's YAML files as settings, or report the mistake with its file and line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from trainrun.config.diagnose import yaml_problem
from trainrun.config.limits import UnreadableError, check_text, child_nodes, read_text
from trainrun.config.plain import MISSING
from trainrun.vocabulary.errors import ConfigError, Problem

_TEXT = "tag:yaml.org,2002:str"
_KINDS = {"str": "a text", "int": "a number", "float": "a number", "bool": "true or false", "seq": "a list"}


def text_of(file: Path) -> str:
    """A file's text. Raises FileNotFoundError, and ConfigError where it cannot be a config."""
    try:
        text = read_text(file)
        check_text(text, with_aliases=True)
        return text
    except UnreadableError as error:
        raise ConfigError.of(f"{_name(file)}{error.place}", str(error)) from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError.of(_name(file), f"cannot be read: {error.strerror or error}") from None
    except yaml.YAMLError as error:
        raise ConfigError([yaml_problem(error, file)]) from None


def settings_of(file: Path) -> DictConfig:
    """A file's settings, unresolved. Raises FileNotFoundError, and ConfigError for every mistake."""
    text = text_of(file)
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        if problems := [*_headers(text, _name(file)), *_misshapen(root, _name(file))]:
            raise ConfigError(problems)
        node = OmegaConf.create(text) if root else OmegaConf.create({})
    except yaml.YAMLError as error:
        raise ConfigError([yaml_problem(error, file)]) from None
    except (OmegaConfBaseException, ValueError, RecursionError) as error:
        line = next(_lines_that_raise(root, text, type(error)), 1) if root else 1
        reason = str(error).partition("\n")[0]
        reason = "a number of more than 4,300 digits" if "integer string" in reason else reason
        raise ConfigError.of(f"{_name(file)}:{line}", f"cannot be read: {reason}") from None
    assert isinstance(node, DictConfig)
    return node


def mark_missing(node: DictConfig) -> None:
    """Make every `???` of a file count, even where another file gives a value for it."""
    with read_write(node), open_dict(node):
        for key in map(str, node) if node else ():
            if OmegaConf.is_missing(node, key):
                node[key] = MISSING
            elif not OmegaConf.is_interpolation(node, key) and isinstance(node[key], DictConfig):
                mark_missing(node[key])


def _headers(text: str, name: str) -> Iterator[Problem]:
    """Lines `# @package` that Hydra would not take."""
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r"#\s*@package(.*)", line)
        if match and len(match[1].split()) != 1:
            yield Problem(f"{name}:{number}", f"must be written `# @package _global_`, got {line}")


def _misshapen(root: yaml.Node | None, name: str) -> Iterator[Problem]:
    """Valid YAML that cannot be settings."""
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        kind = _KINDS.get(root.tag.rpartition(":")[2], "something else")
        yield Problem(f"{name}:{_line(root)}", f"is not a mapping of settings, KEY: VALUE, but {kind}")
        return
    for key, value in root.value:
        got = key.value if isinstance(key, yaml.ScalarNode) else "a list or a mapping"
        if key.tag not in (_TEXT, "tag:yaml.org,2002:merge"):
            text = f"a setting's name must be a text, got {got}; put it into quotes"
            yield Problem(f"{name}:{_line(key)}", text)
        elif key.value == "defaults":
            for item in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                is_pair = isinstance(item, yaml.MappingNode) and len(item.value) == 1
                if item is value or not (is_pair or item.tag == _TEXT):  # what Hydra does not take
                    text = "must be a list of `- group: option`, such as `- override /optimizer: adamw`"
                    yield Problem(f"{name}:{_line(item)}", f"defaults {text}")


def _lines_that_raise(node: yaml.Node, text: str, kind: type[Exception]) -> Iterator[int]:
    """The lines of the innermost values that raise when they are read."""
    for child in child_nodes(node):
        yield from _lines_that_raise(child, text, kind)
    source = text[node.start_mark.index : node.end_mark.index]
    for probe in (f"x: {source}", f"? {source}\n: 1"):
        try:
            OmegaConf.create(probe)
        except kind:
            yield _line(node)
        except Exception:  # cut out of its place it may be another thing
            continue


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _name(file: Path) -> str:
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)
