"""Sixty and more mistakes as people make them: the exit code, one clear message, nothing on the disk."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

# (command line, exit code, what the message says)
ROWS: list[tuple[str, int, str]] = [
    # other tools' forms
    ("--lr 0.1", 2, r"^command line: a setting is written KEY=VALUE.*got --lr 0\.1"),
    ("optimizer.lr = 0.1", 2, r"^command line: .*got optimizer\.lr = 0\.1"),
    ("--epochs=3 --bs 8", 2, r"trainrun budget=3ep batch_size=8$"),
    ("lr=0.1", 2, r"^lr: is called optimizer\.lr here"),
    ("max_epochs=3", 2, r"^max_epochs: is called budget here"),
    ("fast_dev_run=true", 2, r"^fast_dev_run: "),
    ("ckpt_path=x", 2, r"^ckpt_path: is a command here"),
    ("gpus=1", 2, r"^gpus: is runtime\.device here"),
    ("loop.clip=1.0", 2, r"^loop\.clip: .*did you mean loop\.clip\.norm\?"),
    # names
    ("trian", 2, r"^trian: no such command"),
    ("--foo", 2, r"^command line: .*--foo"),
    ("optimizer=adamww", 2, r"^optimizer: no option 'adamww'; did you mean adamw\?"),
    ("optimzer=adamw", 2, r"^optimzer: .*did you mean optimizer\?"),
    ("optimizer.lrr=1", 2, r"^optimizer\.lrr: .*did you mean lr\?"),
    ("nonsense=1", 2, r"^nonsense: no such setting"),
    ("model.width=8", 2, r"^model\.width: CNN takes no 'width'"),
    ("experiment=nope", 2, r"^experiment: no option 'nope'"),
    ("nope.yaml", 2, r"^nope\.yaml: there is no such file"),
    ("~optimizer", 2, r"^optimizer: cannot be left out"),
    ("loss=nll", 2, r"^loss: no option|^loss: nll "),
    ("model=../../x", 2, r"^model: no option '\.\./\.\./x'"),
    # values
    ("optimizer.lr=-1", 2, r"^optimizer\.lr: must be a number greater than 0, got -1"),
    ("optimizer.lr=abc", 2, r"^optimizer\.lr: must be a number greater than 0, got 'abc'"),
    ("optimizer.lr=.nan", 2, r"^optimizer\.lr: must be a finite number"),
    ("optimizer.lr=[1", 2, r"^optimizer\.lr=\[1: cannot be read"),
    ("optimizer.betas=0.9", 2, r"^optimizer\.betas: must be a list of 2"),
    ("batch_size=0", 2, r"^batch_size: must be a whole number of at least 1 or full, got 0"),
    ("batch_size=8.5", 2, r"^batch_size: must be a whole number"),
    ("seed=x", 2, r"^seed: must be a whole number"),
    ("model.dropout=1.5", 2, r"^model\.dropout: must be a number in \[0, 1\), got 1\.5"),
    ("data.val_fraction=2", 2, r"^data\.val_fraction: must be a number in \[0, 1\)"),
    ("runtime.deterministic=maybe", 2, r"^runtime\.deterministic: must be true or false"),
    ("name=a/b", 2, r"^name: must be at most 100 letters"),
    ("optimizer.lr=${nope}", 2, r"^optimizer\.lr: .*'nope' not found"),
    ("optimizer.lr=${oc.env:TRAINRUN_NOPE}", 2, r"^optimizer\.lr: .*TRAINRUN_NOPE"),
    # lengths
    ("budget=10", 2, r"^budget: must be a duration.*write 10step or 10ep"),
    ("budget=10epochs", 2, r"^budget: .*did you mean 10ep\?"),
    ("budget=0ep", 2, r"^budget: must be a duration above 0"),
    ("budget=10%", 2, r"^budget: cannot be a share of itself"),
    ("loop.eval_every=5s", 2, r"^loop\.eval_every: .*clock units"),
    ("scheduler.warmup=200%", 2, r"scheduler\.warmup"),
    # contradictions
    ("monitor=test/accuracy", 2, r"^monitor: .*test split"),
    ("monitor=val/acc", 2, r"^monitor: the task has no metric acc; did you mean val/accuracy\?"),
    ("monitor_mode=min", 2, r"^monitor_mode: min would keep the worst"),
    (
        "data=diabetes task=classification",
        2,
        r"^task: classification needs classes as targets; diabetes has values",
    ),
    ("data=diabetes loss=cross_entropy", 2, r"^loss: cross_entropy does not fit task=regression"),
    ("data=diabetes model=cnn", 2, r"^model: "),
    ("optimizer=lbfgs loop.clip.norm=1", 2, r"^loop\.clip\.norm: clipped gradients break L-BFGS"),
    ("loop.clip.norm=1 loop.clip.value=1", 2, r"^loop\.clip\.value: cannot be combined with"),
    ("data.val_fraction=0.6 data.test_fraction=0.6", 2, r"^data\.val_fraction: .*nothing to train on"),
    ("resume=auto", 2, r"^resume: auto needs a folder"),
    (
        "regularization.ema.decay=0.9",
        2,
        r"^regularization: regularization\.ema is set, but ema is not selected",
    ),
    # what is called
    (
        "model._target_=os.system",
        2,
        r"^model\._target_: os\.system is a function of neither|^model\._target_: os",
    ),
    ("model._target_=my.Net", 2, r"^model\._target_: there is no module my"),
    ("model._target_=torch.nn.Linaer", 2, r"^model\._target_: .*did you mean Linear\?"),
    ("checkpoint.folder=/tmp", 2, r"^checkpoint\.folder: is set by the run itself"),
    ("runtime.device=gpu", 2, r"^runtime\.device: "),
    # sweeps
    ("optimizer=sgd,adamw", 2, r"^optimizer: several values make a sweep; add -m"),
    ("-m optimizer.lr=0.1,abc", 2, r"^optimizer\.lr: must be a number greater than 0, got 'abc'"),
    ("-m optimizer=sgd,adamww", 2, r"trainrun -m optimizer=sgd,adamw$"),
    # Hydra itself
    ("hydra.run.dir=x", 2, r"^hydra\.run\.dir: is called run_dir here"),
    ("--config-dir nope", 2, r"^command line: --config-dir must be a folder, got nope"),
    ("-cn other", 2, r"^command line: --config-name is not supported"),
    # data and folders
    ("data=mnist data.root=nowhere", 4, r"^data\.root: no mnist files below nowhere"),
    ("data=dataset", 2, r"^data\.train: needs a value"),
    ("run_dir=file.txt data=iris budget=1step", 6, r"^run_dir: file\.txt is a file"),
    ("run_dir=full data=iris budget=1step", 6, r"^run_dir: full is not empty"),
    # files
    ("broken.yaml", 2, r"^broken\.yaml:2: is not valid YAML"),
    ("list.yaml", 2, r"^list\.yaml:1: is not a mapping of settings"),
    ("wrong.yaml", 2, r"^seedd: .*did you mean seed\?.*\(wrong\.yaml:1\)"),
    ("wrong", 2, r"^wrong: no such command, but there is a file of that name"),
    # the other commands
    ("resume", 2, r"^RUN: name the run to resume"),
    ("resume last", 5, r"^RUN: there is no run in outputs/ yet"),
    ("resume nothing", 5, r"^RUN: no run is called nothing"),
    ("eval", 2, r"RUN"),
    ("eval nothing", 5, r"^RUN: no run is called nothing"),
    ("eval full", 5, r"full"),
    ("show optimizerr", 2, r"^optimizerr: no such topic; did you mean optimizer\?"),
    ("show trainer", 2, r"^trainer: no such topic; did you mean loop\?"),
    ("runs --nonsense", 2, r"nonsense"),
]
FILES = {
    "file.txt": "a file\n",
    "full/something": "not a run\n",
    "broken.yaml": "seed: 1\n bad: [\n",
    "list.yaml": "- 1\n",
    "wrong.yaml": "seedd: 1\n",
}


def test_there_are_enough() -> None:
    assert len({words for words, _, _ in ROWS}) == len(ROWS) >= 60


@pytest.mark.parametrize(("words", "code", "text"), ROWS, ids=[words for words, _, _ in ROWS])
def test_a_mistake_is_answered(words: str, code: int, text: str, command: Any, tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    done = command(*shlex.split(words), code=code)
    assert re.search(text, done.err, re.MULTILINE), done
    assert done.out == "" and "unexpected" not in done.err
    assert len(done.err.splitlines()) <= 6  # the message, and the corrected command
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(FILES)
    assert not (tmp_path / "outputs").exists()
