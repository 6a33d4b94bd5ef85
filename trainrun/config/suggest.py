"""Suggestions: did you mean, other tools' spellings, values quoted for the shell, the corrected command."""

from __future__ import annotations

import difflib
import itertools
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from trainrun.config.overrides import Override, key_of
from trainrun.terminal.visible import visible
from trainrun.vocabulary.errors import Problem

# (our key, how its value is written) -> what other tools call it.
_ELSEWHERE = {
    ("budget", "{}ep"): "epochs epoch max_epochs num_epochs num_train_epochs",
    ("budget", "{}step"): "steps max_steps max_iters",
    ("optimizer.lr", "{}"): "lr learning_rate",
    ("optimizer.weight_decay", "{}"): "wd weight_decay",
    ("optimizer.momentum", "{}"): "momentum",
    ("batch_size", "{}"): "bs batch",
    ("runtime.device", "{}"): "device accelerator",
    ("runtime.threads", "{}"): "threads",
    ("data.num_workers", "{}"): "workers num_workers",
    ("loop.clip.norm", "{}"): "clip clip_norm grad_clip clip_grad max_grad_norm gradient_clip_val",
    ("loop.accumulate", "{}"): "accumulate_grad_batches gradient_accumulation_steps grad_accum_steps",
    ("model.dropout", "{}"): "dropout",
    ("seed", "{}"): "random_seed",
    ("run_dir", "{}"): "output_dir out_dir",
    ("runtime.compile", "{}"): "compile",
    ("runtime.activation_checkpointing", "auto"): "gradient_checkpointing activation_checkpointing",
    ("runtime.deterministic", "{}"): "deterministic",
    ("scheduler.warmup", "{}step"): "warmup_steps",
    ("scheduler.warmup", "{}ep"): "warmup_epochs",
    ("data.root", "{}"): "data_dir data_root",
    ("data.separator", "{}"): "delimiter sep",
    ("data", "{}"): "dataset",
    ("model", "{}"): "arch",
    ("optimizer", "{}"): "opt",
    ("scheduler", "{}"): "sched lr_scheduler",
    ("loss", "{}"): "criterion",
}
SPELLINGS = {word: ours for ours, words in _ELSEWHERE.items() for word in words.split()}
_PRECISIONS = {"fp16": "16 16-mixed float16 half", "bf16": "bf16-mixed bfloat16", "fp32": "32 float32"}
PRECISIONS = {word: ours for ours, words in _PRECISIONS.items() for word in words.split()}
_RENAMED = (
    ("loss", "mae", "l1"),
    *(("scheduler", "onecycle", "one_cycle"), ("scheduler", "sgdr", "cosine_restarts")),
    *(("init", "he", "kaiming_normal"), ("init", "he_normal", "kaiming_normal")),
    *(("init", "he_uniform", "kaiming_uniform"), ("init", "glorot", "xavier_uniform")),
)
# Options that do not exist for a reason.
_NOT_OFFERED = {
    "optimizer": ("newton", "kfac", "k-fac", "shampoo", "natural_gradient"),
    "task": ("ppo", "dqn", "dpo", "grpo", "rlhf"),
    "experiment": ("ppo", "dqn"),
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
    ("init", "xavier"): ("is called xavier_uniform or xavier_normal", "xavier_uniform"),
    ("init", "kaiming"): ("is called kaiming_normal or kaiming_uniform", "kaiming_normal"),
    **{(group, name): (f"is called {ours} here", ours) for group, name, ours in _RENAMED},
}


def in_our_words(word: str) -> str:
    """`epochs=3` as `budget=3ep`; any other override as it is."""
    override = Override.parse(word)
    if override.value is None or override.prefix or override.key not in SPELLINGS:
        return word
    key, form = SPELLINGS[override.key]
    return f"{key}={form.format(override.value)}"


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The most alike of `words`, or the only one that begins so; None where there is none."""
    by_lower = {name.lower(): name for name in words}
    # At least 0.6 alike: `optimzer` finds optimizer, words that share only a few letters find nothing.
    if alike := difflib.get_close_matches(word.lower(), by_lower, n=1):
        return by_lower[alike[0]]
    longer = [name for name in by_lower if len(word) > 1 and name.startswith(word.lower())]
    return by_lower[longer[0]] if len(longer) == 1 else None


def did_you_mean(word: str, words: Iterable[str]) -> str:
    near = nearest(word, words)
    return f"; did you mean {near}?" if near else ""


def hydra_value(value: Any) -> str:
    """A value as Hydra's override grammar reads it back unchanged."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
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
    quote = "'" if '"' in text and "'" not in text else '"'  # double ones fit inside the shell's single ones
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
    """The problems of all jobs of a sweep, each once. A fix stays only where it helps every job."""
    fixes: dict[Problem, list[str | None]] = {}
    for problem in itertools.chain(*jobs):
        fixes.setdefault(replace(problem, fix=None), []).append(problem.fix)
    return [
        replace(problem, fix=_common_fix(every) if len(every) == len(jobs) else None)
        for problem, every in fixes.items()
    ]


def _common_fix(fixes: Sequence[str | None]) -> str | None:
    """`key=a,b` of the fixes `key=a` and `key=b`."""
    if len(set(fixes)) == 1:
        return fixes[0]
    overrides = [Override.parse(fix or "") for fix in dict.fromkeys(fixes)]
    if None in fixes or len({override.key for override in overrides}) > 1:
        return None
    return f"{overrides[0].key}={','.join(override.value or '' for override in overrides)}"


def corrected_line(
    words: Sequence[str], problems: Sequence[Problem], command: str = "trainrun"
) -> str | None:
    """The whole command with every problem fixed, quoted for the shell; None where one has no fix.

    A fix replaces the words with the problem's key or with its own key; where there are none, it is added.
    """
    fixes = {problem.key: problem.fix for problem in problems if problem.fix}
    distinct = dict.fromkeys(fixes.values())
    by_key = {key_of(fix): fix for fix in distinct}
    if not fixes or not all(problem.fix for problem in problems) or len(by_key) < len(distinct):
        return None
    if whole := [fix for fix in distinct if fix.split(" ")[0] == "trainrun"]:
        return whole[0]
    line: list[str] = []
    for word in words:
        key = key_of(word)
        corrected = fixes.get(word) or fixes.get(key) or by_key.get(key) or word
        if corrected == word or corrected not in line:
            line.append(corrected)
    line += [fix for fix in distinct if fix not in line]
    return shell_line([*command.split(), *line])
