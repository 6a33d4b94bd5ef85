"""Every mistake is answered with exit code 2, one message that names the key, and nothing on disk."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import yaml
from imports import assert_light, run_counted

from trainrun.config.check import check
from trainrun.config.compose.composer import Composer, parse_arguments
from trainrun.config.injection import slot_of
from trainrun.config.paths import CONF

# what kind of mistake -> word -> what the message must contain. Those of a kind are made together.
WRONG: dict[str, dict[str, tuple[str, ...]]] = {
    "misspelt group, option, key, dial": {
        "optimzer=adamw": ("optimzer:", "did you mean optimizer?"),
        "optimizer=adamww": ("optimizer:", "did you mean adamw?", "nesterov"),
        "optimizer=AdamW": ("did you mean adamw?",),
        "optimizer.lrr=1": ("optimizer.lrr:", "did you mean lr?"),
        "optimiser.lr=1": ("optimiser.lr:", "did you mean optimizer.lr?"),
        "loop.clip.nrom=1": ("loop.clip.nrom:", "did you mean norm?"),
        "batchsize=3": ("batchsize:", "did you mean batch_size?"),
        "depth=3": ("depth:", "model.depth"),
        "width=64": ("width:", "model.width", "mlp"),
        "cuda=true": ("cuda:", "batch_size", "optimizer"),
        "experiment=nope": ("experiment:", "'nope'"),
    },
    "behind + and ++": {
        "+optimizer.momentum=0.9": ("optimizer.momentum:", "adamw takes no 'momentum'", "optimizer=momentum"),
        "++optimizer.momentum=0.9": ("optimizer.momentum:", "optimizer=momentum"),
        "+foo=1": ("foo: no such setting",),
        "++foo.bar=1": ("foo.bar: no such setting",),
        "+optimizer=sgd": ("optimizer:", "takes no +"),
    },
    "a setting of another option": {
        "init.mode=fan_out": ("init.mode:", "init=kaiming_normal or kaiming_uniform does"),
        "scheduler.at=[50%]": ("scheduler.at:", "scheduler=multistep does"),
        "regularization.ema.decay=0.9": ("regularization.ema", "not selected", "regularization=[ema]"),
    },
    "wrong type": {
        "optimizer.lr=abc": ("optimizer.lr: must be a number greater than 0, got 'abc'",),
        "optimizer.lr=": ("optimizer.lr: must be a number",),
        "optimizer.lr=null": ("optimizer.lr: must be a number greater than 0, got null",),
        "optimizer.lr.x=1": ("optimizer.lr: must be a number",),
        "batch_size=8.5": ("batch_size: must be a whole number of at least 1 or full, got 8.5",),
        "seed=1.5": ("seed: must be a whole number",),
        "model.norm=batchnorm": ("model.norm: must be none or batch or group, got 'batchnorm'",),
        "runtime.deterministic=maybe": ("runtime.deterministic: must be true or false, got 'maybe'",),
        "optimizer.betas=0.9": ("optimizer.betas: must be a list of 2",),
        "parameters.rules=3": ("parameters.rules: must be a mapping, got 3",),
        "loop.clip=3": ("loop.clip: must be a mapping",),
        "runtime.trust=foo": ("runtime.trust: must be a list",),
    },
    "out of range": {
        "optimizer.lr=-1": ("optimizer.lr: must be a number greater than 0, got -1",),
        "optimizer.lr=0": ("optimizer.lr: must be a number greater than 0, got 0",),
        "optimizer.betas=[0.9,1.0]": ("optimizer.betas: must be a list of 2, each a number in [0, 1)",),
        "optimizer.betas=[0.9]": ("optimizer.betas: must be a list of 2",),
        "model.dropout=1.0": ("model.dropout: must be a number in [0, 1), got 1.0",),
        "data.val_fraction=1.5": ("data.val_fraction: must be a number in [0, 1), got 1.5",),
        "loop.accumulate=0": ("loop.accumulate: must be a whole number of at least 1, got 0",),
        "optimizer.lr=.nan": ("optimizer.lr: must be a finite number",),
        "optimizer.lr=1e400": ("optimizer.lr: must be a finite number",),
        "loop.stop_at=-inf": ("loop.stop_at: must be a finite number",),
    },
    "durations": {
        "budget=10": ("budget: must be a duration", "write 10step or 10ep"),
        "budget=0ep": ("budget: must be a duration above 0",),
        "budget=0min": ("budget: must be a duration above 0", "s, min or h"),
        "budget=10%": ("budget: cannot be a share of itself",),
        "budget=-3ep": ("budget: must be a duration",),
        "loop.eval_every=5s": ("loop.eval_every:", "clock units"),
        "scheduler.warmup=lots": ("scheduler.warmup: must be a duration",),
    },
    "missing values": {"data=dataset": ("data.train: needs a value",)},
    "the choice of options": {
        "optimizer=[adamw,sgd]": ("optimizer: takes one option, got [adamw,sgd]",),
        "optimizer=null": ("optimizer: must be an option, got null",),
        "optimizer=3": ("optimizer: no option '3'",),
        "optimizer={lr:3}": ("optimizer: no option",),
        "logger=null": ("logger: must be an option, got null",),
        "regularization=[ema,nope]": ("regularization: no option 'nope'",),
        "model=../../x": ("model: no option '../../x'",),
        "model=mlp/../cnn": ("model: no option 'mlp/../cnn'",),
        "model=/etc/passwd": ("model: no option '/etc/passwd'",),
    },
    "targets": {
        "model._target_=my.Net": ("model._target_: there is no module my",),
        "model._target_=torch.nn.Linaer": ("model._target_:", "did you mean Linear?"),
        "model._target_=trainrun.model.mlp.MLPP": ("model._target_:", "did you mean MLP?"),
        "model._target_=torch.optim.SGD": ("model._target_: torch.optim.SGD is not a Module",),
        "optimizer._target_=torch.nn.Linear": ("optimizer._target_: torch.nn.Linear is not an Optimizer",),
        "model._target_=trainrun.optimizer.sgd": ("model._target_:", "does not belong here"),
        "model._target_=os.system": ("model._target_: os.system",),
        "model._target_=MLP": ("model._target_: must be a dotted name",),
        "model._target_=3": ("model._target_: must be a dotted name",),
        "task.metrics=[os.system]": ("task.metrics: os.system",),
        "task.metrics=[nope.f]": ("task.metrics: there is no module nope",),
    },
}
# The same for mistakes that are made alone.
ALONE: dict[str, tuple[str, ...]] = {
    "model=mlp model.depth=1.5": ("model.depth: must be a whole number",),
    "optimizer=momentum optimizer.momentum=1": ("optimizer.momentum: must be a number in [0, 1), got 1",),
    "regularization=ema regularization.ema.decay=1.5": (
        "regularization.ema.decay: must be a number in [0, 1)",
    ),
    "~optimizer.lr": ("optimizer.lr:", "needs a value"),
    "~foo": ("foo: no such setting",),
    "optimizer._target_=torch.optim.SGD optimizer.momentun=1": ("did you mean momentum?",),
    "task=regression": ("task:", "regression needs values as targets; digits has classes"),
    "task=multilabel": ("task:", "multilabel needs labels as targets; digits has classes"),
    "optimizer.base_batch_size=128": ("optimizer.base_batch_size: has no effect",),
    "name=../x": ("name: must be at most 100 letters",),
    "=3": ("=3: is not KEY=VALUE",),
    "hydra.job.nmae=x": ("hydra.job.nmae: cannot be set here",),
    "-m model=mlp,cnn model.width=64": ("model.width:", "CNN takes no 'width'"),
}
NEVER = ("Traceback", "in struct", "ConfigCompositionException", "use +", "append", "unexpected")


def batches() -> Iterator[Any]:
    """The mistakes of a kind in as few commands as can be: no key twice in one, nor one below another."""

    def meet(first: str, second: str) -> bool:
        first_key, second_key = (word.lstrip("+").split("=")[0] + "." for word in (first, second))
        return first_key.startswith(second_key) or second_key.startswith(first_key)

    for kind, mistakes in WRONG.items():
        packed: list[dict[str, tuple[str, ...]]] = []
        for word, parts in mistakes.items():
            free = [batch for batch in packed if not any(meet(word, other) for other in batch)]
            if not free:
                free = [{}]
                packed += free
            free[0][word] = parts
        yield from (pytest.param(batch, id=f"{kind} {i}") for i, batch in enumerate(packed))
    yield from (pytest.param({word: parts}, id=word) for word, parts in ALONE.items())


@pytest.mark.parametrize("mistakes", list(batches()))
def test_mistakes_are_named_in_a_line_each_and_leave_nothing(
    mistakes: dict[str, tuple[str, ...]], cli: Any, folder: Path
) -> None:
    answer = cli(*(part for word in mistakes for part in shlex.split(word)))
    assert answer.code == 2
    assert answer.out == ""
    lines = answer.err.split("\n\n")[0].strip().splitlines()
    for parts in mistakes.values():
        (line,) = [line for line in lines if all(part in line for part in parts)]
        lines.remove(line)
    assert lines == []
    for part in NEVER:
        assert part not in answer.err
    assert list(folder.iterdir()) == []


NET = """
from torch import nn
class Net(nn.Module):
    def __init__(self, num_outputs: int, width: int, gain: float = 1.0):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.Linear(width, num_outputs))
    def forward(self, x):
        return self.layers(x)
