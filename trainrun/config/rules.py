"""Settings that contradict each other, or that would be ignored."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from trainrun.config.diagnose import no_option
from trainrun.config.metric_direction import LARGER, SMALLER
from trainrun.config.parameter_rules import parameter_rules
from trainrun.config.paths import groups
from trainrun.config.readable import ReadableSettings, until_faulty
from trainrun.config.show import option
from trainrun.config.signature import keys_of
from trainrun.config.suggest import hydra_value, nearest, shown
from trainrun.tables.source import is_encoding, no_encoding
from trainrun.tables.tables import DELIMITERS
from trainrun.terminal.visible import visible
from trainrun.vocabulary.duration import Duration, parse
from trainrun.vocabulary.errors import Problem

Settings = Mapping[str, Any]

TASK_LOSSES = {
    "classification": ("CrossEntropy", "Focal"),
    "binary": ("BCEWithLogits", "Focal"),
    "multilabel": ("BCEWithLogits", "Focal"),
    "regression": ("MSE", "L1", "Huber", "SmoothL1", "GaussianNLL"),
    "language_model": ("CrossEntropy",),
    "masked_lm": ("CrossEntropy",),
}
LOSS_OPTIONS = {
    "CrossEntropy": "cross_entropy",
    "Focal": "focal",
    "BCEWithLogits": "bce_with_logits",
    "MSE": "mse",
    "L1": "l1",
    "Huber": "huber",
    "SmoothL1": "smooth_l1",
    "GaussianNLL": "gaussian_nll",
}
KIND_OF_TARGET = {
    "classification": "classes",
    "binary": "classes",
    "multilabel": "labels",
    "regression": "values",
    "language_model": "tokens",
    "masked_lm": "tokens",
}
_NAME = re.compile(r"(?![._-])([A-Za-z0-9._-]|[^\x00-\x7f\s]){1,100}")


def contradictions(
    settings: Settings,
    explicit: Collection[str],
    choices: Mapping[str, Any],
    faulty: Collection[str] = (),
) -> list[Problem]:
    """Problems between settings that are each right.

    `explicit` are the keys named in the shell, `choices` the option that each group has. A rule is asked
    until it reads one of the `faulty` keys, whose values tell nothing.
    """
    rules: tuple[Callable[[Settings, Collection[str]], Iterator[Problem]], ...] = (
        _name,
        _resume,
        _budget,
        _by_clock,
        _splits,
        _table,
        _loss_of_task,
        _model_of_task,
        _balanced_twice,
        _lbfgs,
        _sam,
        _schedule_free,
        _clipping,
        _idle_settings,
        _monitor,
        _validation,
        _best_kept,
        _monitor_mode,
        _one_averager,
        _dropout_twice,
        parameter_rules,
        _smoothing,
        _packages,
    )
    readable = ReadableSettings(settings, faulty)
    problems = list(until_faulty(_task_of_data(readable, explicit, choices)))
    if problems:  # the others would be judged against the wrong task
        readable = ReadableSettings(settings, (*faulty, "task", "loss", "model"))
    return problems + [problem for rule in rules for problem in until_faulty(rule(readable, explicit))]


def _name(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    name = s["name"]
    if name is not None and (not _is_name(name) or name == "last"):
        text = "wants letters, digits, dots, dashes and underscores, at most 100, and not the word last"
        better = re.sub(r"[^\w.-]+", "-", str(name)).strip("-._")[:100]
        fix = f"name={hydra_value(better)}" if _is_name(better) and better != "last" else None
        yield Problem("name", f"{text}, got {shown(name)}", fix)


def _is_name(text: str) -> bool:
    """Whether a run can be called so, in letters of any language; its folder may have that name."""
    return bool(_NAME.fullmatch(text)) and visible(text) == text and len(text.encode()) <= 200


def _resume(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    if s["resume"] == "auto" and s["run_dir"] is None:
        yield Problem("resume", "auto needs to know the folder: run_dir=PATH beside it")


def _budget(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    if parse(s["budget"]).unit == "%":
        yield Problem("budget", f"cannot be a share of itself, got {s['budget']}; use ep, step or sample")


def _by_clock(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """What would have to know a run's steps beforehand, where they follow the clock."""
    if not parse(s["budget"]).is_clock:
        return
    reason = f"is not known beforehand under budget={s['budget']}"
    for group in ("loop", "checkpoint", "regularization"):
        for key, value in _leaves(s.get(group) or {}, group):
            if isinstance(value, str) and (share := _duration(value)) and share.unit == "%":
                yield Problem(key, f"a share of the run {reason}; use ep, step or sample, got {value}")
    for key, value in _leaves(s["scheduler"], "scheduler"):
        if value == "@total_steps":
            text = f"the run's length {reason}, and a scheduler of torch's cannot be planned anew"
            yield Problem(key, f"{text}; take one of trainrun's, or a budget in steps")


