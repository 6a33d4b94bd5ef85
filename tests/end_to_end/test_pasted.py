"""Every command that a refusal prints: pasted into bash and zsh it means what was meant, and is taken."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import yaml

from trainrun.check.finding import CheckResult, CheckSection
from trainrun.config.check import problems_of
from trainrun.config.compose.composer import Composer, experiment_files, parse_arguments
from trainrun.config.compose.experiments import EXPERIMENTS
from trainrun.report.checked import report
from trainrun.vocabulary.errors import ConfigError

SHELLS = [shell for shell in ("bash", "zsh") if shutil.which(shell)]
NAMED = re.compile(r"continue it with (trainrun resume (?:'[^']*'|\"[^\"]*\"|[^\s',])+)")


def printed(text: str) -> list[str]:
    """The commands in a message: a line of its own, or one in the text."""
    own = [line.strip() for line in text.splitlines() if re.match(r"\s+(torchrun .*)?trainrun( |$)", line)]
    return own + [match[1] for line in text.splitlines() if (match := NAMED.search(line))]


def pasted(shell: str, lines: Iterable[str], folder: Path) -> list[list[str]]:
    """The words that a `trainrun` gets from each line, in a folder where `*` and `?` match files."""
    flags = ["-f"] if shell == "zsh" else ["--norc", "--noprofile"]
    script = "trainrun() { printf '%s\\0' \"$@\"; printf '\\1'; }\n" + "\n".join(lines)
    done = subprocess.run([shell, *flags], input=script, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return [words.split("\0")[:-1] for words in done.stdout.split("\1")[:-1]]


def assert_taken(words: list[str]) -> None:
    """A line that trains composes, and nothing is wrong with it."""
    arguments = parse_arguments(experiment_files([word for word in words if word != "-q"]))
    composer = Composer(arguments.config_dir)
    compose = composer.compose_sweep if arguments.multirun else lambda texts: [composer.compose(texts)]
    for job in compose(arguments.overrides):
        assert not problems_of(job)


# What is typed -> what the printed line must hand to trainrun.
MISTAKES: dict[str, list[str]] = {
    "epochs=10 lr=0.1": ["budget=10ep", "optimizer.lr=0.1"],
    "lr=0.1 'regularization=[mixup,ema]'": ["optimizer.lr=0.1", "regularization=[mixup,ema]"],
    "'regularization=[ema]' regularization.label_smoothing.amount=0.2": [
        *("regularization=[ema,label_smoothing]", "regularization.label_smoothing.amount=0.2"),
    ],
    "'regularization=[ema]' +regularization.label_smoothing.amount=0.2 epochs=1": [
        *("regularization=[ema,label_smoothing]", "+regularization.label_smoothing.amount=0.2", "budget=1ep"),
    ],
    "epochs=2 \"run_dir='two words'\"": ["budget=2ep", "run_dir='two words'"],
    "epochs=2 \"run_dir='it\\\\'s'\"": ["budget=2ep", "run_dir='it\\'s'"],
    "epochs=2 'run_dir=~/x'": ["budget=2ep", "run_dir=~/x"],
    "epochs=2 'parameters.rules={head*:{lr:0.1}}'": ["budget=2ep", "parameters.rules={head*:{lr:0.1}}"],
    "epochs=2 \"parameters.rules={'*.weight':{lr:0.1}}\"": [],
    "scheduler=torch scheduler.gamma=0.5": [
        "scheduler=torch",
        "scheduler.arguments={step_size:100,gamma:0.5}",
    ],
    "--lr 0.1 'loss.class_weights=[1,2,1]' data=iris": [
        *("optimizer.lr=0.1", "loss.class_weights=[1,2,1]", "data=iris"),
    ],
    "-m 'optimizer.lr=tag(log,interval(1e-5,1e-1))' hydra/sweeper=random sweep.trials=2 epochs=1": [
        *("-m", "optimizer.lr=tag(log,interval(1e-5,1e-1))", "hydra/sweeper=random", "sweep.trials=2"),
        "budget=1ep",
    ],
    "-m 'seed=range(3)' 'data.fold=range(5)' epochs=1": [
        *("-m", "seed=range(3)", "data.fold=range(5)", "budget=1ep"),
    ],
    "seed=1.0 runtime.trust=foo": ["seed=1", "runtime.trust=[foo]"],
    "runtime.trust=foo 'run_dir=${oc.env:HOME}/x'": ["runtime.trust=[foo]", "run_dir=${oc.env:HOME}/x"],
    "'my file.yml' epochs=2": ["my file.yaml", "budget=2ep"],
    "ckpt_path='my run'": ["resume", "my run"],
    "show optimzer": ["show", "optimizer"],
    "runs --clean": ["runs", "--clean", "--yes"],
    "check epochs=2 'regularization=[ema]'": ["check", "budget=2ep", "regularization=[ema]"],
    "check --exact budget=5s": ["check", "--exact", "budget=2ep"],
    "find-lr --min 1e-5 epochs=2 'regularization=[ema]'": [
        *("find-lr", "--min", "1e-5", "budget=2ep", "regularization=[ema]"),
    ],
    "find-batch epochs=2": ["find-batch", "budget=2ep"],
    "plot scheduler cosine 'step(every=1ep)' budget=5s": [
        *("plot", "scheduler", "cosine", "step(every=1ep)", "budget=2ep"),
    ],
}


def test_a_mistakes_line_can_be_pasted_and_is_taken(
    command: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    EXPERIMENTS.clear()
    (tmp_path / "my file.yaml").write_text("budget: 1ep\n")
    remnant = tmp_path / "outputs/2026-01-01/failed"
    remnant.mkdir(parents=True)
    os.utime(remnant, (1, 1))
    lines: dict[str, str] = {}
    for typed, meant in MISTAKES.items():
        said = command(*shlex.split(typed), code=2)
        found = printed(said.err)
        assert len(found) <= 1, said
        if meant:
            assert found, (typed, said)
        if found:
            lines[typed] = found[0]
    for shell in SHELLS:
        received = pasted(shell, lines.values(), tmp_path)
        for (typed, line), words in zip(lines.items(), received, strict=True):
            assert words == (MISTAKES[typed] or shlex.split(line)[1:]), (shell, typed, line)
            is_training = "=" in words[0] or words[0].startswith("-m") or words[0].endswith(".yaml")
            if is_training and shell == SHELLS[0]:
                assert_taken(words)


QUICK = ("budget=4step", "logger=none", "-q")
BEGUN = ("data=iris", "loss.class_weights=[1,2,1]", "regularization=[label_smoothing,ema]", "name=a")


def test_a_refused_resume_prints_the_new_run_that_was_meant(
    command: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my exp.yaml").write_text("optimizer:\n  lr: 0.01\nbatch_size: 16\n")
    command("my exp.yaml", *BEGUN, *QUICK, "run_dir='my run'")
    first = ["my exp.yaml", *BEGUN[:1], *BEGUN[2:3], *QUICK[:2]]
    stored = ["loss.class_weights=[1,2,1]"]
    cases = {
        ("loss.class_weights=[1,2,3]",): [*first, "loss.class_weights=[1,2,3]"],
        ("seed=3", "model.activation=gelu", "optimizer.lr=0.1"): [
            *("my exp.yaml", "data=iris", *stored, *first[2:]),
            *("seed=3", "model.activation=gelu", "optimizer.lr=0.1"),
        ],
        ("seed=3", "scheduler=step"): [
            "my exp.yaml",
            "data=iris",
            *stored,
            *first[2:],
            "seed=3",
            "scheduler=step",
        ],
    }
    expected = [[*words, 'init_from="my run"'] for words in cases.values()]
    refused = [command("resume", "my run", *words, code=2) for words in cases]
    lines = []
    for done in refused:
        assert "which init_from starts from stored weights" in done.err
        lines += printed(done.err)
    for shell in SHELLS:
        assert pasted(shell, lines, tmp_path) == expected
    for words in expected:
        EXPERIMENTS.clear()
        assert_taken(words)
    command(*expected[0], "-q")
    assert len(list(tmp_path.glob("outputs/*/*/config.yaml"))) == 1

    shutil.rmtree(tmp_path / "my run/checkpoints")  # no weights to start from, and none are promised
    done = command("resume", "my run", "seed=3", code=2)
    assert "init_from" not in done.err and printed(done.err)


def test_the_other_refusals_about_stored_runs(command: Callable, tmp_path: Path) -> None:
    command("data=iris", *QUICK, "batch_size=8", "run_dir='my run'")
    config = tmp_path / "my run/config.yaml"
    cases: dict[tuple[str, ...], tuple[int, list[str]]] = {
        ("resume", "my run", "batch_size=4"): (2, ["resume", "my run", "batch_size=4", "loop.accumulate=2"]),
        ("resume", "my run", "batch_size=4", "loop.accumulate=3"): (
            *(2, ["resume", "my run", "batch_size=4", "loop.accumulate=2"]),
        ),
        ("resume", "my run", "--budget", "6step"): (2, ["resume", "my run", "budget=6step"]),
        ("data=iris", "run_dir='my run'"): (6, ["resume", "my run"]),
    }
    lines = {words: printed(command(*words, code=code).err) for words, (code, _) in cases.items()}
    settings = yaml.safe_load(config.read_text())
    settings["loss"] = {"_target_": "probe_loss.Loss"}
    settings["model"] = {"_target_": "probe_model.Net"}
    config.write_text(yaml.safe_dump(settings))
    trust = "runtime.trust=[probe_loss,probe_model]"
    for words, meant in {
        ("eval", "my run", "--split", "test"): ["eval", "my run", "--split", "test", trust],
        ("predict", "my run", "runtime.trust=[x]"): [
            "predict",
            "my run",
            "runtime.trust=[x,probe_loss,probe_model]",
        ],
        ("resume", "my run", "budget=9step"): ["resume", "my run", "budget=9step", trust],
    }.items():
        cases[words] = (2, meant)
        lines[words] = printed(command(*words, code=2).err)
    assert all(len(found) == 1 for found in lines.values()), lines
    for shell in SHELLS:
        received = pasted(shell, (found[0] for found in lines.values()), tmp_path)
        assert received == [meant for _, meant in cases.values()]


def test_a_stored_sweeps_line(command: Callable, tmp_path: Path) -> None:
    place = "run_dir='my sweep'"
    words = ["-m", "data=iris", *QUICK[:2], "model.width=4,8", "regularization=[ema,label_smoothing]", place]
    command(*words, "-q")
    folder = tmp_path / "my sweep"
    content = json.loads((folder / "sweep.json").read_text())
    best = [*words[1:4], words[5], "model.width=" + re.search(r"width=(\d)", content["best"]["command"])[1]]
    (folder / "sweep.json").write_text(json.dumps(content | {"words": [*words, "runtime.trust=[os]"]}))
    refused = printed(command("resume", "my sweep", code=2).err)
    for shell in SHELLS:
        received = pasted(shell, [*refused, content["best"]["command"]], tmp_path)
        assert received == [[*words, "runtime.trust=[os]"], best]
    assert_taken(best)


def test_the_fix_of_a_check_can_be_pasted_word_by_word(tmp_path: Path) -> None:
    fix = ("parameters.rules={layer*:{freeze:true}}", "regularization=[ema,swa]", "batch_size=8")
    finding = CheckResult("unused layers", "no gradient", "a gradient", fix)
    lines = [
        line.plain for line in report([("steps", "8")], [CheckSection("layers", (), (finding,))], None, None)
    ]
    printed = next(line.split(maxsplit=1)[1] for line in lines if line.strip().startswith("fix"))
    for shell in SHELLS:
        assert pasted(shell, [f"trainrun {printed}"], tmp_path) == [list(fix)]


def test_the_words_in_a_text_are_quoted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        Composer().checked(["regularization=[ema]", "+regularization.swa.start=0.5"])
    word = str(caught.value).rpartition(": ")[2]
    for shell in SHELLS:
        assert pasted(shell, [f"trainrun {word}"], tmp_path) == [["regularization=[ema,swa]"]]