"""
MINE = {"my_model.py": NET, "conf/model/mine.yaml": "_target_: my_model.Net\nwidth: 8\n"}
GLOBAL = "# @package _global_\n"

# (files, words, what the message must contain)
WRONG_FILES: dict[str, tuple[Mapping[str, str], str, tuple[str, ...]]] = {
    "unknown key in an option": (
        MINE | {"conf/model/mine.yaml": "_target_: my_model.Net\nwidth: 8\ngian: 2\n"},
        "model=mine",
        ("model.gian:", "did you mean gain?", "conf/model/mine.yaml:3"),
    ),
    "wrong type in an option": (
        MINE | {"conf/model/mine.yaml": "_target_: my_model.Net\nwidth: big\n"},
        "model=mine",
        ("model.width: must be a whole number, got 'big'", "conf/model/mine.yaml:2"),
    ),
    "missing value in an option": (
        MINE | {"conf/model/mine.yaml": "_target_: my_model.Net\nwidth: ???\n"},
        "model=mine",
        ("model.width: needs a value",),
    ),
    "required value left out": (
        MINE | {"conf/model/mine.yaml": "_target_: my_model.Net\n"},
        "model=mine",
        ("model.width: my_model.Net needs a value",),
    ),
    "an option's syntax": (
        {"conf/model/mine.yaml": "_target_: my_model.Net\nwidth: [1\nx: 3\n"},
        "model=mine",
        ("conf/model/mine.yaml:3: is not valid YAML",),
    ),
    "a tab in an option": (
        {"conf/model/mine.yaml": "_target_: my_model.Net\n\twidth: 3\n"},
        "model=mine",
        ("conf/model/mine.yaml:2: is not valid YAML",),
    ),
    "an option that is a number": ({"conf/model/mine.yaml": "3"}, "model=mine", ("conf/model/mine.yaml",)),
    "an option that is a list": (
        {"conf/model/mine.yaml": "- 3"},
        "model=mine",
        ("conf/model/mine.yaml:1: is not a mapping",),
    ),
    "an option without a call": (
        {"conf/model/mine.yaml": "width: 3\n"},
        "model=mine",
        ("model:", "_target_"),
    ),
    "a module that does not import": (
        MINE | {"my_model.py": "import nothing_of_that_name\n" + NET},
        "model=mine",
        ("model._target_: cannot import my_model.Net", "nothing_of_that_name"),
    ),
    "a module that fails": (
        MINE | {"my_model.py": "1 / 0\n" + NET},
        "model=mine",
        ("model._target_: importing my_model.Net failed: ZeroDivisionError",),
    ),
    "a misspelt class": (MINE, "model._target_=my_model.Nett", ("did you mean Net?",)),
    "a class that is no model": (
        MINE | {"my_model.py": NET + "class Other:\n    pass\n"},
        "model._target_=my_model.Other",
        ("model._target_: my_model.Other is not a Module",),
    ),
    "unknown key in an experiment": (
        {"conf/experiment/e.yaml": GLOBAL + "optimizer:\n  lrr: 0.5\n"},
        "experiment=e",
        ("optimizer.lrr:", "did you mean lr?", "conf/experiment/e.yaml:3"),
    ),
    "unknown group in an experiment": (
        {"conf/experiment/e.yaml": GLOBAL + "optimiser:\n  lr: 0.5\n"},
        "experiment=e",
        ("optimiser:", "did you mean optimizer?", "conf/experiment/e.yaml:2"),
    ),
    "another tool's key in an experiment": (
        {"conf/experiment/e.yaml": GLOBAL + "epochs: 3\n"},
        "experiment=e",
        ("epochs: is called budget here", "conf/experiment/e.yaml:2"),
    ),
    "unknown option in an experiment": (
        {"conf/experiment/e.yaml": GLOBAL + "defaults:\n  - override /optimizer: sgdd\n"},
        "experiment=e",
        ("optimizer: no option 'sgdd'", "did you mean sgd?", "experiment=e"),
    ),
    "unknown group in an experiment's defaults": (
        {"conf/experiment/e.yaml": GLOBAL + "defaults:\n  - override /optimzer: sgd\n"},
        "experiment=e",
        ("experiment=e:", "did you mean optimizer?"),
    ),
    "defaults without override": (
        {"conf/experiment/e.yaml": GLOBAL + "defaults:\n  - optimizer: sgd\n"},
        "experiment=e",
        ("override /optimizer: sgd",),
    ),
    "an experiment without its first line": (
        {"conf/experiment/e.yaml": "optimizer:\n  lr: 0.5\n"},
        "experiment=e",
        ("experiment:", "# @package _global_"),
    ),
    "several mistakes in a single file": (
        {"exp.yaml": "budget: 5\nseed: x\n"},
        "exp.yaml data=digits",
        ("budget: must be a duration", "exp.yaml:1", "seed: must be a whole number", "exp.yaml:2"),
    ),
    "a single file's syntax": (
        {"exp.yaml": "optimizer:\n  lr: 0.5\n bad: 3\n"},
        "exp.yaml",
        ("exp.yaml:3: is not valid YAML",),
    ),
    "a tag in a single file": (
        {"exp.yaml": "seed: !!python/object/apply:os.getpid []\n"},
        "exp.yaml",
        ("exp.yaml:1: is not valid YAML",),
    ),
    "a single file that is a list": ({"exp.yaml": "- 3\n"}, "exp.yaml", ("exp.yaml:1: is not a mapping",)),
    "an option written as a value": (
        {"exp.yaml": "optimizer: sgd\n"},
        "exp.yaml",
        ("optimizer: must be a mapping, got 'sgd'", "override /optimizer: sgd", "exp.yaml:1"),
    ),
    "values of an option that is not selected": (
        {"exp.yaml": "regularization: {ema: {decay: 0.9}}\n"},
        "exp.yaml",
        ("regularization.ema", "not selected"),
    ),
    "in a sweep": ({"exp.yaml": "seedd: 3\n"}, "-m exp.yaml seed=1,2", ("seedd:", "did you mean seed?")),
}


@pytest.mark.parametrize("case", WRONG_FILES, ids=str)
def test_a_mistake_in_a_file_names_the_file(
    case: str, cli: Any, folder: Path, files: Callable[[Mapping[str, str]], None]
) -> None:
    named, words, parts = WRONG_FILES[case]
    files(named)
    answer = cli(*shlex.split(words))
    assert answer.code == 2
    for part in parts:
        assert part in answer.err
    for part in NEVER:
        assert part not in answer.err
    assert answer.line is None or "regularization" in answer.line  # the shell cannot take a key out of a file
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.suffix != ".pyc"}
    assert files - {"__pycache__"} == set(named)


def test_all_problems_are_told_at_once(cli: Any) -> None:
    answer = cli("optimizer=adamww", "model=mpl", "loop.clip.nrom=1", "seed=x", "batch_size=0", "lr=abc")
    keys = {line.split(":")[0] for line in answer.err.splitlines() if ":" in line}
    assert {"optimizer", "model", "loop.clip.nrom", "seed", "batch_size", "lr"} <= keys
    assert answer.line is None  # nobody knows what abc was meant to be


def test_an_import_that_fails_only_in_a_stored_run_is_not_tried(folder: Path) -> None:
    settings = Composer().compose([]).settings
    hostile = {**settings, "model": {"_target_": "antigravity.Net"}}
    sys.modules.pop("antigravity", None)
    (problem,) = check(hostile, trust=())
    assert "runtime.trust=[antigravity]" in problem.text
    assert "antigravity" not in sys.modules  # importing it opens a browser


# What other tools call it -> the whole corrected command. Each composes and checks clean.
SPELLINGS = {
    "epochs=10 lr=0.1": "trainrun budget=10ep optimizer.lr=0.1",
    "max_epochs=3 wd=0.1 bs=12": "trainrun budget=3ep optimizer.weight_decay=0.1 batch_size=12",
    "max_steps=100 device=cpu": "trainrun budget=100step runtime.device=cpu",
    "gpus=1 seed=3": "trainrun runtime.device=cuda seed=3",
    "fast_dev_run=true optimizer.learning_rate=0.1": "trainrun budget=1step optimizer.lr=0.1",
    "ckpt_path=last": "trainrun resume last",
    "mixed_precision=bf16 ema=true": "trainrun precision=bf16 regularization=ema",
    "precision=16-mixed": "trainrun precision=fp16",
    "opt=AdamW sched=cosine": "trainrun optimizer=adamw scheduler=cosine",
    "dataset=wine dropout=0.1": "trainrun data=wine model.dropout=0.1",
    "grad_clip=1 accumulate_grad_batches=4": "trainrun loop.clip.norm=1 loop.accumulate=4",
    "+lr=0.1 ++epochs=3": "trainrun optimizer.lr=0.1 budget=3ep",
    "lr=0.1 regularization=[ema]": "trainrun optimizer.lr=0.1 'regularization=[ema]'",
    "data=breast_cancer loss=bce": "trainrun data=breast_cancer loss=bce_with_logits",
    "logger=[consol] limit=10": "trainrun 'logger=[console]' data.limit=10",
    "lr=0.1 lr=0.2": "trainrun optimizer.lr=0.2",
    "lr=0.1 monitor=accuracy": "trainrun optimizer.lr=0.1 monitor=val/accuracy",
    "-m optimizer=sgd,adamw lr=0.1": "trainrun -m optimizer=sgd,adamw optimizer.lr=0.1",
    "-m epochs=1,2 lr=0.1,0.2": "trainrun -m budget=1ep,2ep optimizer.lr=0.1,0.2",
    "-m optimizer=sgd,adamww": "trainrun -m optimizer=sgd,adamw",
    "--epochs 10 --lr 0.1": "trainrun budget=10ep optimizer.lr=0.1",
    "--optimizer.lr=0.1 --max-epochs=3 -m": "trainrun optimizer.lr=0.1 budget=3ep -m",
    "optimizer.lr = 0.1 seed =1 batch_size= 8": "trainrun optimizer.lr=0.1 seed=1 batch_size=8",
    "optimizer adam data=wine": "trainrun optimizer=adam data=wine",
    "train --budget 3": "trainrun budget=3ep",
    "loop.clip=1.0": "trainrun loop.clip.norm=1.0",
    "clip=0.5 loop.stop_at=none": "trainrun loop.clip.norm=0.5 loop.stop_at=null",
    "budget=10epochs": "trainrun budget=10ep",
    "budget=10": "trainrun budget=10ep",
    "budget=3e loop.eval_every=100steps": "trainrun budget=3ep loop.eval_every=100step",
    "monitor=val/acc": "trainrun monitor=val/accuracy",
    "monitor=val_loss": "trainrun monitor=val/loss",
    "seed=1.0 runtime.trust=foo": "trainrun seed=1 'runtime.trust=[foo]'",
    "scheduler=torch scheduler.step_size=3": "trainrun scheduler=torch 'scheduler.arguments={step_size:3}'",
    "scheduler=torch scheduler.gamma=0.5": (
        "trainrun scheduler=torch 'scheduler.arguments={step_size:100,gamma:0.5}'"
    ),
    "scheduler=torch scheduler.name=CosineAnnealingLR scheduler.T_max=9": (
        "trainrun scheduler=torch scheduler.name=CosineAnnealingLR 'scheduler.arguments={T_max:9}'"
    ),
    "data=diabetes task=classification": "trainrun data=diabetes task=regression",
    "data=diabetes task=classification loss=cross_entropy": "trainrun data=diabetes task=regression loss=mse",
    "optimzer=adam": "trainrun optimizer=adam",
    "optimzer=adm": "trainrun optimizer=adam",
    "epxeriment=mnist_mlp": "trainrun experiment=mnist_mlp",
    "mnist_mlp.yaml": "trainrun experiment=mnist_mlp",
    "model.norm=batchnorm runtime.deterministic=1": "trainrun model.norm=batch runtime.deterministic=true",
    "-m regularization=[ema],[dropot]": "trainrun -m 'regularization=[ema],[dropout]'",
}


@pytest.mark.parametrize("words", SPELLINGS, ids=str)
def test_another_tools_spelling_is_answered_with_a_command_that_works(words: str, cli: Any) -> None:
    answer = cli(*shlex.split(words))
    assert answer.code == 2
    assert answer.line == SPELLINGS[words]
    corrected = shlex.split(answer.line)[1:]
    if corrected[0] == "resume":
        return
    arguments, composer = parse_arguments(corrected), Composer()
    jobs = (composer.compose_sweep if arguments.multirun else lambda w: [composer.compose(w)])(
        arguments.overrides
    )
    assert [check(job.settings, job.explicit, job.files) for job in jobs] == [[]] * len(jobs)


UNMENDED = [
    *("lr=abc", "epochs=x", "momentum=0.9", "epochs=3 optimizer=nope", "--foo", "--lr abc", "budget=5000"),
    *("optimzer=nope", "monitor=val/bleu", "loop.clip=-1", "scheduler=torch scheduler.step_sise=3"),
]


@pytest.mark.parametrize("words", UNMENDED)
def test_no_command_is_offered_that_would_fail_again(words: str, cli: Any) -> None:
    answer = cli(*shlex.split(words))
    assert (answer.code, answer.line) == (2, None)


LIGHT = [
    *("optimizer=adamww", "optimzer=adamw", "optimizer.lrr=1", "optimizer.lr=abc", "model.dropout=2"),
    *("loop.clip=1.0", "budget=10epochs", "monitor=val/acc"),
]
BY_HYDRA = ["--lr=0.1", "task=regression", "nope.yaml", "optimizer.betas=[1,2]"]


@pytest.mark.parametrize("word", LIGHT)
def test_mistakes_in_plain_words_import_neither_torch_nor_hydra(word: str, folder: Path) -> None:
    done = run_counted(word)
    assert done.code == 2
    assert_light(done, 205, ("torch", "hydra", "omegaconf", "numpy", "rich"))  # 193 today


@pytest.mark.parametrize("word", BY_HYDRA)
def test_other_mistakes_import_hydra_and_not_torch(word: str, folder: Path) -> None:
    done = run_counted(word)
    assert done.code == 2
    assert_light(done, 425, ("torch", "numpy", "rich"))  # 416 with Hydra 1.3.8; torch brings 900 more


OPTIONS = sorted(CONF.glob("*/*.yaml"))
EXPERIMENTS = [file for file in OPTIONS if file.parent.name == "experiment"]
CALLS = [file for file in OPTIONS if file not in EXPERIMENTS and "_target_:" in file.read_text()]


def node_of(file: Path) -> tuple[str, dict[str, Any]]:
    """(its place in the config, its call)."""
    tree = yaml.safe_load(file.read_text())
    group, package = file.parent.name, re.search(r"# @package (\S+)", file.read_text())
    place = package[1] if package else group
    return (group, tree[group]) if place == "_global_" else (place, tree)


@pytest.mark.parametrize("file", CALLS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_option_has_all_of_its_calls_arguments_and_no_others(file: Path) -> None:
    place, node = node_of(file)
    slot = slot_of(place)
    assert slot is not None
    module, _, name = node["_target_"].rpartition(".")
    parameters = inspect.signature(getattr(import_module(module), name)).parameters
    named = {
        key
        for key, parameter in parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    configured = named - set(slot.offers) - set(slot.extras)
    nested = {key for key in node if slot_of(f"{place}.{key}")}  # calls of their own, below this one
    assert set(node) - {"_target_"} - set(slot.extras) - nested == configured - nested
    for key in configured:
        assert parameters[key].default is inspect.Parameter.empty, f"{key} has a second default in Python"


@pytest.mark.parametrize("file", CALLS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_argument_has_a_comment(file: Path) -> None:
    _, node = node_of(file)
    lines = file.read_text().splitlines()
    for key, value in node.items():
        if key != "_target_" and not isinstance(value, dict):
            (line,) = [line for line in lines if re.match(rf"\s*{key}:", line)]
            assert " # " in line or (key == "name" and file.parent.name == "data"), line


@pytest.mark.parametrize("file", CALLS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_option_checks_clean(
    file: Path, defaults: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainrun.config.rules.find_spec", lambda name: ModuleSpec(name, None, origin=name))
    place, node = node_of(file)
    if "???" in node.values():
        pytest.skip("must be a value from its user")
    group, _, member = place.partition(".")
    node = yaml.safe_load(yaml.safe_dump(node).replace("${seed}", "0"))
    changed = {**defaults, group: {member: node} if member else node}
    if file.stem == "gan":  # its model, task and step need each other
        changed = {**Composer().compose(["experiment=gan"]).settings, group: node}
    if file.stem == "schedule_free":  # which chooses its schedule
        changed["scheduler"] = node_of(file.parents[1] / "scheduler" / "warmup_constant.yaml")[1]
    if place == "optimizer" and file.stem == "own":  # which belongs to a LightningModule
        changed["scheduler"] = node_of(file.parents[1] / "scheduler" / "constant.yaml")[1]
        changed |= {"task": node_of(file.parents[1] / "task" / "lightning.yaml")[1], "monitor": "val/loss"}
    if group in ("task", "loss"):  # each of the two is judged beside the other
        fitting = {"task": "loss", "loss": "task"}[group]
        changed[fitting] = {"_target_": f"my_{fitting}.Anything"}
        problems = [p for p in check(changed) if not p.key.startswith((fitting, "monitor"))]
    else:
        problems = check(changed)
    assert problems == []


@pytest.fixture(scope="module")
def defaults() -> dict[str, Any]:
    return Composer().compose([]).settings


def test_every_option_composes() -> None:
    """One option of every group at a time; Hydra's own errors would surface here."""
    groups: dict[str, list[str]] = {}
    for file in OPTIONS:
        if file.parent.name not in ("experiment", "hydra"):
            groups.setdefault(file.parent.name, []).append(file.stem)
    for turn in range(max(map(len, groups.values()))):
        words = [f"{group}={options[turn % len(options)]}" for group, options in groups.items()]
        choices = Composer().compose([w for w in words if w != "data=dataset"]).choices
        assert all(
            choices[w.split("=")[0]] in (w.split("=")[1], [w.split("=")[1]], "digits")
            for w in words
            if not w.endswith("=auto")  # the data's choice takes its place
        )


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_every_experiment_checks_clean(file: Path) -> None:
    needed = ["data.root=photos"] if file.stem == "finetune" else []
    composed = Composer().compose([f"experiment={file.stem}", *needed])
    assert check(composed.settings, composed.explicit) == []
