"""Put the sections of the script together, below the imports and the numbers that they need."""

from __future__ import annotations

import textwrap

from trainrun.assembly.build import Parts
from trainrun.report.as_code.data import data_section
from trainrun.report.as_code.loop import evaluate_section, loop_section
from trainrun.report.as_code.model import AVERAGE, machine_section, model_section
from trainrun.report.as_code.optimizer import optimizer_section, rate_constants, schedule_section
from trainrun.report.as_code.text import Imports
from trainrun.vocabulary.duration import parse, to_steps

_HEAD = '''"""A run of trainrun as plain PyTorch: same data, first weights, order and updates.

{command}

It ends with the weights of that command, to rounding, in last.pt and best.pt.
Left out are checkpoints, resuming, logs and reports.
"""

'''
_TORCH = "import torch\nfrom torch import Tensor, nn\n"


def script(parts: Parts, command: str) -> str:
    """The composed run as the text of a program. Raises ConfigError for what that cannot say."""
    imports, ema = Imports(), (parts.settings["regularization"] or {}).get("ema")
    start = (
        model_section(parts, imports) + (f"\n\n{AVERAGE}\n\n\n" if ema else "\n\n") + optimizer_section(parts)
    )
    sections = [data_section(parts, imports), start, schedule_section(parts), evaluate_section(parts)]
    body = f"{machine_section(parts)}\n\n" + "\n\n\n".join([*sections, loop_section(parts)])
    standard = [f"import {name}\n" for name in ("copy", "itertools", "math") if f"{name}." in body]
    top = "".join([*standard, "from collections.abc import Iterator\n\n", _TORCH])
    numbers = [*_numbers(parts), *rate_constants(parts)]
    numbers += [f"EMA_DECAY = {ema['decay']!r}  # share of the average that stays"] if ema else []
    wrapped = textwrap.wrap(command, 80, break_long_words=False, break_on_hyphens=False)
    head = _HEAD.format(command=textwrap.indent(" \\\\\n    ".join(wrapped), "    "))
    return head + top + "\n".join([*imports.lines(), "", *numbers]) + f"\n\n{body}\n"


def _numbers(parts: Parts) -> list[str]:
    """Lines of the numbers that the loop needs."""
    settings, spec = parts.settings, parts.batch_spec
    lines = [
        f"SEED = {settings['seed']}",
        f"STEPS = {parts.state.total_steps}  # updates: {settings['budget']}",
    ]
    lines.append(f"BATCH_SIZE = {spec.batch_size}")
    lines.append(f"ACCUMULATE = {settings['loop']['accumulate']}  # micro-batches per update")
    every = to_steps(parse(settings["loop"]["eval_every"]), parts.pace)
    return [*lines, f"EVAL_EVERY = {every}  # updates"] if parts.monitor is not None else lines
