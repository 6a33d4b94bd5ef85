"""Choose what is left to the data: `task=auto`, `loss=auto`, and the kind of a table's target."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from omegaconf import DictConfig, OmegaConf

from trainrun.config.overrides import Override, key_of
from trainrun.config.paths import groups
from trainrun.config.show import option
from trainrun.config.task_facts import TASK_LOSSES, kind_of_target, loss_option
from trainrun.tables import tables
from trainrun.tables.notation import Style
from trainrun.vocabulary.errors import TrainrunError


def followed(cfg: DictConfig) -> list[str]:
    """The overrides that choose what nobody chose, such as `task=binary` and `data.kind=classes`."""
    choices, chosen = cfg.hydra.runtime.choices, []
    task, loss, data = choices.get("task"), choices.get("loss"), choices.get("data")
    node = OmegaConf.to_container(cfg.data, resolve=False) if OmegaConf.is_dict(cfg.get("data")) else {}
    assert isinstance(node, dict)
    kind = node.get("kind")
    if task == "auto":
        selects = option("data", str(data)).selects if str(data) in groups()["data"] else ()
        task = next((word.value for word in map(Override.parse, selects) if word.key == "task"), "auto")
        if task == "auto":
            kind, task = _of_target(OmegaConf.to_container(cfg.data, resolve=True), kind)
        chosen.append(f"task={task}")
    elif kind == "auto":
        kind = kind_of_target(str(task)) or "auto"
    if node.get("kind") == "auto" and kind in ("classes", "values"):
        chosen.append(f"data.kind={kind}")
    if loss != "auto" and _is_left_behind(cfg, str(task)):
        loss = "auto"
    if loss == "auto":
        losses = TASK_LOSSES.get(str(task)) or TASK_LOSSES[_task_of(kind, 0)]
        chosen.append(f"loss={losses[0]}")
    return chosen


def _is_left_behind(cfg: DictConfig, task: str) -> bool:
    """Whether the task was chosen in the shell, and a loss that does not fit it by nobody."""
    overrides: Any = OmegaConf.to_container(cfg.hydra.overrides.task, resolve=False)  # may refer to nothing
    chosen = {key_of(str(word)) for word in overrides}
    if "task" not in chosen or "loss" in chosen or cfg.hydra.runtime.choices.get("experiment"):
        return False
    loss = loss_option(str(OmegaConf.select(cfg, "loss._target_")))
    return loss is not None and loss not in TASK_LOSSES.get(task, (loss,))


def _of_target(node: Any, kind: Any) -> tuple[str, str]:
    """(kind, task) of a table's or an array's target. Whoever loads it reports that it cannot be read."""
    count = 0
    with suppress(TrainrunError, KeyError, TypeError, ValueError):
        if node["_target_"] == "trainrun.data.arrays.arrays":
            from trainrun.tables import arrays  # rarely needed: other runs start without it

            chosen = arrays.read(node["path"], node["inputs"], node["targets"])
            kind, count = arrays.target_kind(chosen.targets["train"])
            return kind, _task_of(kind, count)
        written = tables.Format(node["separator"], node["encoding"], node["header"])
        style = Style(node["decimal"], node["thousands"])
        read = tables.read(node["path"], written, node["missing"], only=node["target"])
        target_kind, count, _ = tables.target_kind(read, node["target"], node["missing"], style)
        kind = target_kind if kind == "auto" else kind
    return kind, _task_of(kind, count)


def _task_of(kind: Any, num_classes: int) -> str:
    if kind in ("values", "labels"):
        return "regression" if kind == "values" else "multilabel"
    return "binary" if num_classes == 2 else "classification"
