"""Nearest names, other tools' spellings, and values quoted so that they can be pasted."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from trainrun.terminal.visible import visible
from trainrun.vocabulary.errors import Problem

# What other tools call it -> (key, how its value is written).
SPELLINGS: dict[str, tuple[str, str]] = {
    "epochs": ("budget", "{}ep"),
    "epoch": ("budget", "{}ep"),
    "max_epochs": ("budget", "{}ep"),
    "num_epochs": ("budget", "{}ep"),
    "num_train_epochs": ("budget", "{}ep"),
    "steps": ("budget", "{}step"),
    "max_steps": ("budget", "{}step"),
    "max_iters": ("budget", "{}step"),
    "lr": ("optimizer.lr", "{}"),
    "learning_rate": ("optimizer.lr", "{}"),
    "wd": ("optimizer.weight_decay", "{}"),
    "weight_decay": ("optimizer.weight_decay", "{}"),
    "momentum": ("optimizer.momentum", "{}"),
    "bs": ("batch_size", "{}"),
    "batch": ("batch_size", "{}"),
    "device": ("runtime.device", "{}"),
    "accelerator": ("runtime.device", "{}"),
    "threads": ("runtime.threads", "{}"),
    "workers": ("data.num_workers", "{}"),
    "num_workers": ("data.num_workers", "{}"),
    "clip": ("loop.clip.norm", "{}"),
    "clip_norm": ("loop.clip.norm", "{}"),
    "grad_clip": ("loop.clip.norm", "{}"),
    "clip_grad": ("loop.clip.norm", "{}"),
    "max_grad_norm": ("loop.clip.norm", "{}"),
    "gradient_clip_val": ("loop.clip.norm", "{}"),
    "accumulate_grad_batches": ("loop.accumulate", "{}"),
    "gradient_accumulation_steps": ("loop.accumulate", "{}"),
    "grad_accum_steps": ("loop.accumulate", "{}"),
    "dropout": ("model.dropout", "{}"),
    "random_seed": ("seed", "{}"),
    "output_dir": ("run_dir", "{}"),
    "out_dir": ("run_dir", "{}"),
    "compile": ("runtime.compile", "{}"),
    "deterministic": ("runtime.deterministic", "{}"),
    "warmup_steps": ("scheduler.warmup", "{}step"),
    "warmup_epochs": ("scheduler.warmup", "{}ep"),
    "data_dir": ("data.root", "{}"),
    "data_root": ("data.root", "{}"),
    "delimiter": ("data.separator", "{}"),
    "sep": ("data.separator", "{}"),
    "dataset": ("data", "{}"),
    "arch": ("model", "{}"),
    "opt": ("optimizer", "{}"),
    "sched": ("scheduler", "{}"),
    "lr_scheduler": ("scheduler", "{}"),
    "criterion": ("loss", "{}"),
}
PRECISIONS = {
    "16": "fp16",
    "16-mixed": "fp16",
    "float16": "fp16",
    "half": "fp16",
    "bf16-mixed": "bf16",
    "bfloat16": "bf16",
    "32": "fp32",
    "float32": "fp32",
}
# Options that do not exist for a reason.
_NOT_OFFERED = {
    "optimizer": ("newton", "kfac", "k-fac", "shampoo", "natural_gradient"),
    "model": ("gan", "dcgan", "wgan"),
    "task": ("gan", "ppo", "dqn", "dpo", "grpo", "rlhf"),
    "experiment": ("gan", "ppo", "dqn"),
}
REFUSED: dict[tuple[str, str], tuple[str, str | None]] = {
    (group, name): (f"is not offered; see trainrun show {name}", None)
    for group, names in _NOT_OFFERED.items()
    for name in names
} | {
    ("loss", "bce"): (
        "is binary cross-entropy on probabilities, which is not offered: log(0) loses the gradient of a "
        "confident mistake; bce_with_logits computes the same from logits, exactly",
        "bce_with_logits",
    ),
    ("loss", "nll"): (
        "takes log-probabilities; cross_entropy computes the same from logits",
        "cross_entropy",
    ),
    ("loss", "mae"): ("is called l1 here", "l1"),
    ("scheduler", "onecycle"): ("is called one_cycle here", "one_cycle"),
    ("scheduler", "sgdr"): ("is called cosine_restarts here", "cosine_restarts"),
    ("init", "he"): ("is called kaiming_normal here", "kaiming_normal"),
    ("init", "he_normal"): ("is called kaiming_normal here", "kaiming_normal"),
    ("init", "he_uniform"): ("is called kaiming_uniform here", "kaiming_uniform"),
    ("init", "glorot"): ("is called xavier_uniform here", "xavier_uniform"),
    ("init", "xavier"): ("is called xavier_uniform or xavier_normal", "xavier_uniform"),
    ("init", "kaiming"): ("is called kaiming_normal or kaiming_uniform", "kaiming_normal"),
}


def in_our_words(word: str) -> str:
    """`epochs=3` as `budget=3ep`; any other override as it is."""
    key, is_value, value = word.partition("=")
    name, form = SPELLINGS.get(key, (key, "{}"))
    return f"{name}={form.format(value)}" if is_value else word


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The most alike of `words`, or the only one that begins so; None where there is none."""
    by_lower = {one.lower(): one for one in words}
    found = difflib.get_close_matches(word.lower(), by_lower, 1, 0.6)
    begun = [one for one in by_lower if len(word) > 1 and one.startswith(word.lower())]
    return by_lower[found[0]] if found else by_lower[begun[0]] if len(begun) == 1 else None


