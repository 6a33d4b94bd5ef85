"""Rules between settings: what contradicts another setting, or has no effect beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from trainrun.config.diagnose import misfit_option
from trainrun.config.modules import problems_of_gan, problems_of_modules
from trainrun.config.optimizer_rules import OPTIMIZER_RULES
from trainrun.config.overrides import Override
from trainrun.config.scheduled_numbers import problems_of_also
from trainrun.config.show import option
from trainrun.config.signature import constant_of
from trainrun.config.suggest import hydra_value, nearest, shown
from trainrun.config.task_facts import TASK_LOSSES, kind_of_target, loss_option, metric_modes, metrics_of
from trainrun.config.tree import ReadableSettings, leaves, target_of, until_faulty
from trainrun.terminal.visible import visible
from trainrun.vocabulary.duration import Duration, parse
from trainrun.vocabulary.errors import Problem

Settings = Mapping[str, Any]

_NAME = re.compile(r"(?![._-])([A-Za-z0-9._-]|[^\x00-\x7f\s]){1,100}")
_RULE_KEYS = ("lr", "weight_decay", "freeze", "init")


def contradictions(
    settings: Settings, explicit: Collection[str], choices: Mapping[str, Any], faulty: Collection[str] = ()
) -> list[Problem]:
    """Problems between settings that are each right. A rule ends where it reads one of the `faulty` keys.

    `explicit` are the keys named in the shell, `choices` the option of each group.
    """
    readable = ReadableSettings(settings, faulty)
    problems = list(until_faulty(_task_of_data(readable, explicit, choices)))
    if problems:  # the other rules would compare with the wrong task
        readable = ReadableSettings(settings, (*faulty, "task", "loss", "model"))
    return problems + [problem for rule in _RULES for problem in until_faulty(rule(readable, explicit))]


def _name(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    name = s["name"]
    if name is not None and not _is_name(name):
        text = "must be at most 100 letters, digits, dots, dashes and underscores, and not the word last"
        better = re.sub(r"[^\w.-]+", "-", str(name)).strip("-._")[:100]
        fix = f"name={hydra_value(better)}" if _is_name(better) else None
        yield Problem("name", f"{text}, got {shown(name)}", fix)


def _is_name(text: str) -> bool:
    """Whether a run can be called so, in letters of any language; its folder may have that name."""
    is_plain = text != "last" and bool(_NAME.fullmatch(text)) and visible(text) == text
    return is_plain and len(text.encode()) <= 200


def _resume(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    if s["resume"] == "auto" and s["run_dir"] is None:
        yield Problem("resume", "auto needs a folder; add run_dir=PATH")


def _budget(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """A share of itself; or settings that need the number of steps, where the budget follows the clock."""
    budget = parse(s["budget"])
    if budget.unit == "%":
        yield Problem("budget", f"cannot be a share of itself, got {s['budget']}; use ep, step or sample")
    if not budget.is_clock:
        return
    reason = f"is not known beforehand under budget={s['budget']}"
    for group in ("loop", "checkpoint", "regularization", "augment", "parameters"):
        for key, value in leaves(s.get(group) or {}, group):
            if isinstance(value, str) and (share := _duration(value)) and share.unit == "%":
                yield Problem(key, f"a share of the run {reason}; use ep, step or sample, got {value}")
    for key, value in leaves(s["scheduler"], "scheduler"):
        if value == "@total_steps":
            text = f"the run's length {reason}, and torch's schedulers cannot be planned again"
            yield Problem(key, f"{text}; use one of trainrun's, or a budget in steps")


def _splits(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    fold, num_folds = s["data"].get("fold"), s["data"].get("num_folds")
    if fold is not None and num_folds is not None:
        ignored = "data.test_fraction" if "test_fraction" in s["data"] else "data.val_fraction"
        if fold >= num_folds:
            yield Problem("data.fold", f"must be from 0 to {num_folds - 1}, got {fold}")
        if ignored in explicit:
            yield Problem(ignored, f"has no effect because data.fold={fold} is that split")
        return
    val, test = (s["data"].get(f"{split}_fraction", 0) for split in ("val", "test"))
    if val + test >= 1:
        yield Problem("data.val_fraction", f"{val} and data.test_fraction={test} leave nothing to train on")


def _table(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """How a csv file is written."""
    data = s["data"]
    if data.get("_target_") != "trainrun.data.table.table":
        return
    from trainrun.tables.source import is_encoding, no_encoding  # rarely needed: other mistakes go without
    from trainrun.tables.tables import DELIMITERS

    separator, names = data["separator"], ["auto", *DELIMITERS]
    if separator not in names and len(separator) != 1:
        near = nearest(separator, names)
        text = f"must be one of {', '.join(names)}, or a single character, got {separator!r}"
        yield Problem("data.separator", text, f"data.separator={near}" if near else None)
    if data["encoding"] != "auto" and not is_encoding(data["encoding"]):
        yield Problem("data.encoding", no_encoding(data["encoding"]))
    if data["decimal"] == data["thousands"] != "auto":
        text = f"{data['thousands']} cannot mean both; it is data.decimal already"
        yield Problem("data.thousands", text, "data.thousands=auto")


def _task_of_data(s: Settings, explicit: Collection[str], choices: Mapping[str, Any]) -> Iterator[Problem]:
    """A task for other targets than a built-in data set has."""
    data, task = choices.get("data"), str(choices.get("task"))
    if not target_of(s, "data").startswith("trainrun.data.") or data in (None, "dataset"):
        return
    selected = {word.key: word.value for word in map(Override.parse, option("data", str(data)).selects)}
    fitting = selected.get("task") or ""
    kind, learned = s["data"].get("kind", kind_of_target(fitting)), kind_of_target(task)
    if kind == "auto" or not kind or learned in (None, kind, "whole"):
        return  # auto: a table that cannot be read, which is reported where it is loaded
    better = fitting if kind_of_target(fitting) == kind else None
    hint = f"; use task={better}" if better else ""
    text = f"{task} needs {learned} as targets; {data} has {kind}{hint}"
    yield Problem("task", text, better and f"task={better}")
    loss = str(choices.get("loss"))
    if "loss" in explicit and better and loss not in TASK_LOSSES[better]:
        yield Problem("loss", f"{loss} does not fit task={better}", f"loss={selected.get('loss')}")


def _loss_of_task(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    task, loss = target_of(s, "task"), target_of(s, "loss")
    if loss.endswith(".Distillation") and task != "trainrun.task.classification.Classification":
        yield Problem("loss", "distillation compares the logits of classes; it needs task=classification")
        return
    if not task.startswith("trainrun.task.") or not loss.startswith("trainrun.loss."):
        return
    name, chosen = task.split(".")[2], loss_option(loss)
    fitting = TASK_LOSSES.get(name, ())
    if name in TASK_LOSSES and not fitting and any(key.partition(".")[0] == "loss" for key in explicit):
        yield Problem("loss", f"has no effect with task={name}, whose model brings its own")
    if fitting and chosen and chosen not in fitting:
        text = f"{chosen} does not fit task={name}; choose one of {', '.join(fitting)}"
        yield Problem("loss", text, f"loss={fitting[0]}")


def _model_of_task(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """A model that sees the tokens it should predict, or not enough of the text to predict them."""
    task, model = target_of(s, "task").rpartition(".")[2], target_of(s, "model")
    if task == "LanguageModel" and model == "trainrun.model.transformer.Transformer":
        yield Problem("model", "transformer sees the tokens that it should predict", "model=gpt")
    if task == "MaskedLM" and model in ("trainrun.model.gpt.GPT", "trainrun.model.recurrent.Recurrent"):
        text = "sees only what comes before a hidden token; an encoder sees both sides"
        yield Problem("model", text, "model=transformer")


def _balanced_twice(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    for key in ("class_weights", "pos_weight"):
        if s["data"].get("balanced") and s["loss"].get(key) == "balanced":
            text = "balanced would count twice: data.balanced=true draws all classes equally often already"
            yield Problem(f"loss.{key}", text, f"loss.{key}=null")


def _idle_settings(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """Settings of the shell that nothing would read."""
    optimizer, scheduler, data = s["optimizer"], s["scheduler"], s["data"]
    if "optimizer.base_batch_size" in explicit and optimizer.get("lr_scaling") == "none":
        yield Problem("optimizer.base_batch_size", "has no effect because optimizer.lr_scaling is none")
    warmup = _duration(scheduler.get("warmup"))
    if "scheduler.warmup_start" in explicit and warmup and not warmup.value:
        yield Problem("scheduler.warmup_start", "has no effect because scheduler.warmup is 0")
    if "scheduler.gamma" in explicit and scheduler.get("mode") in ("triangular", "triangular2"):
        yield Problem("scheduler.gamma", f"has no effect in mode {scheduler['mode']}")
    if "loop.accumulate" in explicit and s["batch_size"] == "full" and s["loop"]["accumulate"] != 1:
        yield Problem("loop.accumulate", "has no effect because batch_size=full is the whole training set")
    is_last = "parallel.reduce" in explicit and s["parallel"].get("reduce") == "last"
    if is_last and s["loop"]["accumulate"] == 1:
        yield Problem("parallel.reduce", "has no effect because loop.accumulate is 1")
    if target_of(s, "augment").endswith(".none") and s["augment"].get("until"):
        text = "has no effect because augment=none changes no sample"
        yield Problem("augment.until", text, "augment.until=null")
    if "monitor" in explicit and data.get("val_fraction") == 0 and "val" not in data:
        yield Problem("monitor", "has no effect because data.val_fraction is 0")


def _monitor(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    monitor = s["monitor"]
    name = re.sub(r"^((val|valid|validation|test|train|training)[/_.-])?", "", monitor)
    task = target_of(s, "task")
    may_have_more = s["task"].get("metrics") or constant_of(task, "logs_more")
    metrics = [] if may_have_more else list(metrics_of(task))
    better = name if not metrics or name in metrics else nearest(name, metrics)
    fix = f"monitor=val/{better}" if better else None
    if not monitor.startswith("val/"):
        is_test = monitor.startswith("test")
        reason = "; choosing by the test split would make its result worthless" if is_test else ""
        text = f"must be a metric of the validation split, such as val/loss, got {monitor}"
        yield Problem("monitor", f"{text}{reason}", fix)
    elif metrics and name not in metrics:
        names = ", ".join(f"val/{metric}" for metric in metrics)
        hint = f"did you mean val/{better}?" if better else f"there are {names}"
        yield Problem("monitor", f"the task has no metric {name}; {hint}", fix)


def _validation(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """Settings that need a validation split, where there is none."""
    if s["data"].get("val_fraction") == 0 and not s["data"].get("val"):
        needy = ["early_stopping"] if "early_stopping" in _regularizers(s) else []
        needy += ["plateau"] if target_of(s, "scheduler").endswith(".plateau") else []
        needy += ["loop.stop_at"] if s["loop"].get("stop_at") is not None else []
        for name in needy:
            yield Problem("data.val_fraction", f"is 0, but {name} needs a validation split")


def _monitor_mode(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    if s["monitor_mode"] == "auto":
        return
    right = metric_modes().get(s["monitor"].removeprefix("val/"))
    if right and s["monitor_mode"] != right:
        text = f"{s['monitor_mode']} would keep the worst weights by {s['monitor']}"
        yield Problem("monitor_mode", text, "monitor_mode=auto")


def _best_kept(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    stopper = _regularizers(s).get("early_stopping") or {}
    if stopper.get("restore_best") and s["checkpoint"].get("keep_best") == 0:
        text = "is 0, but early_stopping.restore_best needs the best checkpoint"
        yield Problem("checkpoint.keep_best", text, "checkpoint.keep_best=1")


def _averages_and_dropout(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    chosen = _regularizers(s)
    if "ema" in chosen and "swa" in chosen:
        yield Problem("regularization", "choose one of ema and swa: only one weight average is possible")
    if "dropout" in chosen and "model.dropout" in explicit:
        text = "has no effect because regularization=dropout sets every rate of the model"
        yield Problem("model.dropout", text)


def _parameter_rules(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    allowed = ", ".join(_RULE_KEYS)
    for pattern, rule in (s["parameters"].get("rules") or {}).items():
        key = f"parameters.rules.{pattern}"
        if not isinstance(rule, Mapping):
            yield Problem(key, f"must be a mapping such as {{lr: 0.1}}, got {rule!r}; a rule takes {allowed}")
            continue
        for name, value in rule.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if name not in _RULE_KEYS:
                yield Problem(f"{key}.{name}", f"no such setting of a rule; it takes {allowed}")
            elif name in ("lr", "weight_decay") and not (number and value >= 0):
                yield Problem(f"{key}.{name}", f"must be a number of at least 0, got {value!r}")
            elif name == "freeze" and not isinstance(value, bool):
                yield Problem(f"{key}.{name}", f"must be true or false, got {value!r}")
            elif name == "init" and (wrong := misfit_option("init", value, "zeros or {normal: {std: 0.01}}")):
                yield Problem(f"{key}.init", wrong)
        if "weight_decay" in rule and "weight_decay" not in s["optimizer"]:
            yield Problem(f"{key}.weight_decay", "has no effect because the optimizer has no weight_decay")


def _lora(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """What adapters are put where; beside them nothing else of the network is trained."""
    lora = s["parameters"].get("lora")
    if not isinstance(lora, Mapping):
        return
    targets = lora.get("targets")
    patterns = targets if isinstance(targets, list) else [targets]
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        text = f"must be a pattern of layers such as '*attn*', or a list of them, got {targets!r}"
        yield Problem("parameters.lora.targets", text)
    rank, alpha = lora.get("rank"), lora.get("alpha", 1)
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        yield Problem("parameters.lora.rank", f"must be a whole number of at least 1, got {rank!r}")
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or alpha <= 0:
        yield Problem("parameters.lora.alpha", f"must be a number greater than 0, got {alpha!r}")
    for key in lora.keys() - {"rank", "targets", "alpha"}:
        yield Problem(f"parameters.lora.{key}", "no such setting; lora takes rank, targets, alpha")
    if s["parameters"].get("unfreeze_at") is not None:
        text = "has no effect because parameters.lora trains adapters in place of what it freezes"
        yield Problem("parameters.unfreeze_at", text, "parameters.unfreeze_at=null")


def _smoothing(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """Regularizers that make probabilities of classes."""
    task, chosen = target_of(s, "task"), _regularizers(s)
    for name in filter(chosen.__contains__, ("label_smoothing", "mixup", "cutmix")):
        if name != "label_smoothing" and s["data"].get("weights") is not None:
            text = "mixes samples, whose losses cannot have data.weights of their own"
            yield Problem(f"regularization.{name}", text)
        if task.endswith((".Regression", ".Multilabel")):
            yield Problem(f"regularization.{name}", f"needs classes, the task is {task.split('.')[2]}")
        if target_of(s, "loss") == "trainrun.loss.Focal" and task.endswith(".Classification"):
            text = "makes soft targets, but focal loss uses only the true class; use loss=cross_entropy"
            yield Problem(f"regularization.{name}", text)


def _duration(value: Any) -> Duration | None:
    """A duration; None where a value is none."""
    with suppress(ValueError):
        return parse(value)
    return None


def _regularizers(settings: Settings) -> Settings:
    chosen: Settings = settings.get("regularization") or {}
    return chosen


def _packages(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    for name in {"wandb", "mlflow"} & {*(s.get("logger") or {})}:
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # a folder of that name, such as wandb's own, is no package
            yield Problem(f"logger.{name}", f"needs a package: pip install 'trainrun[{name}]'")


_RULES: tuple[Callable[[Settings, Collection[str]], Iterator[Problem]], ...] = (
    *(_name, _resume, _budget, _splits, _table, _loss_of_task, _model_of_task, _balanced_twice),
    *(*OPTIMIZER_RULES, _idle_settings, _monitor, _validation, _best_kept),
    *(_monitor_mode, _averages_and_dropout, _parameter_rules, _lora, _smoothing, _packages),
    *(problems_of_also, problems_of_modules, problems_of_gan),
)
