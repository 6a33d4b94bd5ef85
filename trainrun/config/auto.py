"""What is left to the data: `task=auto` and `loss=auto`, and of a table its kind of target."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from trainrun.config.paths import groups
from trainrun.config.rules import KIND_OF_TARGET, LOSS_OPTIONS, TASK_LOSSES
from trainrun.config.show import option
from trainrun.tables import tables
from trainrun.tables.notation import Style
from trainrun.vocabulary.errors import TrainrunError


def followed(cfg: DictConfig) -> list[str]:
    """The overrides that settle what nobody chose, such as `task=binary` and `data.kind=classes`.

    A table that cannot be read is not told here: whoever loads it does.
    """
    choices, found = cfg.hydra.runtime.choices, []
    task, loss, data = choices.get("task"), choices.get("loss"), choices.get("data")
    node = OmegaConf.to_container(cfg.data, resolve=False) if OmegaConf.is_dict(cfg.get("data")) else {}
    assert isinstance(node, dict)
    kind = node.get("kind")
    if task == "auto":
        selected = dict(one.split("=") for one in _selects(data) if one.startswith(("task=", "loss=")))
        task = selected.get("task", "auto")
        if task == "auto":
            kind, task = _of_target(OmegaConf.to_container(cfg.data, resolve=True), kind)
        found.append(f"task={task}")
    elif kind == "auto":
        kind = KIND_OF_TARGET.get(str(task), "auto")
    if node.get("kind") == "auto" and kind in ("classes", "values"):
        found.append(f"data.kind={kind}")
    if loss != "auto" and _is_left_behind(cfg, str(task)):
        loss = "auto"
    if loss == "auto":
        losses = TASK_LOSSES.get(str(task)) or TASK_LOSSES[_task_of(kind, 0)]
        found.append(f"loss={LOSS_OPTIONS[losses[0]]}")
    return found


def _is_left_behind(cfg: DictConfig, task: str) -> bool:
    """Whether the task was chosen in the shell, and a loss that does not fit it by nobody."""
    overrides: Any = OmegaConf.to_container(cfg.hydra.overrides.task, resolve=False)  # may refer to nothing
    chosen = {str(word).partition("=")[0] for word in overrides}
    if "task" not in chosen or "loss" in chosen or cfg.hydra.runtime.choices.get("experiment"):
        return False
    target = str(OmegaConf.select(cfg, "loss._target_"))
    name = target.rpartition(".")[2]
    return target.startswith("trainrun.loss.") and name not in TASK_LOSSES.get(task, (name,))


def _selects(data: Any) -> tuple[str, ...]:
    return option("data", str(data)).selects if str(data) in groups()["data"] else ()


def _of_target(node: Any, kind: Any) -> tuple[str, str]:
    """(kind, task) of a table's target."""
    count = 0
    try:
        written = tables.Format(node["separator"], node["encoding"], node["header"])
        style = Style(node["decimal"], node["thousands"])
        read = tables.read(node["path"], written, node["missing"], only=node["target"])
        target_kind, count, _ = tables.target_kind(read, node["target"], node["missing"], style)
        kind = target_kind if kind == "auto" else kind
    except (TrainrunError, KeyError, TypeError, ValueError):
        pass
    return kind, _task_of(kind, count)


def _task_of(kind: Any, num_classes: int) -> str:
    return "regression" if kind == "values" else "binary" if num_classes == 2 else "classification"
