"""The report of `trainrun check`: plan, answers, and each finding with its fix, as lines for people."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from rich.text import Text

from trainrun.check.finding import CheckResult, CheckSection

Rows = Sequence[tuple[str, str]]  # (label, text); a text that begins with spaces is a line of a table


def report(
    plan: Rows, sections: Iterable[CheckSection], command: str | None, width: int | None
) -> list[Text]:
    """Return the plan, a paragraph for each question, then what was found and the command that fixes it.

    Lines are broken at `width` columns; None: not at all. The command never is: it is to be pasted.
    """
    lines, findings = _paragraph(Text("plan", "bold"), plan, width), list[CheckResult]()
    for section in sections:
        findings += section.findings
        if section.lines:
            lines += [Text(), *_paragraph(Text(section.title, "bold"), section.lines, width)]
    if not findings:
        return [*lines, Text(), Text("nothing found", "green")]
    for finding in findings:
        fix = [("fix", shlex.join(finding.fix)), ("", finding.advice)]
        rows = [("measured", finding.measured), ("expected", finding.expected)]
        rows += fix if finding.fix else [("fix", finding.advice)]
        title = Text(f"found: {finding.name}", "bold yellow")
        lines += [Text(), *_paragraph(title, [row for row in rows if row[1]], width)]
    if command:
        lines += map(Text, ["", "check again with these fixes:", "", f"  {command}"])
    return lines


def record(
    plan: Sequence[tuple[str, str]], sections: Sequence[CheckSection], line: str | None, code: int
) -> dict[str, Any]:
    """The answers for programs; numbers that are not finite are null."""
    return {
        "exit_code": code,
        "plan": [list(row) for row in plan],
        "sections": {
            section.title: {"lines": [list(row) for row in section.lines], "values": _finite(section.values)}
            for section in sections
        },
        "findings": [
            {
                "name": finding.name,
                "measured": finding.measured,
                "expected": finding.expected,
                "mend": finding.fix,
                "advice": finding.advice,
                "section": section.title,
            }
            for section in sections
            for finding in section.findings
        ],
        "command": line,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value


def _paragraph(title: Text, rows: Rows, width: int | None) -> list[Text]:
    indent = max(len(label) for label, _ in rows) + 4
    lines = [title]
    for label, text in rows:
        if text[:1] == " ":
            lines.append(Text(text))
            continue
        head = f"  {label}".ljust(indent)
        parts = [text]
        if width is not None:
            parts = textwrap.wrap(text, max(20, width - indent), break_on_hyphens=False)
        for part in parts:
            lines.append(Text.assemble((head, "dim"), part))
            head = " " * indent
    return lines
