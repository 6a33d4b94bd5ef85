"""Put the sections of the script together, below the imports and the numbers that they need."""

from __future__ import annotations

import textwrap

from trainrun.assembly.build import Parts
from trainrun.report.as_code.data import data_section
from trainrun.report.as_code.loop import evaluate_section, loop_section
from trainrun.report.as_code.model import AVERAGE, machine_section, model_section
from trainrun.report.as_code.optimizer import optimizer_section, rate_constants
from trainrun.report.as_code.text import Imports, constants
from trainrun.vocabulary.duration import parse, to_steps


def script(parts: Parts, command: str) -> str:
    """The composed run as the text of a program. Raises ConfigError for what that cannot say."""
    imports, ema = Imports(), (parts.settings["regularization"] or {}).get("ema")
    data, model = data_section(parts, imports), model_section(parts, imports)
    start = f"{model}\n{optimizer_section(parts)}\n" + (f"\n{AVERAGE}\n\n\n" if ema else "")
    body = f"{data}\n{start}{evaluate_section(parts)}\n\n\n{loop_section(parts)}\n"
    standard = "".join(f"import {name}\n" for name in ("copy", "math") if f"{name}." in body)
    rates = rate_constants(parts) | ({"EMA_DECAY": repr(ema["decay"])} if ema else {})
    numbers = f"{constants(_numbers(parts))}\n{constants(rates)}\n{machine_section(parts)}"
    return f"{_head(command)}\n\n{standard}\nimport torch\n{imports.lines(body)}\n\n{numbers}\n{body}"


def _head(command: str) -> str:
    text = f'"""`{command}` as plain PyTorch, with the same weights to rounding.'
    if len(text) < 86:
        return f'{text}"""'
    wrapped = textwrap.wrap(command, 80, break_long_words=False, break_on_hyphens=False)
    lines = textwrap.indent(" \\\\\n    ".join(wrapped), "    ")
    return f'"""As plain PyTorch, with the same weights to rounding in last.pt and best.pt:\n\n{lines}\n"""'


def _numbers(parts: Parts) -> dict[str, str]:
    """The numbers that the loop needs, by name."""
    values = {"SEED": parts.settings["seed"], "STEPS": parts.state.total_steps}
    values["BATCH_SIZE"], accumulate = parts.batch_spec.batch_size, parts.batch_spec.accumulate
    values |= {"ACCUMULATE": accumulate, "WINDOW": parts.batch_spec.window} if accumulate > 1 else {}
    every = to_steps(parse(parts.settings["loop"]["eval_every"]), parts.pace)
    values |= {"EVAL_EVERY": every} if parts.monitor is not None else {}
    return {name: repr(value) for name, value in values.items()}