def _splits(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    fold, num_folds = s["data"].get("fold"), s["data"].get("num_folds")
    if fold is not None and num_folds is not None:
        ignored = "data.test_fraction" if "test_fraction" in s["data"] else "data.val_fraction"
        if fold >= num_folds:
            yield Problem("data.fold", f"wants 0 to {num_folds - 1}, got {fold}")
        if ignored in explicit:
            yield Problem(ignored, f"would be ignored, for data.fold={fold} is that split", None)
        return
    val, test = (s["data"].get(f"{split}_fraction", 0) for split in ("val", "test"))
    if val + test >= 1:
        yield Problem("data.val_fraction", f"{val} and data.test_fraction={test} leave nothing to train on")


def _table(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """How a csv file is written."""
    data = s["data"]
    if data.get("_target_") != "trainrun.data.table.table":
        return
    separator, names = data["separator"], ["auto", *DELIMITERS]
    if separator not in names and len(separator) != 1:
        near = nearest(separator, names)
        text = f"must be one of {', '.join(names)}, or a single character, got {separator!r}"
        yield Problem("data.separator", text, f"data.separator={near}" if near else None)
    if data["encoding"] != "auto" and not is_encoding(data["encoding"]):
        yield Problem("data.encoding", no_encoding(data["encoding"]))
    if data["decimal"] == data["thousands"] != "auto":
        text = f"{data['thousands']} cannot stand for both, it is data.decimal already"
        yield Problem("data.thousands", text, "data.thousands=auto")


def _task_of_data(s: Settings, explicit: Collection[str], choices: Mapping[str, Any]) -> Iterator[Problem]:
    """A task for other targets than a built-in data set has; a foreign one says itself what it holds."""
    data, task = choices.get("data"), str(choices.get("task"))
    if not _target(s, "data").startswith("trainrun.data.") or data in (None, "dataset"):
        return
    chosen = dict(choice.split("=") for choice in option("data", str(data)).selects if "=" in choice)
    fitting, kind = chosen.get("task", ""), KIND_OF_TARGET.get(chosen.get("task", ""))
    kind = s["data"].get("kind", kind)
    if kind == "auto":
        return  # a table that cannot be read, which is told where it is loaded
    if task not in KIND_OF_TARGET or not kind or KIND_OF_TARGET[task] == kind:
        return
    text = f"{task} learns {KIND_OF_TARGET[task]}, and {data} holds {kind}"
    mended = fitting if KIND_OF_TARGET.get(fitting) == kind else None
    yield Problem("task", text, f"task={mended}" if mended else None)
    loss = str(choices.get("loss"))
    if "loss" in explicit and mended and loss not in map(LOSS_OPTIONS.get, TASK_LOSSES[mended]):
        yield Problem("loss", f"{loss} does not fit task={mended}", f"loss={chosen.get('loss')}")


def _loss_of_task(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    task, loss = _target(s, "task"), _target(s, "loss")
    if not task.startswith("trainrun.task.") or not loss.startswith("trainrun.loss."):
        return
    name, loss_name = task.split(".")[2], loss.rpartition(".")[2]
    fitting = TASK_LOSSES.get(name, ())
    if fitting and loss_name in LOSS_OPTIONS and loss_name not in fitting:
        better = LOSS_OPTIONS[fitting[0]]
        text = f"{LOSS_OPTIONS[loss_name]} does not fit task={name}; one of"
        yield Problem("loss", f"{text} {', '.join(LOSS_OPTIONS[one] for one in fitting)}", f"loss={better}")


def _model_of_task(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """A model that sees what it is to tell, or that does not see enough to tell it."""
    task, model = _target(s, "task").rpartition(".")[2], _target(s, "model")
    if task == "LanguageModel" and model == "trainrun.model.transformer.Transformer":
        yield Problem("model", "transformer sees the very tokens that it is to tell", "model=gpt")
    if task == "MaskedLM" and model in ("trainrun.model.gpt.GPT", "trainrun.model.recurrent.Recurrent"):
        text = "sees only what lies before a hidden token; an encoder sees both sides"
        yield Problem("model", text, "model=transformer")


def _balanced_twice(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    for key in ("class_weights", "pos_weight"):
        if s["data"].get("balanced") and s["loss"].get(key) == "balanced":
            text = "balanced classes that data.balanced=true draws equally often would count twice"
            yield Problem(f"loss.{key}", text, f"loss.{key}=null")


def _lbfgs(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    if _target(s, "optimizer") not in ("trainrun.optimizer.lbfgs", "torch.optim.LBFGS"):
        return
    if _target(s, "precision").endswith(".fp16"):
        yield Problem("precision", "fp16's changing loss scale breaks L-BFGS's line search", "precision=fp32")
    clip = s["loop"].get("clip") or {}
    for kind in ("norm", "value", "agc"):
        if clip.get(kind) is not None:
            yield Problem(
                f"loop.clip.{kind}", "clipped gradients break L-BFGS's curvature", f"loop.clip.{kind}=null"
            )
    rules = s["parameters"].get("rules") or {}
    if any(isinstance(rule, Mapping) and {"lr", "weight_decay"} & rule.keys() for rule in rules.values()):
        yield Problem(
            "parameters.rules", "L-BFGS takes one group of parameters; no lr or weight_decay by rule"
        )


def _sam(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    if _target(s, "optimizer") not in ("trainrun.optimizer.sam", "trainrun.optimizer.sam.sam"):
        return
    if _target(s, "precision").endswith(".fp16"):
        text = "fp16 skips a step that overflows, and SAM's two evaluations share one loss scale"
        yield Problem("precision", f"{text}; use bf16 or fp32", "precision=bf16")
    wanted, options = s["optimizer"].get("base"), groups()["optimizer"]
    if isinstance(wanted, Mapping) and "_target_" in wanted:
        return
    names = list(wanted) if isinstance(wanted, Mapping) else [wanted]
    if len(names) != 1 or not isinstance(names[0], str):
        text = "wants one optimizer, such as adamw or {momentum: {momentum: 0.8}}"
        yield Problem("optimizer.base", f"{text}, got {wanted!r}")
    elif names[0] in ("sam", "lbfgs", "schedule_free"):
        text = f"{names[0]} cannot be wrapped: it evaluates the window, or averages the weights, by itself"
        yield Problem("optimizer.base", text, "optimizer.base=momentum")
    elif names[0] not in options:
        yield Problem("optimizer.base", no_option("optimizer", names[0], list(options)))


def _schedule_free(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """An average in the place of a schedule: two of either would undo each other."""
    if not _target(s, "optimizer").endswith(".schedule_free_adamw"):
        return
    if _target(s, "scheduler") != "trainrun.scheduler.constant":
        text = "schedule_free averages in place of a schedule; take warmup_constant or constant"
        yield Problem("scheduler", text, "scheduler=warmup_constant")
    for name in ("ema", "swa"):
        if name in (s.get("regularization") or {}):
            text = f"takes one average of the weights, got {name} and schedule_free's own"
            yield Problem("regularization", text)


def _clipping(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    clip = s["loop"].get("clip")
    clip = clip if isinstance(clip, Mapping) else {}
    given = [kind for kind in ("norm", "value", "agc") if clip.get(kind) is not None]
    for kind in given[1:]:
        yield Problem(
            f"loop.clip.{kind}", f"cannot stand beside loop.clip.{given[0]}", f"loop.clip.{kind}=null"
        )


def _idle_settings(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """What the shell sets and nothing would read."""
    optimizer, scheduler, data = s["optimizer"], s["scheduler"], s["data"]
    if "optimizer.base_batch_size" in explicit and optimizer.get("lr_scaling") == "none":
        text = "would be ignored, for optimizer.lr_scaling is none"
        yield Problem("optimizer.base_batch_size", text, None)
    warmup = _duration(scheduler.get("warmup"))
    if "scheduler.warmup_start" in explicit and warmup and not warmup.value:
        yield Problem("scheduler.warmup_start", "would be ignored, for scheduler.warmup is 0", None)
    if "scheduler.gamma" in explicit and scheduler.get("mode") in ("triangular", "triangular2"):
        yield Problem("scheduler.gamma", f"would be ignored by mode {scheduler['mode']}", None)
    if "loop.accumulate" in explicit and s["batch_size"] == "full" and s["loop"]["accumulate"] != 1:
        yield Problem(
            "loop.accumulate", "would be ignored, for batch_size=full is the whole training set", None
        )
    if "monitor" in explicit and data.get("val_fraction") == 0 and "val" not in data:
        yield Problem("monitor", "would be ignored, for data.val_fraction is 0", None)


def _monitor(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    monitor = s["monitor"]
    name = re.sub(r"^((val|valid|validation|test|train|training)[/_.-])?", "", monitor)
    known = _metrics(s)
    mended = name if not known or name in known else nearest(name, known)
    fix = f"monitor=val/{mended}" if mended else None
    if not monitor.startswith("val/"):
        reason = (
            "; choosing by the test split would make its figure worthless"
            if monitor.startswith("test")
            else ""
        )
        text = f"wants a metric of the validation split, such as val/loss, got {monitor}"
        yield Problem("monitor", f"{text}{reason}", fix)
    elif known and name not in known:
        hint = (
            f"did you mean val/{mended}?" if mended else f"there are {', '.join(f'val/{n}' for n in known)}"
        )
        yield Problem("monitor", f"the task has no metric {name}; {hint}", fix)


def _validation(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """What needs a validation split, where there is none."""
    if s["data"].get("val_fraction") == 0 and not s["data"].get("val"):
        needy = [name for name in ("early_stopping",) if name in (s.get("regularization") or {})]
        needy += ["plateau"] if _target(s, "scheduler").endswith(".plateau") else []
        needy += ["loop.stop_at"] if s["loop"].get("stop_at") is not None else []
        for name in needy:
            yield Problem("data.val_fraction", f"is 0, but {name} needs a validation split", None)


def _metrics(s: Settings) -> list[str]:
    """The metrics that a task may have, as its source says; none where that cannot tell."""
    return [] if s["task"].get("metrics") else keys_of(_target(s, "task"), "metric_modes")


def _monitor_mode(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    metric = s["monitor"].removeprefix("val/")
    right = "max" if metric in LARGER else "min" if metric in SMALLER else None
    if s["monitor_mode"] not in ("auto", right) and right:
        text = f"{s['monitor_mode']} would keep the worst weights by {s['monitor']}"
        yield Problem("monitor_mode", text, "monitor_mode=auto")


def _best_kept(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    stopper = (s.get("regularization") or {}).get("early_stopping") or {}
    if stopper.get("restore_best") and s["checkpoint"].get("keep_best") == 0:
        text = "is 0, but early_stopping.restore_best needs the best checkpoint"
        yield Problem("checkpoint.keep_best", text, "checkpoint.keep_best=1")


def _one_averager(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    averagers = [name for name in ("ema", "swa") if name in (s.get("regularization") or {})]
    if len(averagers) > 1:
        yield Problem("regularization", f"takes one average of the weights, got {' and '.join(averagers)}")


def _dropout_twice(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    if "dropout" in (s.get("regularization") or {}) and "model.dropout" in explicit:
        yield Problem(
            "model.dropout", "would be ignored, for regularization=dropout sets every rate of the model"
        )


def _smoothing(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """Regularisers that make probabilities of classes."""
    task, chosen = _target(s, "task"), s.get("regularization") or {}
    for name in (one for one in ("label_smoothing", "mixup", "cutmix") if one in chosen):
        if task.endswith((".Regression", ".Multilabel")):
            yield Problem(f"regularization.{name}", f"needs classes, the task is {task.split('.')[2]}")
        if _target(s, "loss") == "trainrun.loss.Focal" and task.endswith(".Classification"):
            text = "gives soft targets, and focal loss looks at the true class alone; use loss=cross_entropy"
            yield Problem(f"regularization.{name}", text)


def _duration(value: Any) -> Duration | None:
    """A duration; None where a value is none."""
    try:
        return parse(value)
    except ValueError:
        return None


def _leaves(tree: Mapping[str, Any], at: str) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every value in nested mappings."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{at}.{key}")
        else:
            yield f"{at}.{key}", value


def _target(settings: Settings, group: str) -> str:
    node = settings.get(group)
    return str(node.get("_target_", "")) if isinstance(node, Mapping) else ""


def _packages(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """What a logger needs and is not there. A folder of that name, such as wandb's own, is no package."""
    if "wandb" in (s.get("logger") or {}):
        spec = find_spec("wandb")
        if spec is None or spec.origin is None:
            yield Problem("logger.wandb", "needs a package: pip install 'trainrun[wandb]'")
