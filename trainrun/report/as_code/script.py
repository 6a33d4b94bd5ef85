"""Put the sections of the script together, below the imports and the numbers that they need."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trainrun.assembly.build import Parts
from trainrun.report.as_code.data import data_section, order_section
from trainrun.report.as_code.loop import end_section, loop_section
from trainrun.report.as_code.model import average_section, machine_section, model_section
from trainrun.report.as_code.optimizer import optimizer_section
from trainrun.report.as_code.schedule import schedule_section
from trainrun.report.as_code.task import evaluate_section
from trainrun.report.as_code.text import Imports, Section

_STANDARD = {"import copy": r"\bcopy\.", "import itertools": r"\bitertools\.", "import math": r"\bmath\."}
_HEAD = '''"""{command}

The same run as plain PyTorch: the same data, first weights, order and updates,
so that `last.pt` and `best.pt` hold the weights that it would end with, to rounding.
Left out are checkpoints, resuming, logs and reports.
"""'''


def script(parts: Parts, command: str) -> str:
    """The composed run as the text of a program. Raises ConfigError for what that cannot say."""
    imports = Imports()
    order, loop = order_section(parts), loop_section(parts)
    ema = (parts.settings["regularization"] or {}).get("ema")
    sections = [
        machine_section(parts),
        data_section(parts, imports),
        order,
        model_section(parts, imports),
        *([average_section(ema["decay"])] if ema else []),
        optimizer_section(parts),
        schedule_section(parts),
        evaluate_section(parts),
        loop,
        end_section(parts),
    ]
    body = _joined(sections)
    standard = [line for line, used in _STANDARD.items() if re.search(used, body)]
    standard.append("from collections.abc import Iterator")
    torch = ["import torch", "from torch import Tensor, nn", "from torch.nn import functional as F"]
    numbers = [line for section in (loop, order, *sections) for line in section.constants]
    numbers = list(dict.fromkeys(numbers))
    top = [_HEAD.format(command=command), *standard, "", *torch, *imports.lines(), "", *numbers]
    top.insert(1, "")
    return "\n".join(top) + "\n\n" + body + "\n"


def _joined(sections: list[Section]) -> str:
    """The texts, with two blank lines around functions."""
    text = ""
    for section in sections:
        ends_in_function = bool(re.search(r"^(def|@).*(\n( .*)?)*\Z", text, re.M))
        begins_with_one = re.match(r"def |@", section.text)
        gap = "\n\n\n" if ends_in_function or begins_with_one else "\n\n"
        text += (gap if text else "") + section.text
    return text