def did_you_mean(word: str, words: Iterable[str]) -> str:
    near = nearest(word, words)
    return f"; did you mean {near}?" if near else ""


def hydra_value(value: Any) -> str:
    """A value as Hydra's override grammar reads it back unchanged."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(hydra_value, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_key(key)}:{hydra_value(item)}" for key, item in value.items()) + "}"
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z_/][\w./%-]*|\d+(\.\d+)?(ep|step|sample|s|min|h|%)", text)
    if plain and text.lower() not in ("null", "true", "false", "nan", "inf"):
        return text
    quote = "'" if '"' in text and "'" not in text else '"'  # double ones stand well inside the shell's
    text = re.sub(r"(\\+)$", lambda match: match[1] * 2, text)
    return quote + re.sub(rf"(\\*){quote}", lambda match: match[1] * 2 + "\\" + quote, text) + quote


def _key(key: Any) -> str:
    """A key inside braces, which Hydra's grammar does not let be quoted."""
    if isinstance(key, (bool, int, float)) or key is None:
        return hydra_value(key)
    return re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", str(key))


def shown(value: Any) -> str:
    """A value as messages name it."""
    try:
        return "null" if value is None else shortened(repr(value))
    except ValueError:
        return "a number of more than 4,300 digits"


def shortened(text: str, length: int = 80) -> str:
    """A text that is too long to be shown, by its beginning."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text):,} characters)"


def override(key: str, value: Any) -> str:
    """`key=value` ready for bash and zsh."""
    return shell_word(f"{key}={hydra_value(value)}")


def shell_word(word: str) -> str:
    """A word as bash and zsh read it back unchanged; what a terminal would obey is written as an escape."""
    if visible(word) == word:
        quoted = shlex.quote(word)
        return f"'{word}'" if quoted.startswith("=") else quoted  # zsh takes =word for a command's path
    return "$'" + "".join(map(_in_ansi_quotes, word)) + "'"


def _in_ansi_quotes(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte that is no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    if visible(char) != char:
        code = ord(char)
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return f"\\{char}" if char in "\\'" else char


def shell_line(words: Iterable[str]) -> str:
    """A whole command, ready for bash and zsh."""
    return " ".join(map(shell_word, words))


def together(jobs: Sequence[Sequence[Problem]]) -> list[Problem]:
    """The problems of all jobs of a sweep, each once. A fix stays only where it mends every job."""
    found: dict[str, list[Problem]] = {}
    for problem in (one for problems in jobs for one in problems):
        found.setdefault(str(problem), []).append(problem)
    return [
        Problem(same[0].key, same[0].text, _common_fix(same) if len(same) == len(jobs) else None)
        for same in found.values()
    ]


def _common_fix(same: Sequence[Problem]) -> str | None:
    """`key=a,b` of the fixes `key=a` and `key=b`."""
    fixes = dict.fromkeys(problem.fix for problem in same)
    if len(fixes) == 1:
        return same[0].fix
    if None in fixes or len({str(fix).partition("=")[0] for fix in fixes}) > 1:
        return None
    key = str(same[0].fix).partition("=")[0]
    return f"{key}={','.join(str(fix).partition('=')[2] for fix in fixes)}"


def corrected_line(
    words: Sequence[str], problems: Sequence[Problem], command: str = "trainrun"
) -> str | None:
    """The whole command with every problem mended, quoted for the shell; None where one has no fix.

    A problem's `fix` replaces the words with its key or its own, or is added where no word has it.
    """
    fixes = {problem.key: problem.fix for problem in problems if problem.fix}
    distinct = dict.fromkeys(fixes.values())
    by_own_key = {fix.partition("=")[0]: fix for fix in distinct}
    if not fixes or not all(problem.fix for problem in problems) or len(by_own_key) < len(distinct):
        return None
    for fix in distinct:
        if fix.split(" ")[0] == "trainrun":
            return fix
    line: list[str] = []
    for word in words:
        key = word.lstrip("+~").split("=")[0]
        mended = fixes.get(word) or fixes.get(key) or by_own_key.get(key) or word
        if mended == word or mended not in line:
            line.append(mended)
    line += [fix for fix in distinct if fix not in line]
    return shell_line([*command.split(), *line])
